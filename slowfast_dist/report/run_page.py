"""What the page about one run shows; the words and the order are in templates/run.html."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from typing import Any

from PIL import Image

from slowfast_dist.metrics.summary import Cells, class_scores, confused_pairs, matrix_cells
from slowfast_dist.report.charts import Axes
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
from slowfast_dist.report.format import ABSENT, calibration_facts, tested_facts
from slowfast_dist.report.notices import notices
from slowfast_dist.report.sections.explained import read_explained
from slowfast_dist.report.sections.folds import folds_of, learning_curve
from slowfast_dist.report.sections.judged import MANY_DOUBTS, Judged
from slowfast_dist.report.sections.listed import (
    MOST_ROWS,
    SUGGESTED,
    Suggestion,
    any_pictures,
    common_reason,
    with_room,
)
from slowfast_dist.report.sections.missing import missing
from slowfast_dist.report.sections.over_time import timelines
from slowfast_dist.report.thumbnails import Thumbnails, thumbnail_size
from slowfast_dist.runs.reading import number, sequence
from slowfast_dist.runs.run import Run, Split, command_words, versions
from slowfast_dist.runs.settings import default_settings, same_setting
from slowfast_dist.system.text import operand, shell

PAIRS = 12
"""Pairs of classes shown of those that are mixed up most: as many rows as a screen holds."""
MANY_VIDEOS = 300
"""Videos from which the ECE is worth its digits: 20 for each of its 15 bins."""
CALIBRATION_AXES = Axes(400, 236, 0.0, 1.0, 0.0, 1.0, left=54, bottom=10)
"""Of accuracy over confidence."""
NO_TIMES = (None, None)
"""Of a class without segments."""
ONE_LINE = 88
"""Characters up to which a command stands on one line of the page; of a longer one each flag has
its own."""


def run_context(
    run: Run, thumbnails: Mapping[str, Thumbnails], judged: Judged | None = None,
    suggested: Sequence[Suggestion] = (), shown: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """What run.html shows. ``thumbnails`` by the names of the hardest videos, and of the first
    ``shown`` of those in doubt and of those ``suggested``."""
    summary, split = run.summary, run.split
    cells, classes = _confusion(run)
    size, scores = len(classes), class_scores(cells, classes) if cells else []
    if summary is not None and summary.scored is not None:
        scores = with_thresholds(summary.scored, run)
    pairs = sorted(confused_pairs(cells, classes), key=lambda pair: (-pair.count, -pair.share))
    class_charts, class_charts_text = class_curves(run)
    names = run.classes or sorted({*split.train, *split.val})
    defaults = default_settings()
    config = f"{run.folder}/config.yaml"
    folds, timed = folds_of(run.folder, run.settings), timelines(run)
    # Where no still of a video is wanted, a strip of frames is none either.
    explained, explained_total = read_explained(run.folder) if shown else ([], 0)
    has_maps = bool(explained_total) or not shown
    return {
        "run": run,
        "title": f"{run.name}: training report",
        "videos": video_counts(run),
        "found": notices(run, scores),
        "best_epoch": run.best_epoch,
        "curves": curves(run),
        "steps": step_curves(run),
        "small": small_multiples(run),
        **epoch_table(run),
        "class_charts": class_charts,
        "class_charts_text": class_charts_text,
        "classes": classes,
        "scores": scores,
        "pairs": pairs[:PAIRS],
        "grid": grid(cells, size) if cells and size <= MOST_IN_GRID else [],
        "heat": heat_map(cells, size) if cells and size > MOST_IN_GRID else "",
        "summary": summary,
        "calibration": [one for one in summary.bins if one.count] if summary else [],
        "with_temperature": [one for one in judged.calibrated if one.count] if judged else [],
        "calibration_axes": CALIBRATION_AXES,
        "many_videos": MANY_VIDEOS,
        "calibrated": calibration_facts(run.best),
        "tested": tested_facts(run.best),
        "folds": folds,
        "fold_curve": None if folds is None else learning_curve(folds),
        "timelines": timed,
        **doubts_context(judged, thumbnails, shown, summary.videos if summary else 0),
        **_suggested_context(suggested, thumbnails, shown),
        "review": f"python -m slowfast_dist review {operand(run.folder)}",
        "suggested_list": operand(run.folder / SUGGESTED),
        "missing": missing(
            run, folds is not None, timed is not None, bool(suggested), has_maps
        ),
        "thumbnails": thumbnails,
        "unread": Thumbnails((), "they were not read"),
        "explained": explained, "explained_total": explained_total,
        "split_rows": _split_rows(split, names),
        "has_times": bool(split.train_times or split.val_times),
        "of": lambda flag: run.settings.get(flag, "?"),
        "changed": [
            (flag, value, defaults.get(flag, ABSENT))
            for flag, value in run.settings.items()
            if flag != "output-dir" and not same_setting(value, defaults.get(flag))
        ],
        "known_facts": [name for name, one in run.environment.items() if one is not None],
        "versions": versions(run.environment),
        "command": _command_lines(command_words(run.environment)),
        "from_config": shell(["python", "-m", "slowfast_dist", "train", "--config", config])
        + " --output-dir NEW",
    }  # fmt: skip


def doubts_context(
    judged: Judged | None, thumbnails: Mapping[str, Thumbnails], shown: int, videos: int
) -> dict[str, Any]:
    """Labels in doubt, of so many ``videos``: the first ``shown`` with frames, those behind them as
    rows."""
    doubted = judged.doubted if judged else 0
    doubts = judged.doubts if judged else []
    frames = with_room((one.path for one in doubts[:shown]), thumbnails)
    cards = [one for one in doubts[:shown] if one.path in thumbnails]
    return {
        "doubts": doubts, "doubted": doubted, "doubt_frames": frames,
        "doubts_too_much": doubted > MANY_DOUBTS * videos,
        "doubt_cards": cards, "doubt_rows": [one for one in doubts if one not in cards],
    }  # fmt: skip


def _suggested_context(
    suggested: Sequence[Suggestion], thumbnails: Mapping[str, Thumbnails], shown: int
) -> dict[str, Any]:
    """What to label next, likewise; all as rows where none has a frame."""
    frames = with_room((one.name for one in suggested[:shown]), thumbnails)
    cards = suggested[:shown] if any_pictures(frames.values()) else []
    return {
        "suggested": suggested[:MOST_ROWS], "suggested_total": len(suggested),
        "suggested_frames": frames, "suggested_cards": cards,
        "suggested_rows": suggested[len(cards) : MOST_ROWS],
        "suggested_reason": common_reason([*frames.values()]),
    }  # fmt: skip


def _split_rows(split: Split, names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Of each class the videos of both sides, and, where these are segments, all their seconds and
    the median of each side."""
    if not split.train and not split.val:
        return []
    times = (split.train_times, split.val_times)
    shown = times if any(times) else ()
    return [
        (name, split.train.get(name, 0), split.val.get(name, 0),
         *(value for side in shown for value in side.get(name, NO_TIMES)))
        for name in names
    ]  # fmt: skip


def with_thresholds(scores: list[dict[str, Any]], run: Run) -> list[dict[str, Any]]:
    """The scores of the classes of several labels a video, each with its threshold in the best
    model, None where that is not known."""
    classes, values = (sequence(run.best.get(name)) for name in ("classes", "thresholds"))
    known = zip(classes, values, strict=False)
    thresholds = {str(name): number(value) for name, value in known}
    return [row | {"threshold": thresholds.get(row["class"])} for row in scores]


def video_counts(run: Run) -> tuple[int | None, int | None]:
    """Training and validation videos: of the split, else as counted in an epoch."""
    if run.split.train or run.split.val:
        return sum(run.split.train.values()), sum(run.split.val.values())
    names = ("once", "more", "never")
    counts = [run.history.value(f"train/samples_{name}") for name in names]
    train = None if None in counts else round(sum(value or 0 for value in counts))
    val = run.history.value("val/videos")
    failed = run.history.value("val/unreadable") or 0
    return train, None if val is None else round(val + failed)


def _confusion(run: Run) -> tuple[Cells, list[str]]:
    """Cells and class names of the best model, else of the last validation; else no cells."""
    if run.summary is not None:
        return run.summary.cells, run.summary.classes
    return matrix_cells(run.history.confusion, len(run.classes)) or [], run.classes


def picture_size(picture: bytes) -> tuple[int, int]:
    """Pixels of a JPEG; the usual ones where it is damaged."""
    with suppress(OSError):
        return Image.open(BytesIO(picture)).size
    return thumbnail_size(16, 9)


def _command_lines(words: list[str]) -> list[str]:
    """The words as they are typed; of a long line each flag on one of its own."""
    line = shell(words)
    if len(line) <= ONE_LINE:
        return [line] if line else []
    lines = [[words[0]]]
    for word in words[1:]:
        if word.startswith("--"):
            lines.append([])
        lines[-1].append(word)
    return [shell(one) for one in lines]
