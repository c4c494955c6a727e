"""What an evaluation of whole files leaves: metrics.json, segments.csv, the page, a table."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slowfast_dist.commands.evaluate.on_wandb import log_over_time
from slowfast_dist.commands.evaluate.opening import Opened
from slowfast_dist.commands.evaluate.output import PAGE, as_json, write_metrics
from slowfast_dist.config.commands.evaluate import EvaluateCommand
from slowfast_dist.config.errors import RunError
from slowfast_dist.metrics.detection import EVENT_IOU, Events
from slowfast_dist.metrics.over_time import SCORES, OverTime, summarise_over_time
from slowfast_dist.report.command import render, write_page
from slowfast_dist.report.format import interval
from slowfast_dist.report.over_time_page import WORDS, over_time_context
from slowfast_dist.report.sections.over_time import COLUMNS
from slowfast_dist.report.timelines import Stretches, TimedFile
from slowfast_dist.runs.folder import write_unreadable
from slowfast_dist.runs.videos import trained_on
from slowfast_dist.system.files import atomic_write, reason_of
from slowfast_dist.system.text import for_spreadsheets


def write_over_time(
    output: Path, opened: Opened, timed: Sequence[TimedFile],
    unreadable: Sequence[tuple[str, str, str]], command: EvaluateCommand, facts: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Write the results, metrics.json last, and print them; returns metrics.json's content."""
    best, videos = opened.best, opened.found.videos
    background = None if best.background is None else best.classes.index(best.background)
    listed = output / "unreadable_videos.csv"
    try:
        if unreadable:
            write_unreadable(listed, list(unreadable), command.csv_safe)
        else:
            listed.unlink(missing_ok=True)  # of an evaluation before this one
        if not timed:
            raise RunError(f"none of the files can be read: see {listed}")
        scores, recordings = _summarise(timed, opened, background, command.resamples)
        labelled = float(scores.seconds[:-1].sum())
        content: dict[str, Any] = as_json({
            **scores.values, "files": len(timed), "recordings": recordings,
            "unreadable": len(unreadable), "seconds": float(scores.seconds.sum()),
            "labelled_seconds": labelled, "unlabelled_seconds": float(scores.seconds[-1].sum()),
            "background": best.background, **facts, "intervals": scores.intervals,
            "per_class": scores.per_class, "confusion_labels": [*best.classes, None],
            "confusion_frames": scores.confusion.astype(np.int64).tolist(),
            "confusion_seconds": scores.seconds.round(3).tolist(),
        })  # fmt: skip
        _write_segments(output / "segments.csv", timed, best.classes, command.csv_safe)
        notes = _notes(content, opened)
        title = f"{opened.name}: scores over time"
        page = render("over_time.html", over_time_context(
            title, timed, scores, content, best.classes, background, videos, notes
        ))  # fmt: skip
        write_page(output / PAGE, page)
        write_metrics(output, content)
    except OSError as error:
        raise RunError(f"cannot write the evaluation to {output}: {reason_of(error)}") from error
    _print_table(opened.name, scores)
    for note in notes:
        print(f"  {note}")
    also = f"; {len(unreadable)} could not be read: unreadable_videos.csv" if unreadable else ""
    files = f"{len(timed)} file{'s' * (len(timed) > 1)}"
    print(f"{files}, {content['seconds']:.0f} s, scored by the model of epoch {best.epoch}{also}")
    print(f"metrics.json, segments.csv and {PAGE} are in {output}", flush=True)
    log_over_time(opened, timed, scores, background, command.wandb_mode)  # last: it may upload
    return content


def _summarise(
    timed: Sequence[TimedFile], opened: Opened, background: int | None, resamples: int
) -> tuple[OverTime, int]:
    """The scores, and how many recordings they are of."""
    names = {name: place for place, name in enumerate(dict.fromkeys(t.recording for t in timed))}
    recordings = np.array([names[one.recording] for one in timed], np.int64)
    truth, found = (
        _events([getattr(one, side) for one in timed], background) for side in ("truth", "found")
    )
    files = [one.scores for one in timed]
    return (
        summarise_over_time(files, recordings, truth, found, opened.best.classes, resamples),
        len(names),
    )


def _events(sides: Sequence[Stretches], background: int | None) -> Events:
    """All but the background; a predicted segment's score is its probability."""
    counts = [len(one.labels) for one in sides]
    labels = np.concatenate([one.labels for one in sides])
    scores = np.concatenate([
        one.probabilities if len(one.probabilities) else np.zeros(len(one.labels)) for one in sides
    ])  # fmt: skip
    events = Events(
        np.repeat(np.arange(len(sides)), counts), labels,
        np.concatenate([one.bounds for one in sides]).reshape(-1, 2), scores,
    )  # fmt: skip
    return events if background is None else events.select(labels != background)


def _write_segments(
    path: Path, timed: Sequence[TimedFile], classes: Sequence[str], safe: bool
) -> None:
    """Paths that are not valid UTF-8 come as surrogates and go back to the bytes that they were."""
    text = for_spreadsheets if safe else str
    with atomic_write(path, "w", "surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for one in timed:
            for kind, side in (("truth", one.truth), ("prediction", one.found)):
                order = np.argsort(side.bounds[:, 0], kind="stable").tolist()
                for row in order:
                    start, end = (f"{value:.3f}" for value in side.bounds[row].tolist())
                    sure = f"{side.probabilities[row]:.4f}" if len(side.probabilities) else ""
                    label = classes[int(side.labels[row])]
                    writer.writerow([text(one.file), kind, text(label), start, end, sure])


def _notes(content: Mapping[str, Any], opened: Opened) -> list[str]:
    """What a reader of the scores should know, a line each."""
    notes, unlabelled = [], content["unlabelled_seconds"]
    share = f"{unlabelled:.1f} of {content['seconds']:.1f} s"
    if content["background"] is None and unlabelled:
        notes.append(
            f"the run has no class for what lies between segments (--data.background): {share} "
            "have no label and count in no score of frames, but what is found there counts as "
            "found events"
        )
    elif unlabelled:
        notes.append(
            f"{share} are not annotated, as rows say where the background is in their files: they "
            "count in no score of frames"
        )
    if content["recordings"] < 2:
        notes.append("there is one recording alone, so no interval says how far the scores go")
    if seen := trained_on(opened.best.folder, opened.found.videos):
        notes.append(
            f"warning: {seen} of the {opened.found.videos.counted()} are training videos of this "
            "run: the numbers are too good"
        )
    return notes


def _print_table(name: str, scores: OverTime) -> None:
    print(f"{'over time':<26}{'score':>8}   95 %")
    print(f"  {name}")
    for key in SCORES:
        value = scores.values[key]
        shown = "-" if value != value else f"{value:.4f}"
        line = f"    {WORDS[key]:<22}{shown:>8}   {interval(scores.intervals.get(key), False)}"
        print(line.rstrip())
    values = scores.values
    counts = (f"{values[f'{kind}_events']} {kind}" for kind in ("true", "found", "matched"))
    print(f"  events: {', '.join(counts)} (same class, temporal IoU {EVENT_IOU:g})")
    if values["matched_events"]:
        parts = [
            f"{end} off by {values[f'{end}_error_median']:.2f} s in the median "
            f"({values[f'{end}_error_mean']:.2f} on average)"
            for end in ("onset", "offset")
        ]
        print(f"  {', '.join(parts)}", flush=True)
