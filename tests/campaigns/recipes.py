"""Recipes side by side, by cross-validation: what each part of a training is worth, in one table.

``python -m tests.campaigns.recipes DATA --only today flip-off --folds 5 --seeds 1`` cross-validates
each recipe on DATA, one training after the other, and prints and writes OUT/recipes.md and .json:
macro-F1 and accuracy out of fold with intervals over recordings, calibration error, CPU minutes a
fold. ``python -m tests.campaigns.recipes demo --seeds 3`` trains the demo with parts of its videos:
accuracy against the number of clips. ``--shuffled 5`` cross-validates each recipe on DATA with its
labels shuffled within each recording, 5 draws, where nothing can be learned: what is then scored
must be chance. What follows ``--`` goes to every training. Started again it
goes on where it stopped; a recipe whose flags changed needs another name, or another OUT.
"""

import argparse
import json
import random
import re
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from slowfast_dist.runs.reading import mapping, read_json

TODAY = (
    "--data.group-pattern", r"seq\d+", "--model.name", "slowfast_tiny", "--model.pretrained",
    "false", "--model.dropout", "0", "--data.sampling", "uniform", "--data.num-frames", "24",
    "--data.short-side", "56", "72", "--data.crop-size", "56", "--optimizer.lr", "3e-3",
    "--optimizer.backbone-lr-scale", "1", "--schedule.warmup-epochs", "2", "--epochs", "32",
    "--global-batch-size", "8", "--micro-batch-size", "8", "--evaluation.spatial-crops", "3",
    "--data.decoder", "pyav", "--mixed-precision", "no", "--seed", "0",
)  # fmt: skip
"""The recipe for UT-Interaction in docs/training.md, "What to expect", to which others add. The
rest is the preset finetune's: weight decay, clipping, and label smoothing of .1."""

CROP = ("--augment.crop-scale", "0.3", "1")

RECIPES: dict[str, tuple[str, ...]] = {
    "today": (),
    "longer": ("--epochs", "64"),
    "no smoothing": ("--loss.label-smoothing", "0"),
    "crop": CROP,
    "crop, longer": (*CROP, "--epochs", "64"),
    "rand-augment": ("--augment.rand-augment", "9"),
    "crop, rand-augment": (*CROP, "--augment.rand-augment", "9"),
    "erasing": ("--augment.erasing", "0.25"),
    "speed": ("--augment.speed", "0.8", "1.25"),
    "mixup": ("--augment.mixup", "0.2"),
    "cutmix": ("--augment.cutmix", "1"),
    "ema": ("--optimizer.ema", "0.99"),
    "average-last": ("--optimizer.average-last", "8"),
    "crop, rand-augment, ema, longer": (
        *CROP, "--augment.rand-augment", "9", "--optimizer.ema", "0.99", "--epochs", "64",
    ),
    "few-clips": ("--optimizer.ema", "0.99", "--epochs", "64"),
}  # fmt: skip
"""Name -> flags behind TODAY's, of which the later ones win."""

DEMO: dict[str, tuple[str, ...]] = {
    "today": (),
    "longer": ("--epochs", "20"),
    "few-clips": ("--optimizer.ema", "0.99", "--epochs", "20"),
}
"""The same for the demo, whose classes are directions: nothing here may mirror a clip. few-clips
has twice the 10 epochs of its preset, as it has twice today's on UT-Interaction."""

FRACTIONS = (0.0625, 0.125, 0.25, 0.5, 1.0)
"""Shares of the demo's 288 training clips; .25 is a fifth of all its 360 videos."""


def start(words: Sequence[str]) -> tuple[int, float]:
    """Run a training; its exit code, and CPU seconds of it and all its processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = subprocess.run([sys.executable, "-m", "slowfast_dist", *words], stdout=sys.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return code.returncode, spent


def once(folder: Path, name: str, words: Sequence[str], folders: Sequence[Path]) -> None:
    """Run a training unless it is done, and note its CPU time in ``folder``/cpu.json; ``folders``
    are of its runs. Exits where it fails, and where it was done with other flags."""
    path = folder / "cpu.json"
    known = mapping(read_json(path))
    if (entry := known.get(name)) is not None:
        if entry["words"] != list(words):
            sys.exit(f"{path}: {name} was trained with other flags: give another --output")
        return
    # What a killed start spent is not known.
    partial = any((one / "status").exists() for one in folders)
    code, spent = start(words)
    if code:
        sys.exit(f"{name} of {folder.name} ended with {code}; started again, this goes on with it")
    known[name] = {"seconds": spent, "partial": partial, "words": list(words)}
    path.write_text(json.dumps(known, indent=2) + "\n")


def cross_validate(
    data: Path, output: Path, name: str, flags: Sequence[str], folds: int, seeds: int
) -> dict[str, Any]:
    """A row of the table: the result of one recipe, trained if it is not there yet."""
    folder = output / name
    folder.mkdir(parents=True, exist_ok=True)
    words = [
        "cross-validate", "--data.root", str(data), *TODAY, *flags, "--folds", str(folds),
        "--seeds", str(seeds), "--output-dir", str(folder), "--resume", "auto", "--wandb.mode",
        "disabled",
    ]  # fmt: skip
    for fold in range(1, folds + 1):
        runs = [folder / f"fold_{fold}", *folder.glob(f"seed_*/fold_{fold}")]
        once(folder, f"fold {fold}", [*words, "--fold", str(fold)], runs)
    if not (folder / "cross_validation.json").exists():  # as where there are rows of split test
        once(folder, "the rest", words, [folder / "final"])
    found: Any = read_json(folder / "cross_validation.json")
    cpu: Any = read_json(folder / "cpu.json")
    spent = [cpu[f"fold {fold}"] for fold in range(1, folds + 1)]
    calibration = found.get("calibration") or {}
    f1 = [one["f1_macro"] for one in found["seeds"]]
    return {
        "recipe": name, "flags": list(flags), "videos": found["videos"], "groups": found["groups"],
        "f1_macro": mean(f1), "f1_spread": stdev(f1) if len(f1) > 1 else None,
        "f1_interval": found["intervals"]["f1_macro"],
        "accuracy": mean(one["accuracy"] for one in found["seeds"]),
        "accuracy_interval": found["intervals"]["accuracy"], "loss": found["metrics"]["loss"],
        "ece": found["ece"], "ece_calibrated": calibration.get("ece_calibrated"),
        "temperature": calibration.get("temperature"), "seeds": len(f1),
        "cpu_minutes_a_fold": mean(one["seconds"] for one in spent) / 60 / len(f1),
        "cpu_is_partial": any(one["partial"] for one in spent),
    }  # fmt: skip


def shuffled_list(data: Path, output: Path, draw: int) -> Path:
    """A list of the class folders' videos, whose labels change places within each recording."""
    paths = sorted(path.relative_to(data).as_posix() for path in data.glob("*/*.*"))
    recordings: dict[str, list[str]] = {}
    for path in paths:
        found = re.search(TODAY[TODAY.index("--data.group-pattern") + 1], path.partition("/")[2])
        recordings.setdefault(found[0] if found else path, []).append(path)
    rng, rows = random.Random(draw), ["path,label"]
    for own in recordings.values():
        labels = [path.partition("/")[0] for path in own]
        rng.shuffle(labels)
        rows += [f"{path},{label}" for path, label in zip(own, labels, strict=True)]
    table = output / f"shuffled_{draw}.csv"
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return table


def recipe_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """In Markdown."""
    lines = [
        "| recipe | macro-F1 out of fold (95 %) | accuracy (95 %) | calibration error, with "
        "temperature | CPU minutes a fold |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        f1 = f"{row['f1_macro']:.3f} ({_bounds(row['f1_interval'])})"
        if row["f1_spread"] is not None:
            f1 = f"{row['f1_macro']:.3f} ± {row['f1_spread']:.3f} over {row['seeds']} seeds "
            f1 += f"(first: {_bounds(row['f1_interval'])})"
        accuracy = f"{row['accuracy']:.3f} ({_bounds(row['accuracy_interval'])})"
        error = f"{row['ece']:.3f}"
        if row["ece_calibrated"] is not None:
            error += f", {row['ece_calibrated']:.3f}"
        minutes = "≥ " * row["cpu_is_partial"] + f"{row['cpu_minutes_a_fold']:.1f}"
        lines.append(f"| {row['recipe']} | {f1} | {accuracy} | {error} | {minutes} |")
    return "\n".join(lines) + "\n"


def _bounds(pair: Sequence[float]) -> str:
    return f"{pair[0]:.3f} to {pair[1]:.3f}"


def train_demo(
    output: Path, name: str, flags: Sequence[str], fraction: float, seeds: int
) -> dict[str, Any]:
    """A row of the demo's table: the last epoch's accuracy, over seeds, each with a split of its
    own."""
    folder = output / name
    folder.mkdir(parents=True, exist_ok=True)
    accuracies, clips = [], 0
    for seed in range(seeds):
        run = folder / f"share_{fraction:g}_seed_{seed}"
        words = [
            "train", "demo", "--data.root", str(output / "videos"), *flags,
            "--data.train-fraction", str(fraction), "--seed", str(seed), "--output-dir", str(run),
            "--resume", "auto", "--wandb.mode", "disabled",
        ]  # fmt: skip
        once(folder, run.name, words, [run])
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        last = [row for row in rows if row["kind"] == "epoch" and "val/accuracy" in row][-1]
        accuracies.append(last["val/accuracy"])
        clips = last["train/samples_once"] + last["train/samples_more"]
    cpu: Any = read_json(folder / "cpu.json")
    spent = [cpu[f"share_{fraction:g}_seed_{seed}"] for seed in range(seeds)]
    return {
        "recipe": name, "flags": list(flags), "share": fraction, "clips": clips,
        "accuracy": mean(accuracies), "accuracies": accuracies,
        "cpu_minutes": mean(one["seconds"] for one in spent) / 60,
        "cpu_is_partial": any(one["partial"] for one in spent),
    }  # fmt: skip


def demo_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """In Markdown."""
    lines = [
        "| recipe | training clips | accuracy (least to most of the seeds) | CPU minutes |",
        "|---|---|---|---|",
    ]
    for row in rows:
        low, high = min(row["accuracies"]), max(row["accuracies"])
        minutes = "≥ " * row["cpu_is_partial"] + f"{row['cpu_minutes']:.1f}"
        accuracy = f"{row['accuracy']:.3f} ({low:.3f} to {high:.3f})"
        lines.append(f"| {row['recipe']} | {row['clips']} | {accuracy} | {minutes} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    words = list(sys.argv[1:] if arguments is None else arguments)
    more = words[words.index("--") + 1 :] if "--" in words else []
    words = words[: words.index("--")] if "--" in words else words
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="a folder or list of videos; demo: the demo's, in parts")
    parser.add_argument("--only", nargs="+", help="these recipes alone, in this order")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--shuffled", type=int, help="draws of labels that mean nothing")
    parser.add_argument("--fractions", type=float, nargs="+", default=FRACTIONS, help="of demo")
    parser.add_argument("--output", type=Path, default=Path("runs/recipes"))
    options = parser.parse_args(words)
    demo = options.data == "demo"
    known = DEMO if demo else RECIPES
    names = options.only or list(known)
    if unknown := [name for name in names if name not in known]:
        parser.error(f"there is no recipe {', '.join(unknown)}; there are {', '.join(known)}")
    output: Path = options.output.absolute()
    data = Path(options.data).absolute()  # of a demo not used
    output.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for name in names:
        flags = [*known[name], *more]
        if demo:
            rows += [
                train_demo(output, name, flags, share, options.seeds)
                for share in options.fractions
            ]
        elif options.shuffled:
            for draw in range(options.shuffled):
                listed = shuffled_list(data, output, draw)
                row = f"{name}, shuffled {draw}"
                more_flags = [*flags, "--data.videos", str(data)]
                rows.append(cross_validate(listed, output, row, more_flags, options.folds, 1))
        else:
            rows.append(
                cross_validate(data, output, name, flags, options.folds, options.seeds)
            )
        table = demo_table(rows) if demo else recipe_table(rows)  # after each, as hours may pass
        (output / "recipes.md").write_text(table, encoding="utf-8")
        (output / "recipes.json").write_text(json.dumps(rows, indent=2) + "\n")
        print(table, flush=True)
    return rows


if __name__ == "__main__":
    main()
