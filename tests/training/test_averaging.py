"""Trainings with averaged weights, drawn classes and rates by stage: what they save, and that
resumes and processes agree."""

import csv
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from slowfast_dist.cli.parser import parse_training
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.data.videos.finding import find_videos
from slowfast_dist.runs.best_model import read_best
from slowfast_dist.runs.checkpoint import load_checkpoint, save_checkpoint
from slowfast_dist.runs.folder import RunFolder
from slowfast_dist.runs.run import read_run
from slowfast_dist.training.run import run_training
from slowfast_dist.training.weights.averaged import of_average
from tests.helpers.training_runs import TINY, predictions, rows, trained

MOTIONS = ("moves left", "moves right", "turns clockwise")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """9, 9 and 3 small videos."""
    root = tmp_path_factory.mktemp("videos") / "all"
    make_videos(root, 9, seed=0, size=32, frames=12, classes=MOTIONS)
    for clip in sorted((root / "turns clockwise").iterdir())[3:]:
        clip.unlink()
    return root


def arguments(videos: Path) -> tuple[str | Path, ...]:
    return (
        *TINY, "--data.root", videos, "--data.val-fraction", "0.34", "--epochs", "3",
        "--global-batch-size", "6", "--micro-batch-size", "2", "--model.norm", "local",
        "--optimizer.ema", "0.9", "--optimizer.layer-decay", "0.8", "--data.class-sampling",
        "sqrt", "--loss.logit-adjustment", "1", "--checkpoint.every-steps", "2",
        "--checkpoint.keep", "99", "--log-samples", "--data.flip", "true",
        "--evaluation.precise-norm", "8",
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("run") / "run", *arguments(videos))


def last(run: Path) -> Path:
    return max((run / "checkpoints").iterdir())


def test_the_average_is_validated_saved_and_told_of(run: Path) -> None:
    epoch = rows(run, "epoch")[-1]
    assert epoch["best"]  # of so few steps each is better than the one before
    checkpoint = load_checkpoint(last(run))
    saved = of_average(checkpoint.tensors, "ema")
    best = read_best(run).read_weights()
    assert set(saved) == {name for name, value in best.items() if "running" not in name
                          and "num_batches" not in name}  # fmt: skip
    for name, value in saved.items():
        assert torch.equal(best[name], value), name
        assert not torch.equal(checkpoint.model[name], value), name
    statistics = [name for name in best if "running_var" in name]
    assert any(not torch.equal(best[name], checkpoint.model[name]) for name in statistics)
    assert checkpoint.state["averages"] == {"ema": epoch["global_step"]}
    card = (run / "models" / "README.md").read_text()
    for line in ("| Weights averaged over steps, decay | 0\\.9 |", "| Class sampling | sqrt |",
                 "| Logit adjustment | 1\\.0 |",
                 "| Rate of a stage over that of the next one | 0\\.8 |"):  # fmt: skip
        assert line in card, card
    report = (run / "report.html").read_text()
    for flag in ("optimizer.ema", "optimizer.layer-decay", "data.class-sampling",
                 "loss.logit-adjustment"):  # fmt: skip
        assert flag in report, flag


def test_a_run_that_was_killed_ends_to_the_bit_as_an_undisturbed_one(
    run: Path, tmp_path: Path
) -> None:
    """From the middle of an epoch, without the models of later ones."""
    resumed = Path(shutil.copytree(run, tmp_path / "resumed"))
    for path in (resumed / "checkpoints").iterdir():
        if int(path.name[5:]) > 4:
            shutil.rmtree(path)
    RunFolder(resumed).set_status("running")
    trained(resumed, "--config", run / "config.yaml", "--resume", "auto")
    for one, other in ((last(run), last(resumed)), (run / "models", resumed / "models")):
        for name in ("model.safetensors", "training.safetensors"):
            if (one / name).exists():
                assert (one / name).read_bytes() == (other / name).read_bytes(), name
    mine, theirs = (read_best(one).read_weights() for one in (run, resumed))
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
    assert predictions(run) == predictions(resumed)
    assert (run / "logs/samples.csv").read_bytes() == (resumed / "logs/samples.csv").read_bytes()
    for first, second in zip(rows(run, "epoch"), rows(resumed, "epoch"), strict=True):
        same = [name for name in first if name.startswith(("train/", "val/", "grad_norm"))]
        assert [first[name] for name in same] == [second[name] for name in same]


@pytest.mark.slow
def test_two_processes_give_the_same_curve(run: Path, videos: Path, tmp_path: Path) -> None:
    several = trained(tmp_path / "several", *arguments(videos), processes=2)
    assert (run / "logs/samples.csv").read_bytes() == (several / "logs/samples.csv").read_bytes()
    # Sums in another order: where BatchNorm sees two clips, rounding grows up to thirtyfold a step.
    for kind, loss in (("step", "step/loss"), ("epoch", "val/loss")):
        for first, second in zip(rows(run, kind), rows(several, kind), strict=True):
            near = 1e-4 if first["epoch"] < 3 else 2e-3
            assert second[loss] == pytest.approx(first[loss], abs=near), first
    # And a checkpoint of two goes on with one.
    shutil.rmtree(last(several))
    RunFolder(several).set_status("running")
    trained(several, *arguments(videos), "--resume", "auto")
    averages = [of_average(load_checkpoint(last(one)).tensors, "ema") for one in (run, several)]
    for name, value in averages[0].items():
        torch.testing.assert_close(averages[1][name], value, rtol=1e-3, atol=1e-4)


def test_rare_classes_are_drawn_more_often_and_it_is_said(run: Path, videos: Path) -> None:
    with open(run / "logs" / "samples.csv", encoding="utf-8", newline="") as file:
        used = [(int(step), sample) for step, sample, _ in list(csv.reader(file))[1:]]
    counts = Counter(sample.partition("/")[0] for _, sample in used)
    # 6, 6 and 2 training clips: 14 an epoch, of which sqrt(2) / (2 sqrt(6) + sqrt(2)) are turns.
    assert len(used) == 3 * 14
    assert 3 * 3 <= counts["turns clockwise"] <= 3 * 4
    data = DataConfig(root=videos, val_fraction=0.34, class_sampling="sqrt")
    [said] = [remark.what for remark in find_videos(data, 0).remarks if remark.kind == "sampling"]
    assert said == (
        "class sampling sqrt: of the 14 clips of an epoch 3.1 are of 'turns clockwise' (2, each "
        "1.6 times) and 5.4 are of 'moves left' (6, each 0.9 times)"
    )


def test_an_older_checkpoint_without_an_average_loads(run: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(last(run))
    for name in ("ema", "layer_decay", "average_last"):
        del checkpoint.state["config"]["optimizer"][name]
    del checkpoint.state["averages"], checkpoint.state["config"]["data"]["class_sampling"]
    del checkpoint.state["config"]["loss"]["logit_adjustment"]
    kept = {name: value for name, value in checkpoint.tensors.items() if "average" not in name}
    older = tmp_path / "older"
    shutil.copytree(run, older)
    shutil.rmtree(older / "checkpoints")
    save_checkpoint(older / "checkpoints", replace(checkpoint, tensors=kept), 1)
    with pytest.raises(UserError, match="--optimizer.ema 0.9 .was 0.0."):
        run_again(run, older, tmp_path / "refused", "--optimizer.layer-decay", "1")


def run_again(run: Path, older: Path, output: Path, *flags: str) -> dict[str, Any]:
    config = parse_training([
        "--config", str(run / "config.yaml"), "--resume", str(older), "--output-dir", str(output),
        *flags,
    ])  # fmt: skip
    assert config is not None
    return run_training(config)


def test_an_average_that_is_not_finite_is_not_saved(run: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(last(run))
    name = next(name for name in checkpoint.tensors if name.startswith("average.ema."))
    checkpoint.tensors[name].view(-1)[0] = float("nan")
    with pytest.raises(RunError, match=f"{name}.* is not finite"):
        save_checkpoint(tmp_path, checkpoint, 1)


def test_the_average_of_the_last_epochs_is_one_more_candidate(
    videos: Path, tmp_path: Path
) -> None:
    """In a fold whatever comes last is the model."""
    output = trained(
        tmp_path / "run", *TINY, "--data.root", videos, "--epochs", "4", "--global-batch-size",
        "4", "--optimizer.average-last", "3", "--folds", "2", "--fold", "1", "--checkpoint.keep",
        "9",
    )  # fmt: skip
    folder = next(path.parent for path in output.rglob("checkpoints"))
    [average] = rows(folder, "average")
    assert (average["epoch"], average["averaged_epochs"], average["best"]) == (4, 3, True)
    ends = sorted((folder / "checkpoints").iterdir())[-3:]
    models = [load_file(end / "model.safetensors") for end in ends]
    best = read_best(folder)
    saved = best.read_weights()
    trained_names = of_average(load_checkpoint(ends[-1]).tensors, "last")
    for name in trained_names:
        mean = torch.stack([model[name] for model in models]).mean(dim=0)
        torch.testing.assert_close(saved[name], mean, rtol=1e-5, atol=1e-6)
    told = read_run(folder)
    assert told.best_row["val/loss"] == average["val/loss"] != rows(folder, "epoch")[-1]["val/loss"]
    assert json.loads((folder / "models/best_model.json").read_text())["averaged_epochs"] == 3
    assert "| Weights averaged over epochs | 3 |" in (folder / "models/README.md").read_text()


@pytest.mark.slow
def test_a_run_that_goes_on_averages_its_own_last_epochs(videos: Path, tmp_path: Path) -> None:
    """And what was killed before the average was validated does that."""
    words = (
        *TINY, "--data.root", videos, "--global-batch-size", "4", "--optimizer.average-last", "2",
        "--schedule.name", "constant", "--checkpoint.keep", "9", "--resume", "auto",
    )  # fmt: skip
    output = trained(tmp_path / "run", *words, "--epochs", "2")
    first = rows(output, "average")
    assert [row["averaged_epochs"] for row in first] == [2]
    killed = Path(shutil.copytree(output, tmp_path / "killed"))
    lines = (killed / "metrics.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if '"kind": "average"' not in line]
    (killed / "metrics.jsonl").write_text("".join(kept))
    RunFolder(killed).set_status("running")
    trained(killed, *words, "--epochs", "2")
    assert [row["val/loss"] for row in rows(killed, "average")] == [first[0]["val/loss"]]

    trained(output, *words, "--epochs", "4")
    ends = sorted((output / "checkpoints").iterdir())[-2:]
    models = [load_file(end / "model.safetensors") for end in ends]
    averages = of_average(load_checkpoint(ends[-1]).tensors, "last")
    for name, value in averages.items():
        mean = torch.stack([model[name] for model in models]).mean(dim=0)
        torch.testing.assert_close(value, mean, rtol=1e-5, atol=1e-6)
    told = [(row["epoch"], row["averaged_epochs"]) for row in rows(output, "average")]
    assert told == [(2, 2), (4, 2)]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--optimizer.ema", "0.9", "--optimizer.average-last", "2"), "leave one of the two out"),
        (("--optimizer.average-last", "1"), "give 2 or more"),
        (("--optimizer.average-last", "40"), "give at most --epochs 30"),
        (("--optimizer.ema", "1"), "give a number from 0 up to, not including, 1"),
        (("--optimizer.layer-decay", "0"), "give a number above 0, at most 1"),
        (("--data.class-sampling", "balanced", "--loss.class-weights", "balanced"), "leave one"),
        (("--data.class-sampling", "sqrt", "--loss.class-weights", "balanced"), "leave one"),
        (("--data.class-sampling", "balanced", "--loss.logit-adjustment", "1"), "nothing to"),
        (("--data.class-sampling", "sqrt", "--loss.name", "bce"), "--loss.class-weights"),
        (("--loss.logit-adjustment", "1", "--loss.class-weights", "balanced"), "leave one"),
        (("--loss.logit-adjustment", "1", "--loss.name", "bce"), "--loss.class-weights"),
        (
            ("--data.class-sampling", "balanced", "--data.background", "none of it",
             "--data.background-share", "0.3"), "--data.background-share",
        ),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(flags: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_training(["--data.root", "videos", *flags])
