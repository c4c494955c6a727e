"""What a person should look at: signs that a run could be better, or its numbers mean less."""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from statistics import fmean
from typing import Any, Literal, NamedTuple, get_args

from slowfast_dist.metrics.scores import MACRO_CLASSES, is_sound_loss
from slowfast_dist.metrics.summary import class_support
from slowfast_dist.report.format import count, head_parts, share
from slowfast_dist.runs.reading import mapping, number, whole
from slowfast_dist.runs.run import Run
from slowfast_dist.system.text import few, operand

Level = Literal["problem", "warning", "note"]

NAMED = 5
"""Classes, epochs or runs that a notice names; of the others it gives the number."""
WAITING_SHARE = 0.10
"""Share of an epoch's time spent waiting for data from which that is said: less is not felt."""
WAITING_EPOCHS = 5
"""Last epochs over which that share is averaged, as the first ones fill caches."""
FEW_VIDEOS = 5
"""Validation videos of a class below which its scores say little: one video is a fifth of them."""
WIDE_INTERVAL = 0.15
"""Width of the accuracy's 95 % interval from which that is said: 100 videos give about as much."""
ACCURACY_GAP = 0.15
"""Training accuracy above validation accuracy from which the model is said to overfit."""
STALE_SHARE = 0.25
"""Share of the epochs after the best one from which the run is said to be too long."""
STALE_EPOCHS = 4
"""Epochs after the best one below which that is not said: a curve wavers for so long."""
CALIBRATED_VIDEOS = 50
"""Videos below which nothing is said of calibration, whose error is then mostly chance."""
LARGE_ECE = 0.10
"""Expected calibration error from which probabilities are said to mislead."""


class Notice(NamedTuple):
    """``level`` says how much it matters, ``text`` what and what to do."""

    level: Level
    text: str


problem, warning, note = (partial(Notice, level) for level in get_args(Level))


def worst_first(found: Iterable[Notice]) -> list[Notice]:
    return sorted(found, key=lambda notice: get_args(Level).index(notice.level))


def notices(run: Run, scores: list[dict[str, Any]]) -> list[Notice]:
    """The worst first. ``scores``: those a class (`metrics.per_class`), empty where unknown."""
    classes = partial(_classes, scores=scores)
    parts = (_status, _missing, _course, _numbers, _macro, classes, _start, _data)
    return worst_first(chain.from_iterable(part(run) for part in parts))


def _status(run: Run) -> Iterator[Notice]:
    last = run.history.epochs[-1]["epoch"] if run.history.epochs else 0
    so_far = f"after {count(last, 'epoch')}" + (f" of {run.epochs:,}" if run.epochs else "")
    if run.status == "failed" and _diverged(run):
        yield problem(
            f"The training diverged {so_far}: the last val/loss is that of no model. Train anew "
            "with a smaller --optimizer.lr, or with --optimizer.clip-norm."
        )
    elif run.status == "failed":
        yield problem(
            f"The training failed {so_far}: what it printed says why. The same command with "
            "--resume auto goes on from the last checkpoint."
        )
    if run.status == "preempted":
        yield warning(
            f"The training was asked to stop {so_far}: the same command with --resume auto goes on."
        )
    if run.status == "running":
        yield note(
            f"The training goes on, {so_far}: each epoch writes this page anew. (Or it was "
            "killed: then its status stays at running, and --resume auto goes on.)"
        )
    if run.status is None:
        yield warning("The file status is missing: how the training ended is unknown.")


def _missing(run: Run) -> Iterator[Notice]:
    history = run.history
    if not history.epochs:
        yield note("No epoch is complete yet: scores come with the first one.")
    elif not any(history.points("val/loss") + history.points("val/accuracy")):
        every = run.settings.get("evaluation.every", "")
        when = f" (--evaluation.every {every})" if every not in ("", "1") else ""
        yield note(f"No validation has been done yet{when}.")
    elif run.summary is None and not _had_numbers(run):
        absurd = history.value("val/loss") is not None
        yield problem(
            f"No epoch had a finite {run.monitor}{' and a val/loss that is not absurd' * absurd}, "
            "so there is no best model: a smaller --optimizer.lr may help."
        )
    elif run.summary is None:
        yield warning(
            "predictions/val_best.csv is missing or damaged: calibration, intervals and the "
            "hardest videos cannot be shown."
        )
    if history.damaged:
        yield warning(f"{count(history.damaged, 'line')} of metrics.jsonl cannot be read.")
    files = ("config.yaml", "environment.json", "classes.json")
    for name, content in zip(files, (run.settings, run.environment, run.classes), strict=True):
        if not content:
            yield warning(f"{name} is missing or damaged.")


def _had_numbers(run: Run) -> bool:
    """Whether an epoch could be the best one."""
    return any(
        number(row.get(run.monitor)) is not None and _is_sound(number(row.get("val/loss", 0.0)))
        for row in run.history.epochs
    )


def _is_sound(loss: float | None) -> bool:
    return loss is not None and is_sound_loss(loss)


def _diverged(run: Run) -> bool:
    """Whether the last validation's loss is absurd or no number."""
    losses = run.history.points("val/loss")
    return bool(losses) and not _is_sound(losses[-1][1])


def _course(run: Run) -> Iterator[Notice]:
    """What the curves tell."""
    history, monitor, best = run.history, run.monitor, run.best_epoch
    scored = [epoch for epoch, value in history.points(monitor) if value is not None]
    averaged = whole(run.history.best.get("averaged_epochs")) if run.history.best else None
    if averaged is not None:
        yield note(
            f"The best model is the average of the weights of the last {averaged:,} epochs, "
            "validated once at the end (--optimizer.average-last): its scores are not those of a "
            "row of the table of epochs."
        )
    elif len(scored) > 1 and best == scored[-1] and run.status == "finished":
        yield warning(
            f"The best epoch is the last one: {monitor} was still getting better. More "
            "--epochs may help."
        )
    if best is not None and scored:
        since = scored[-1] - best
        if since >= max(STALE_EPOCHS, STALE_SHARE * scored[-1]):
            yield warning(
                f"{monitor} was best in epoch {best:,} and has not been better in the "
                f"{count(round(since), 'epoch')} since: the model overfits, or the training is "
                "longer than it needs to be. The saved model is that of the best epoch."
            )
    row = run.best_row
    train, val = number(row.get("train/accuracy")), number(row.get("val/accuracy"))
    if train is not None and val is not None and train - val > ACCURACY_GAP:
        yield warning(
            f"Accuracy is {share(train)} in training and {share(val)} in validation: more "
            "videos, more --model.dropout, --optimizer.weight-decay or --loss.label-smoothing, "
            "or fewer trained stages (--model.freeze) narrow such a gap."
        )
    for name in ("train/loss", "val/loss"):
        bad = [f"{epoch:,}" for epoch, value in history.points(name) if value is None]
        if bad:
            yield problem(f"{name} is not a number in epoch {few(bad, NAMED)}.")
        absurd = [
            f"{epoch:,}"
            for epoch, value in history.points(name)
            if value is not None and not is_sound_loss(value)
        ]
        if absurd:
            yield problem(
                f"{name} is absurd in epoch {few(absurd, NAMED)}: the training diverged there."
            )
    loss, guess = number(row.get("val/loss")), run.guess
    if loss is not None and run.status == "finished" and 0 < guess < loss:
        yield warning(
            f"The best epoch's val/loss, {loss:.2f}, is above that of guessing, {guess:.2f}: "
            "probabilities say less than none would."
        )
    if skipped := round(history.total("skipped_steps")):
        yield warning(
            f"{count(skipped, 'optimizer step')} had a gradient that is not finite and changed "
            "nothing: a smaller --optimizer.lr or --mixed-precision no helps."
        )
    last = history.points("data_wait_fraction")[-WAITING_EPOCHS:]
    waits = [value for _, value in last if value is not None]
    if waits and fmean(waits) > WAITING_SHARE:
        yield warning(
            f"{share(fmean(waits))} of the time of the last "
            f"{count(len(waits), 'epoch')} went into waiting for videos: more CPUs and "
            "--data.num-workers, or python -m slowfast_dist prepare."
        )


def _numbers(run: Run) -> Iterator[Notice]:
    """How far the scores can be trusted."""
    summary, bounds = run.summary, run.intervals.get("accuracy")
    if bounds and summary and bounds[1] - bounds[0] > WIDE_INTERVAL:
        yield warning(
            f"With {count(summary.videos, 'validation video')} the accuracy is known to within "
            f"{100 * bounds[0]:.0f} to {100 * bounds[1]:.0f} %: differences smaller than that "
            "may be chance."
        )
    ece = summary.ece if summary else None  # of several labels there is none
    if summary and summary.videos >= CALIBRATED_VIDEOS and ece is not None and ece > LARGE_ECE:
        which = "more" if summary.confidence > summary.accuracy else "less"
        yield warning(
            f"The model is {which} confident than right: {share(summary.confidence)} confidence "
            f"for {share(summary.accuracy)} accuracy on average. Probabilities are not to be taken "
            "at face value."
        )


def _macro(run: Run) -> Iterator[Notice]:
    """Rows of older versions, whose macro averages are over all classes, where that matters."""
    rows = [row for row in run.history.epochs if "val/f1_macro" in row]
    old = [row["epoch"] for row in rows if f"val/{MACRO_CLASSES}" not in row]
    if old and (run.macro_over or len(old) < len(rows)):
        yield note(
            f"Macro averages of {count(len(old), 'epoch')} (up to {old[-1]:,}), of an older "
            "version, are over all classes in curves and tables; newer ones are over those that "
            "occur in labels or predictions."
        )


def _classes(run: Run, scores: list[dict[str, Any]]) -> Iterator[Notice]:
    small = [str(row["class"]) for row in scores if row["support"] < FEW_VIDEOS]
    if small:
        yield warning(
            f"{len(small):,} of {count(len(scores), 'class', 'classes')} have fewer than "
            f"{FEW_VIDEOS} validation videos, so their scores say little: {few(small, NAMED)}."
        )
    lost = [str(row["class"]) for row in scores if row["support"] and not row["recall"]]
    if lost and len(lost) < len(scores):
        yield warning(
            f"Of {count(len(lost), 'class', 'classes')} not one video was recognised: "
            f"{few(lost, NAMED)}."
        )
    if weighted := whole(mapping(run.best.get("data")).get("weighted")):
        yield note(
            f"{count(weighted, 'training video')} counted more or less than the others in the "
            "loss (a column weight); all metrics count every video alike."
        )
    background = run.best.get("background")
    if isinstance(background, str):
        yield note(
            f"Class {background!r} is background: parts of the videos that lie in no segment. The "
            "split counts the gaps of training, of which as many clips as --data.background-share "
            "says are drawn in each epoch."
        )
    train = {name: number for name, number in run.split.train.items()
             if number and name != background}  # fmt: skip
    if len(train) > 1 and max(train.values()) >= 10 * min(train.values()):
        least = min(train, key=train.__getitem__)
        most = max(train, key=train.__getitem__)
        corrected = (
            run.settings.get("loss.class-weights", "none") != "none"
            or run.settings.get("data.class-sampling", "natural") != "natural"
            or run.settings.get("loss.logit-adjustment", "0.0") not in ("0", "0.0")
        )
        if not corrected:
            yield warning(
                f"{most} has {train[most]:,} training videos, {least} {train[least]:,}: "
                "--loss.class-weights balanced gives small classes the same weight, "
                "--data.class-sampling sqrt shows them more often."
            )


def _start(run: Run) -> Iterator[Notice]:
    """What became of the classes of the weights that the run began with."""
    if parts := head_parts(mapping(run.best.get("training"))):
        yield note(f"Of the head that the run began with, classes were: {', '.join(parts)}.")


def _data(run: Run) -> Iterator[Notice]:
    if run.unreadable:
        yield warning(
            f"{count(len(run.unreadable), 'video')} could not be read; they are listed below."
        )
    replaced = round(run.history.total("train/samples_replaced"))
    if replaced:
        yield note(
            f"{count(replaced, 'time')} another video took the place of one that failed to "
            "decode in training."
        )
    pattern = run.settings.get("data.group-pattern", "none")
    given = mapping(run.best.get("data")).get("split") == "given"
    if run.split.val and not run.split.grouped and pattern == "none" and not given:
        yield note(
            "Training and validation were parted at random. Where several clips come from one "
            "recording, validation is too good: python -m slowfast_dist check-data "
            f"{operand(run.data or 'DIR')} tells, and --data.group-pattern keeps them "
            "together."
        )
    if run.summary and run.summary.videos and run.summary.cells:
        support = class_support(run.summary.cells, len(run.summary.classes))
        chance = max(support) / run.summary.videos
        accuracy = run.summary.metrics.get("accuracy")
        if accuracy is not None and accuracy <= chance and sum(map(bool, support)) > 1:
            yield problem(
                f"The accuracy, {share(accuracy)}, is no better than always naming the most "
                f"frequent class, {share(chance)}: the model has learnt nothing yet."
            )
