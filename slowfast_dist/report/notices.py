"""What a person should look at: signs that a run could be better, or its numbers mean less."""

from dataclasses import dataclass
from typing import Any, Literal

from slowfast_dist.report.format import count, few, share
from slowfast_dist.runs.reading import number
from slowfast_dist.runs.run import Run
from slowfast_dist.system.text import operand

Level = Literal["problem", "look", "note"]

WAITING = 0.10
"""Share of the time spent waiting for data from which it is worth a word."""
LAST_EPOCHS = 5
"""Over which that share is averaged."""
FEW_VIDEOS = 5
"""Validation videos of a class below which its scores say little."""
WIDE = 0.15
"""Width of the accuracy's interval from which it is worth a word."""
GAP = 0.15
"""Of accuracy between training and validation."""
STALE, LEAST_STALE = 0.25, 4
"""Share of the epochs, and epochs at least, after the best one: overfitting, or too long a run."""
TRUSTED, OFF = 50, 0.10
"""Videos from which the calibration is judged, and its error from which it is worth a word."""


@dataclass(frozen=True)
class Notice:
    """``level`` says how much it matters, ``text`` what and what to do."""

    level: Level
    text: str


def notices(run: Run, scores: list[dict[str, Any]]) -> list[Notice]:
    """The worst first. ``scores``: those a class (`metrics.per_class`), empty where unknown."""
    found = [
        *_status(run),
        *_missing(run),
        *_course(run),
        *_numbers(run),
        *_classes(run, scores),
        *_data(run),
    ]
    order = ("problem", "look", "note")
    return sorted(found, key=lambda notice: order.index(notice.level))


def _status(run: Run) -> list[Notice]:
    last = run.history.epochs[-1]["epoch"] if run.history.epochs else 0
    so_far = f"after {count(last, 'epoch')}" + (f" of {run.epochs:,}" if run.epochs else "")
    if run.status == "failed":
        return [
            Notice(
                "problem",
                f"The training failed {so_far}: what it printed says why. The same command with "
                "--resume auto goes on from the last checkpoint.",
            )
        ]
    if run.status == "preempted":
        return [
            Notice(
                "look",
                f"The training was asked to stop {so_far}: the same command with --resume auto "
                "goes on.",
            )
        ]
    if run.status == "running":
        return [
            Notice(
                "note",
                f"The training goes on, {so_far}: each epoch writes this page anew. (Or it was "
                "killed: then its status stays at running, and --resume auto goes on.)",
            )
        ]
    if run.status is None:
        return [Notice("look", "The file status is missing: how the training ended is unknown.")]
    return []


def _missing(run: Run) -> list[Notice]:
    history, found = run.history, []
    if not history.epochs:
        found.append(Notice("note", "No epoch is complete yet: scores come with the first one."))
    elif not any(history.points("val/loss") + history.points("val/accuracy")):
        every = run.settings.get("evaluation.every", "")
        when = f" (--evaluation.every {every})" if every not in ("", "1") else ""
        found.append(Notice("note", f"No validation has been done yet{when}."))
    elif run.judged is None and not _had_numbers(run):
        found.append(
            Notice(
                "problem",
                f"No epoch had a finite {run.monitor}, so there is no best model: a smaller "
                "--optimizer.lr may help.",
            )
        )
    elif run.judged is None:
        found.append(
            Notice(
                "look",
                "predictions/val_best.csv is missing or damaged: calibration, intervals and the "
                "hardest videos cannot be shown.",
            )
        )
    if history.damaged:
        found.append(
            Notice("look", f"{count(history.damaged, 'line')} of metrics.jsonl cannot be read.")
        )
    for name, there in (
        ("config.yaml", run.settings),
        ("environment.json", run.environment),
        ("classes.json", run.classes),
    ):
        if not there:
            found.append(Notice("look", f"{name} is missing or damaged."))
    return found


def _had_numbers(run: Run) -> bool:
    """Whether an epoch could be the best one."""
    return any(
        number(row.get(run.monitor)) is not None and number(row.get("val/loss", 0.0)) is not None
        for row in run.history.epochs
    )


def _course(run: Run) -> list[Notice]:
    """What the curves tell."""
    history, found = run.history, []
    monitor = run.monitor
    scored = [epoch for epoch, value in history.points(monitor) if value is not None]
    best = run.best_epoch
    if len(scored) > 1 and best == scored[-1] and run.status == "finished":
        found.append(
            Notice(
                "look",
                f"The best epoch is the last one: {monitor} was still getting better. More "
                "--epochs may help.",
            )
        )
    if best is not None and scored:
        since = scored[-1] - best
        if since >= max(LEAST_STALE, STALE * scored[-1]):
            found.append(
                Notice(
                    "look",
                    f"{monitor} was best in epoch {best:,} and has not been better in the "
                    f"{count(round(since), 'epoch')} since: the model overfits, or the training is "
                    "longer than it needs to be. The saved model is that of the best epoch.",
                )
            )
    row = run.best_row
    train, val = number(row.get("train/accuracy")), number(row.get("val/accuracy"))
    if train is not None and val is not None and train - val > GAP:
        found.append(
            Notice(
                "look",
                f"Accuracy is {share(train)} in training and {share(val)} in validation: more "
                "videos, more --model.dropout, --optimizer.weight-decay or --loss.label-smoothing, "
                "or fewer trained stages (--model.freeze) narrow such a gap.",
            )
        )
    for name in ("train/loss", "val/loss"):
        bad = [f"{epoch:,}" for epoch, value in history.points(name) if value is None]
        if bad:
            found.append(Notice("problem", f"{name} is not a number in epoch {few(bad)}."))
    if skipped := round(history.total("skipped_steps")):
        found.append(
            Notice(
                "look",
                f"{count(skipped, 'optimizer step')} had a gradient that is not finite and changed "
                "nothing: a smaller --optimizer.lr or --mixed-precision no helps.",
            )
        )
    waits = [
        value
        for epoch, value in history.points("data_wait_fraction")[-LAST_EPOCHS:]
        if value is not None
    ]
    if waits and sum(waits) / len(waits) > WAITING:
        found.append(
            Notice(
                "look",
                f"{share(sum(waits) / len(waits))} of the time of the last "
                f"{count(len(waits), 'epoch')} went into waiting for videos: more CPUs and "
                "--data.num-workers, or python -m slowfast_dist prepare.",
            )
        )
    return found


def _numbers(run: Run) -> list[Notice]:
    """How far the scores can be trusted."""
    found = []
    judged, bounds = run.judged, run.intervals.get("accuracy")
    if bounds and judged and bounds[1] - bounds[0] > WIDE:
        found.append(
            Notice(
                "look",
                f"With {count(judged.videos, 'validation video')} the accuracy is known to within "
                f"{100 * bounds[0]:.0f} to {100 * bounds[1]:.0f} %: differences smaller than that "
                "may be chance.",
            )
        )
    if judged and judged.videos >= TRUSTED and judged.ece > OFF:
        confident = sum(one.count * one.confidence for one in judged.bins) / judged.videos
        right = 1 - judged.mistakes / judged.videos
        which = "more" if confident > right else "less"
        found.append(
            Notice(
                "look",
                f"The model is {which} confident than right: {share(confident)} confidence for "
                f"{share(right)} accuracy on average. Probabilities are not to be taken at face "
                "value.",
            )
        )
    return found


def _classes(run: Run, scores: list[dict[str, Any]]) -> list[Notice]:
    found = []
    small = [str(row["class"]) for row in scores if row["support"] < FEW_VIDEOS]
    if small:
        found.append(
            Notice(
                "look",
                f"{len(small):,} of {count(len(scores), 'class', 'classes')} have fewer than "
                f"{FEW_VIDEOS} validation videos, so their scores say little: {few(small)}.",
            )
        )
    lost = [str(row["class"]) for row in scores if row["support"] and not row["recall"]]
    if lost and len(lost) < len(scores):
        found.append(
            Notice(
                "look",
                f"Of {count(len(lost), 'class', 'classes')} not one video was recognised: "
                f"{few(lost)}.",
            )
        )
    train = {name: number for name, number in run.split.train.items() if number}
    if len(train) > 1 and max(train.values()) >= 10 * min(train.values()):
        least = min(train, key=train.__getitem__)
        most = max(train, key=train.__getitem__)
        if run.settings.get("loss.class-weights", "none") == "none":
            found.append(
                Notice(
                    "look",
                    f"{most} has {train[most]:,} training videos, {least} {train[least]:,}: "
                    "--loss.class-weights balanced gives small classes the same weight.",
                )
            )
    return found


def _data(run: Run) -> list[Notice]:
    found = []
    if run.unreadable:
        found.append(
            Notice(
                "look",
                f"{count(len(run.unreadable), 'video')} could not be read; they are listed below.",
            )
        )
    replaced = round(run.history.total("train/samples_replaced"))
    if replaced:
        found.append(
            Notice(
                "note",
                f"{count(replaced, 'time')} another video took the place of one that failed to "
                "decode in training.",
            )
        )
    pattern = run.settings.get("data.group-pattern", "none")
    if run.split.val and not run.split.grouped and pattern == "none":
        found.append(
            Notice(
                "note",
                "Training and validation were parted at random. Where several clips come from one "
                "recording, validation is too good: python -m slowfast_dist check-data "
                f"{operand(run.data or 'DIR')} tells, and --data.group-pattern keeps them "
                "together.",
            )
        )
    if run.judged and run.judged.videos:
        largest: dict[int, int] = {}
        for true, _, times in run.judged.cells:
            largest[true] = largest.get(true, 0) + times
        chance = max(largest.values()) / run.judged.videos
        accuracy = run.judged.metrics.get("accuracy")
        if accuracy is not None and accuracy <= chance and len(largest) > 1:
            found.append(
                Notice(
                    "problem",
                    f"The accuracy, {share(accuracy)}, is no better than always naming the most "
                    f"frequent class, {share(chance)}: the model has learnt nothing yet.",
                )
            )
    return found
