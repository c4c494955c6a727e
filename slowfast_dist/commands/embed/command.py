"""The command ``embed``: features of videos into a file, and how well they tell classes apart."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slowfast_dist.annotations.table import SUFFIXES
from slowfast_dist.commands.embed.output import (
    FeatureRow,
    check_features_file,
    files_of,
    open_output,
)
from slowfast_dist.config.checks import refuse_unused
from slowfast_dist.config.commands.embed import Embed
from slowfast_dist.config.data import check_box
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.distributed.environment import require_one_process
from slowfast_dist.inference.inputs import Inputs, find_files, unused_by_windows
from slowfast_dist.metrics.cells import SEPARATOR
from slowfast_dist.metrics.features.checks import FeatureCheck, check_features
from slowfast_dist.runs.best_model import read_best
from slowfast_dist.runs.videos import OTHER_SUFFIXES
from slowfast_dist.system.files import reason_of
from slowfast_dist.system.interrupts import ends_at_signals, ends_with_its_pipe, interrupted_at_once
from slowfast_dist.system.progress import note, over_files

if TYPE_CHECKING:
    from slowfast_dist.inference.predictor import Predictor

MOST_CHECKED = 5_000
"""Rows that are checked at most, drawn from all: 46 MB of slowfast_r50's features, of which both
checks take some seconds; more say hardly more of how well classes part."""

ROWS_AT_ONCE = 256
"""Rows that are held until they are written: 2 MB of slowfast_r50's features, and a part of a
.parquet of which the 2304 columns are worth their headers."""


def run_embed(run: Path, words: Sequence[str], command: Embed) -> dict[str, Any]:
    """Write the features of each INPUT by the best model of ``run``; returns what --json prints.

    Exits with code 1 where something could not be read. Raises UserError for mistakes of the
    user's and RunError for what ends it from outside.
    """
    require_one_process("embed")
    of_list = names_list(words)
    refuse_unused(command, _unused_flags(command, of_list))
    check_box(command.crop_box, "crop-box")
    read_best(run)  # which says what is wrong with RUN before anything else is asked for
    check_features_file(command.output, command.overwrite)
    live = "a live source has no features to keep"
    found = None if of_list else find_files(run, words, command.image_fps, live)
    with interrupted_at_once():  # torch comes only now: a mistake above does not wait for it
        from slowfast_dist.distributed.failures import faults_as_run_errors
        from slowfast_dist.inference.parts import open_for_parts

        predictor = open_for_parts(run, command)
    with faults_as_run_errors(), ends_with_its_pipe(), ends_at_signals():
        content = _embed(predictor, words, found, command)
    if content["unreadable"]:
        raise SystemExit(1)
    return content


def names_list(words: Sequence[str]) -> bool:
    """Whether the INPUTs are an annotation file, by its ending; a list is given alone. Raises
    UserError for one beside others."""
    endings = (*SUFFIXES, *OTHER_SUFFIXES)
    lists = [one for one in words if Path(one).suffix.lower() in endings and os.path.isfile(one)]
    if lists and len(words) > 1:
        raise UserError(f"INPUT {lists[0]}: is an annotation file: give it alone")
    return bool(lists)


def _unused_flags(command: Embed, of_list: bool) -> dict[str, str]:
    """By their names, with what is said of them."""
    unused = {} if of_list else {"videos": "is for an annotation file: leave it out"}
    if of_list:
        unused["windows"] = "is for videos, and a list has rows of its own: leave it out"
    return unused | unused_by_windows(command.windows)


def _embed(
    predictor: "Predictor", words: Sequence[str], found: Inputs | None, command: Embed
) -> dict[str, Any]:
    from slowfast_dist.commands.embed.rows import rows_of_inputs, rows_of_list
    from slowfast_dist.inference.parts import Unread

    if found is None:
        source = rows_of_list(predictor, Path(words[0]), command)
    else:
        if found.skipped:
            note(str(found.skipped))
        if found.repeated:
            note(f"{found.repeated} of the inputs are files that were given already")
        source = rows_of_inputs(predictor, found, words, command)
    width, best = predictor.head[0].shape[1], predictor.best
    facts = {
        "model": best.model["name"], "epoch": best.epoch, "weights_sha256": best.weights_sha256,
    }  # fmt: skip
    sample, unread, held, count = Sample(), 0, list[FeatureRow](), 0
    try:
        with (
            closing(source.found) as rows,
            open_output(command.output, width, facts, command.csv_safe) as write,
        ):
            for one in over_files(rows, source.total, "embedding"):
                if isinstance(one, Unread):
                    note(f"error: {one.name}: {one.reason}")
                    unread += 1
                    continue
                count += 1
                held.append(one)
                if command.score:
                    sample.add(one)
                if len(held) == ROWS_AT_ONCE:
                    write(held)
                    held.clear()
            if not count:
                raise RunError(f"none of {source.total} can be read: nothing is written")
            if held:
                write(held)
    except OSError as error:
        raise RunError(f"cannot write {command.output}: {reason_of(error)}") from error
    for line in source.notes():
        note(line)
    if unread:
        note(f"{unread} of {source.total} could not be read")
    checks = sample.checks() if command.score else []
    for check in checks:
        print(check.line())
    written = " and ".join(str(path) for path in files_of(command.output))
    print(f"{count} rows of {width} features are in {written}", flush=True)
    content: dict[str, Any] = {
        "output": str(command.output), "rows": count, "features": width, "unreadable": unread,
        "checks": {check.name: check.as_json() for check in checks},
    }  # fmt: skip
    if command.json:
        print(json.dumps(content), flush=True)
    return content


@dataclass
class Sample:
    """Rows drawn from all that have a label, each as likely (Vitter, Random sampling with a
    reservoir, 1985, algorithm R), of which the features are kept."""

    rows: list[FeatureRow] = field(default_factory=list)
    labelled: int = 0

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(0)

    def add(self, row: FeatureRow) -> None:
        if not row.label:
            return
        self.labelled += 1
        if len(self.rows) < MOST_CHECKED:
            self.rows.append(row)
        elif (place := int(self._rng.integers(self.labelled))) < MOST_CHECKED:
            self.rows[place] = row

    def checks(self) -> list[FeatureCheck]:
        """How well the features tell the labels apart; says why where that cannot be asked."""
        counts = Counter(row.label for row in self.rows)
        groups = {row.group for row in self.rows}
        if len(counts) < 2:
            return []
        if any(SEPARATOR in label for label in counts):
            note("not checked: rows have several labels")
            return []
        if len(groups) < 2:
            note(
                "not checked: all rows are of one recording, so nothing is left to learn from"
            )
            return []
        of = f"{len(self.rows)} of {self.labelled}" if len(self.rows) < self.labelled else "the"
        note(
            f"how well {of} rows of {len(counts)} classes are told apart, each from rows of other "
            f"groups ({len(groups)} groups):"
        )
        features = np.stack([row.features for row in self.rows])
        labels, names = zip(*((row.label, row.group) for row in self.rows), strict=True)
        return check_features(features, labels, names)
