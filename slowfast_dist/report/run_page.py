"""The page about one run: its facts in the order and the words in which they are shown."""

from collections.abc import Mapping, Sequence
from typing import Any

from slowfast_dist.metrics.summary import (
    Cells,
    ConfusedPair,
    HardVideo,
    Summary,
    class_scores,
    confused_pairs,
    matrix_cells,
)
from slowfast_dist.report.charts import reliability_chart
from slowfast_dist.report.curves import (
    MOST_IN_GRID,
    class_curves,
    curves,
    epoch_table,
    grid,
    heat_map,
    small_multiples,
    step_curves,
)
from slowfast_dist.report.format import count, duration, interval, score, share, short
from slowfast_dist.report.notices import notices
from slowfast_dist.report.run_facts import data_facts, how_facts, video_counts
from slowfast_dist.report.thumbnails import Thumbnails, thumbnail_size
from slowfast_dist.runs.reading import number
from slowfast_dist.runs.run import Run

PAIRS = 12
"""Pairs of classes shown of those that are mixed up most: as many rows as a screen holds."""
MANY_VIDEOS = 300
"""Videos from which the ECE is worth its digits: 20 for each of its 15 bins."""
LEAST_FOR_TOP5 = 10
"""Classes above which top-5 accuracy is worth a tile: of fewer, five guesses name half."""


def run_context(run: Run, thumbnails: Mapping[str, Thumbnails]) -> dict[str, Any]:
    """What run.html shows. ``thumbnails`` by the paths of the hardest videos."""
    summary = run.summary
    cells, classes, source = _confusion(run)
    scores = class_scores(cells, classes) if cells else []
    class_charts, class_charts_text = class_curves(run)
    context = {
        "title": f"{run.name}: training report",
        "name": run.name,
        "status": run.status or "unknown",
        "lead": _lead(run),
        "tiles": _tiles(run),
        "found": notices(run, scores),
        "best_epoch": run.best_epoch,
        "curves": curves(run),
        "steps": step_curves(run),
        "small": small_multiples(run),
        **epoch_table(run),
        "class_charts": class_charts,
        "class_charts_text": class_charts_text,
        "scores": scores,
        "scores_note": source,
        "pairs": _pairs(cells, classes),
        **_matrix(cells, classes),
        "calibration": reliability_chart(summary.bins) if summary else "",
        "calibration_text": _calibration_text(summary) if summary else "",
        "summary": summary is not None,
        "hardest_text": _hardest_text(summary) if summary else "",
        "hardest": _hardest(summary, thumbnails) if summary else [],
        "evaluations": run.evaluations,
        **data_facts(run),
        **how_facts(run),
    }
    context["sections"] = _sections(context)
    return context


def _sections(context: Mapping[str, Any]) -> list[tuple[str, str]]:
    has_curves = context["curves"] or context["steps"] or context["small"]
    every = (
        ("notices", "Worth a look", context["found"]), ("curves", "Curves", has_curves),
        ("classes", "Classes", context["scores"]), ("confusion", "Confusion", context["scores"]),
        ("calibration", "Calibration", context["calibration"]),
        ("hardest", "Hardest videos", context["summary"]),
        ("evaluations", "Evaluations", context["evaluations"]), ("data", "Data", True),
        ("how", "How", True), ("again", "Do it again", True),
    )  # fmt: skip
    return [(name, text) for name, text, there in every if there]


def _lead(run: Run) -> str:
    model = run.settings.get("model.name", "A model")
    data = (run.data or "").rstrip("/").rpartition("/")[2]
    parts = [f"{model} on {data}" if data else model]
    if run.classes:
        parts.append(count(len(run.classes), "class", "classes"))
    sides = video_counts(run)
    if None not in sides:
        parts.append(f"{sides[0]:,} training and {count(sides[1] or 0, 'validation video')}")
    done = run.history.epochs[-1]["epoch"] if run.history.epochs else 0
    of = f" of {run.epochs:,}" if run.epochs and run.epochs != done else ""
    parts.append(f"{done:,}{of} epochs" if of or done != 1 else "1 epoch")
    if seconds := run.history.total("epoch_seconds"):
        parts.append(f"{duration(seconds)} of training")
    return " · ".join(parts)


def _tiles(run: Run) -> list[dict[str, str]]:
    row, intervals, summary = run.best_row, run.intervals, run.summary
    tiles = []

    def tile(label: str, value: str, *details: str) -> None:
        tiles.append({"label": label, "value": value, "detail": ", ".join(filter(None, details))})

    def bounds(name: str, in_percent: bool = True) -> str:
        text = interval(intervals.get(name), in_percent)
        return f"95 %: {text}" if text else ""

    if row.get("val/accuracy") is not None:
        tile("Accuracy", share(number(row.get("val/accuracy"))), bounds("accuracy"))
        tile("Macro F1", score(number(row.get("val/f1_macro"))), bounds("f1_macro", False))
        top5 = number(row.get("val/top5_accuracy"))
        if top5 is not None and len(run.classes) > LEAST_FOR_TOP5:
            tile("Top-5 accuracy", share(top5), f"of {len(run.classes)} classes")
        trained = number(row.get("train/loss"))
        tile(
            "Validation loss", short(number(row.get("val/loss"))),
            f"training {short(trained)}" if trained is not None else "",
        )  # fmt: skip
        if summary:
            tile("Calibration error", score(summary.ece), "ECE; 0 is perfect")
    elif run.history.epochs:
        last = run.history.epochs[-1]
        tile("Training accuracy", share(number(last.get("train/accuracy"))), "last epoch")
        tile("Training loss", short(number(last.get("train/loss"))), "last epoch")
    if run.best_epoch is not None:
        done = run.history.epochs[-1]["epoch"] if run.history.epochs else run.best_epoch
        monitor = run.settings.get("checkpoint.monitor", "")
        by = f"by {monitor}" if monitor else ""
        tile("Best epoch", f"{run.best_epoch:,}", f"of {done:,}", by)
    return tiles


def _pairs(cells: Cells, classes: Sequence[str]) -> list[ConfusedPair]:
    """The classes that are mixed up most, of equally many videos the larger shares first."""
    pairs = confused_pairs(cells, classes)
    return sorted(pairs, key=lambda pair: (-pair.count, -pair.share))[:PAIRS]


def _confusion(run: Run) -> tuple[Cells, list[str], str]:
    """Cells, class names and where they come from; no cells where nothing was validated."""
    summary, history = run.summary, run.history
    if summary is not None:
        epoch = "" if run.best_epoch is None else f" of epoch {run.best_epoch:,}"
        videos = count(summary.videos, "validation video")
        return summary.cells, summary.classes, f"The best model{epoch} on {videos}."
    cells = matrix_cells(history.confusion, len(run.classes))
    if cells is None:
        return [], run.classes, ""
    epoch = "" if history.confusion_epoch is None else f" in epoch {history.confusion_epoch:,}"
    return cells, run.classes, f"The validation{epoch}."


def _matrix(cells: Cells, classes: list[str]) -> dict[str, Any]:
    small = len(classes) <= MOST_IN_GRID
    return {
        "grid_names": classes if small else [],
        "grid": grid(cells, len(classes)) if cells and small else [],
        "heat": heat_map(cells, len(classes)) if cells and not small else "",
    }


def _calibration_text(summary: Summary) -> str:
    excess = summary.confidence - summary.accuracy
    which = "more" if excess > 0 else "less"
    text = (
        f"Expected calibration error (ECE): {score(summary.ece)}. On average the model gives its "
        f"answer {share(summary.confidence)} and is right in {share(summary.accuracy)}: it is "
        f"{which} confident than right by {100 * abs(excess):.1f} points."
    )
    if summary.videos < MANY_VIDEOS:
        videos, bins = count(summary.videos, "video"), len(summary.bins)
        text += f" With {videos} in {bins} bins much of the ECE is chance, which can only raise it."
    return text


def _hardest_text(summary: Summary) -> str:
    if not summary.mistakes:
        return f"None: all {count(summary.videos, 'validation video')} are right."
    of = f"{summary.mistakes:,} of {count(summary.videos, 'validation video')} are wrong"
    if not summary.hardest:
        return f"{of}. (--hardest 0: none is shown.)"
    first = "they are shown" if len(summary.hardest) == summary.mistakes else (
        f"the {len(summary.hardest):,} worst are shown"
    )  # fmt: skip
    return f"{of}; {first}, the least probability of the true class first."


def _hardest(
    summary: Summary, thumbnails: Mapping[str, Thumbnails]
) -> list[tuple[HardVideo, Thumbnails, tuple[int, int]]]:
    """Each of the hardest videos, its pictures, and their size in pixels."""
    unread = Thumbnails((), "they were not read")
    found = [(one, thumbnails.get(one.path, unread)) for one in summary.hardest]
    return [(one, drawn, _picture_size(drawn)) for one, drawn in found]


def _picture_size(thumbnails: Thumbnails) -> tuple[int, int]:
    """Pixels, from the JPEG's frame header (ITU-T T.81, B.2.2): FF C0 or C2, 3 bytes, sizes."""
    for picture in thumbnails.pictures[:1]:
        for sign in (b"\xff\xc0", b"\xff\xc2"):
            at = picture.find(sign)
            if 0 < at < len(picture) - 9:
                height = int.from_bytes(picture[at + 5 : at + 7])
                return int.from_bytes(picture[at + 7 : at + 9]), height
    return thumbnail_size(16, 9)
