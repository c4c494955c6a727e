"""What differs between runs, which of them is better, and whether comparing them is fair."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.metrics.summary import Predictions, summarise
from slowfast_dist.metrics.uncertainty import RESAMPLES
from slowfast_dist.report.cache import read_cache
from slowfast_dist.report.charts import Series, line_chart
from slowfast_dist.report.curves import Chart, Key
from slowfast_dist.report.format import ABSENT, count, last_part, percent, score, share, short
from slowfast_dist.report.notices import NAMED, Notice, note, problem, warning, worst_first
from slowfast_dist.runs.predictions import find_predictions
from slowfast_dist.runs.run import Run, read_run, read_split_names, versions
from slowfast_dist.runs.settings import same_setting
from slowfast_dist.system.text import few, shell

NO_CAUSE = {"output-dir", "resume", "resume-changed", "log-every", "log-samples"}
"""Settings that change no result, beside wandb's."""
VIEWS = ("evaluation.temporal-views", "evaluation.spatial-crops")
ALL_PAIRS = 6
"""Runs of which every two are compared, 15 pairs; of more, the best with each."""

CURVES = (
    ("Validation loss", "val/loss", short, short, None, None),
    ("Validation accuracy", "val/accuracy", share, percent, 0.0, 1.0),
    ("Validation macro F1", "val/f1_macro", score, short, 0.0, 1.0),
    ("Validation mean average precision", "val/map_macro", score, short, 0.0, 1.0),
    ("Training loss", "train/loss", short, short, None, None),
    ("Training accuracy", "train/accuracy", share, percent, 0.0, 1.0),
    ("Clips a second", "clips_per_second", short, short, 0.0, None),
)
"""Title, name in metrics.jsonl, how numbers and scale are written, the scale's ends."""

COLOURS = 6
"""Colours for curves in the style sheet (s0 to s5)."""
DASHES = 4
"""Dashes for curves there (d0 to d3): the 25th run looks like the first again."""


@dataclass(frozen=True)
class Compared:
    """A run, the shortest name that no other has, the class of its curves, and its predictions."""

    label: str
    css: str
    run: Run
    predictions: Predictions | None
    sides: dict[str, str]
    """train or val, by path: of a split that the training made."""


@dataclass(frozen=True)
class Paired:
    """Accuracy of ``first`` less that of ``second`` on the same ``videos``, with its interval.

    ``only_first`` videos are right in the first alone, ``only_second`` in the second alone.
    """

    first: str
    second: str
    videos: int
    difference: float
    interval: tuple[float, float]
    only_first: int
    only_second: int


def read_runs(folders: Sequence[Path]) -> list[Compared]:
    """Read all that is compared; what is missing or damaged is absent."""
    found = []
    for index, (label, folder) in enumerate(zip(labels(folders), folders, strict=True)):
        run = read_run(folder, read_cache(folder).history)
        predictions = find_predictions(run.predictions)
        summary = None if predictions is None else summarise(predictions)
        sides = read_split_names(folder / "split.csv")
        css = f"s{index % COLOURS} d{index // COLOURS % DASHES}"
        found.append(Compared(label, css, replace(run, summary=summary), predictions, sides))
    return found


def labels(folders: Sequence[Path]) -> list[str]:
    """The last parts of the paths, as many as tell them apart."""
    most = max(len(folder.parts) for folder in folders)
    for parts in range(1, most + 1):
        names = ["/".join(folder.parts[-parts:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def different_settings(runs: Sequence[Compared]) -> list[tuple[str, list[str]]]:
    """(flag, value in each run) where the runs do not agree."""
    flags = dict.fromkeys(flag for one in runs for flag in one.run.settings)
    return [
        (flag, [one.run.settings.get(flag, ABSENT) for one in runs])
        for flag in flags
        if flag not in NO_CAUSE and not flag.startswith("wandb.") and _differ(runs, flag)
    ]


def _differ(runs: Sequence[Compared], flag: str) -> bool:
    first = runs[0].run.settings.get(flag)
    return any(not same_setting(first, one.run.settings.get(flag)) for one in runs[1:])


def different_environments(runs: Sequence[Compared]) -> list[tuple[str, list[str]]]:
    """(what, value in each run) of devices, processes, commits and versions that differ."""
    names = ("device", "mixed_precision", "processes", "host", "git_commit", "python")
    columns = [
        {name: str(one.run.environment.get(name, ABSENT)) for name in names}
        | versions(one.run.environment)
        for one in runs
    ]
    found = []
    for name in dict.fromkeys(name for column in columns for name in column):
        values = [column.get(name, ABSENT) for column in columns]
        if len(set(values)) > 1:
            found.append((name.replace("_", " "), values))
    return found


def paired_accuracy(
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, tuple[float, float]]:
    """The difference of two accuracies on the same N > 0 videos, and its percentile interval.

    ``first`` and ``second`` (N,): whether each video is right. Videos are drawn with replacement,
    the same for both (the paired bootstrap: Efron and Tibshirani, 1993), so what is hard for both
    widens nothing. A draw of videos is a draw of how often each of the three differences comes up.
    """
    differences = first.astype(np.int64) - second.astype(np.int64)
    counts = np.array([(differences == value).sum() for value in (-1, 0, 1)])
    times = np.random.default_rng(seed).multinomial(
        len(differences), counts / len(differences), resamples
    )
    drawn = (times[:, 2] - times[:, 0]) / len(differences)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(differences.mean()), (float(low), float(high))


def pairs(runs: Sequence[Compared]) -> list[Paired]:
    """Every two runs that were validated on the same videos, each of the same class."""
    scored = [one for one in runs if one.predictions is not None]
    if len(scored) > ALL_PAIRS:
        best = max(scored, key=_accuracy)
        chosen = [(best, one) for one in scored if one is not best]
    else:
        chosen = list(combinations(scored, 2))
    found = [_pair(first, second) for first, second in chosen]
    return [one for one in found if one is not None]


def _accuracy(one: Compared) -> float:
    return one.run.summary.metrics["accuracy"] if one.run.summary else 0.0


def _right(predictions: Predictions) -> dict[tuple[str, str], bool]:
    """Whether each (path, class) is right."""
    cells = [predictions.cell(label) for label in predictions.labels]
    keys = zip(predictions.names, cells, strict=True)
    return dict(zip(keys, predictions.right.tolist(), strict=True))


def _pair(first: Compared, second: Compared) -> Paired | None:
    assert first.predictions is not None and second.predictions is not None
    one, other = _right(first.predictions), _right(second.predictions)
    if one.keys() != other.keys():
        return None
    if _accuracy(first) < _accuracy(second):
        first, second, one, other = second, first, other, one
    a = np.array(list(one.values()), np.bool_)
    b = np.array([other[key] for key in one], np.bool_)
    difference, interval = paired_accuracy(a, b)
    return Paired(
        first.label, second.label, len(a), difference, interval,
        int((a & ~b).sum()), int((b & ~a).sum()),
    )  # fmt: skip


def fairness(runs: Sequence[Compared]) -> list[Notice]:
    """Why comparing these runs may be unfair."""
    found = [*_different_runs(runs), *_different_videos(runs)]
    for first, second in combinations(runs, 2):
        found += [*_trained_on(first, second), *_trained_on(second, first)]
    if not _differ(runs, "seed") and not found:
        text = "All runs have the same seed. How much a score changes with the seed alone, only "
        found.append(note(f"{text}runs that differ in --seed tell."))
    return worst_first(found)


def _different_runs(runs: Sequence[Compared]) -> Iterator[Notice]:
    known = [one for one in runs if one.run.classes]
    if len({tuple(one.run.classes) for one in known}) > 1:
        sizes = ", ".join(f"{one.label} {len(one.run.classes)}" for one in known)
        yield problem(
            f"The runs have different classes ({sizes}): their scores answer different questions."
        )
    if _differ(runs, "loss.name"):
        yield problem(
            "Some runs give several labels a video (--loss.name bce), others one: their losses and "
            "accuracies are of different questions."
        )
    missing = [one.label for one in runs if one.predictions is None]
    if missing:
        yield warning(
            f"Without predictions of a validation: {few(missing, NAMED)}. They have no intervals "
            "and are not compared video by video."
        )
    if any(_differ(runs, flag) for flag in VIEWS):
        yield warning(
            "The validations look at different numbers of views or crops, which alone changes "
            "scores: evaluate each run with the same --temporal-views and --spatial-crops."
        )
    if _differ(runs, "checkpoint.monitor"):
        yield warning("The best epochs were chosen by different metrics.")
    going = [one.label for one in runs if one.run.status != "finished"]
    if going:
        yield warning(f"Not finished: {few(going, NAMED)}.")


def _different_videos(runs: Sequence[Compared]) -> Iterator[Notice]:
    names = [set(one.predictions.names) for one in runs if one.predictions is not None]
    if len(names) < 2:
        return
    common = set.intersection(*names)
    if any(own != common for own in names):
        yield problem(
            f"The runs were validated on different videos: {len(common):,} of up to "
            f"{max(map(len, names)):,} are the same. Give the runs the same --seed and "
            "--data.val-fraction, or --data.train-dir and --data.val-dir; or evaluate all of them "
            "on videos that none was trained on."
        )


def _trained_on(one: Compared, other: Compared) -> Iterator[Notice]:
    """Videos on which ``one`` was validated and ``other`` trained."""
    if one.predictions is None:
        return
    seen = sum(other.sides.get(name) == "train" for name in one.predictions.names)
    if seen:
        yield problem(
            f"{count(seen, 'validation video')} of {one.label} were among the training videos of "
            f"{other.label}."
        )


def comparison_context(folders: Sequence[Path]) -> dict[str, Any]:
    """What comparison.html shows."""
    runs = read_runs(folders)
    names = [one.label for one in runs]
    return {
        "title": f"{' and '.join(names[:2])}{' and others' if len(names) > 2 else ''} compared",
        "lead": _lead(runs),
        "found": fairness(runs),
        "names": names,
        "runs": runs,
        "pairs": pairs(runs),
        "curves": _curves(runs),
        "settings": different_settings(runs),
        "environments": different_environments(runs),
        "command": shell(["python", "-m", "slowfast_dist", "report", *map(str, folders)]),
    }


def _lead(runs: Sequence[Compared]) -> str:
    parts = [count(len(runs), "run")]
    for flag, title in (("model.name", ""), ("data.root", "on ")):
        values = list(dict.fromkeys(one.run.settings.get(flag, "none") for one in runs))
        if values != ["none"]:
            parts.append(title + ", ".join(dict.fromkeys(map(last_part, values))))
    return " · ".join(parts)


def _curves(runs: Sequence[Compared]) -> list[Chart]:
    found = []
    for title, name, form, tick, low, high in CURVES:
        series = [
            Series(one.label, one.css, one.run.history.points(name), one.run.best_epoch)
            for one in runs
        ]
        svg = line_chart(title, series, form=form, tick=tick, low=low, high=high)
        if svg:
            keys = [Key(one.name, one.css) for one in series if one.finite]
            found.append(Chart(title, keys, svg))
    return found
