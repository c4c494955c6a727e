"""``suggest``: from the videos nobody labelled to a list of those to label next."""

import json
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slowfast_dist.commands.suggest.on_wandb import log_suggested
from slowfast_dist.commands.suggest.output import Suggestion, write_list
from slowfast_dist.config.checks import refuse_unused
from slowfast_dist.config.commands.suggest import Suggest
from slowfast_dist.config.data import check_box
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.distributed.environment import require_one_process
from slowfast_dist.inference.inputs import Inputs, find_files, unused_by_windows
from slowfast_dist.report.sections.listed import SUGGESTED
from slowfast_dist.runs.best_model import read_best
from slowfast_dist.runs.run import is_run
from slowfast_dist.runs.settings import run_of
from slowfast_dist.system.files import check_output, reason_of
from slowfast_dist.system.interrupts import ends_at_signals, ends_with_its_pipe, interrupted_at_once
from slowfast_dist.system.progress import note, over_files
from slowfast_dist.system.text import clean, few, operand, option, unwritable
from slowfast_dist.tracking.wandb_late import require_logged

if TYPE_CHECKING:
    from slowfast_dist.commands.suggest.labelled import Labelled
    from slowfast_dist.commands.suggest.pool import Pool
    from slowfast_dist.inference.predictor import Predictor


def run_suggest(run: Path, words: Sequence[str], command: Suggest) -> dict[str, Any]:
    """Write the list of what to label next; returns what --json prints.

    Exits with code 1 where something could not be read. Raises UserError for mistakes of the
    user's and RunError for what ends it from outside.
    """
    require_one_process("suggest")
    refuse_unused(command, unused_by_windows(command.windows))
    check_box(command.crop_box, "crop-box")
    best = read_best(run)  # which says what is wrong with RUN before anything else is asked for
    check_output(command.output, (".csv",), command.overwrite)
    require_logged(run_of(best.folder), command.wandb_mode)
    live = "a live source cannot be labelled"
    inputs = find_files(run, words, command.image_fps, live)
    with interrupted_at_once():  # torch comes only now: a mistake above does not wait for it
        from slowfast_dist.distributed.failures import faults_as_run_errors
        from slowfast_dist.inference.parts import open_for_parts

        predictor = open_for_parts(run, command)
    with faults_as_run_errors(), ends_with_its_pipe(), ends_at_signals():
        content = _suggest(run, predictor, inputs, command)
    if content["unreadable"]:
        raise SystemExit(1)
    return content


def _suggest(run: Path, predictor: "Predictor", inputs: Inputs, command: Suggest) -> dict[str, Any]:
    from slowfast_dist.commands.suggest.labelled import labelled_by
    from slowfast_dist.commands.suggest.pool import Pool

    labelled, root, unknown = labelled_by(predictor.best)
    if unknown is not None:
        note(unknown)
    inputs, left = _without_labelled(inputs, labelled, command.windows)
    what = "windows" if command.windows else "videos"
    pool = Pool(predictor, labelled)
    unread = _fill(pool, predictor, inputs, command)
    if pool.labelled:
        note(f"{pool.labelled} windows overlap what has a label already, and are left out")
    if not len(pool):
        raise RunError(
            f"none of {len(inputs.files)} can be read: nothing is written" if unread
            else "all windows of the inputs have a label already: give other videos"
        )  # fmt: skip
    chosen = pool.choose(command.count, command.seed, command.windows)
    try:
        write_list(command.output, chosen)
    except OSError as error:
        raise RunError(f"cannot write {command.output}: {reason_of(error)}") from error
    _leave_in(run, command.output, chosen)
    if len(chosen) < command.count:
        note(f"there are no more than {len(chosen)} to choose, of the {command.count} asked for")
    _print(chosen)
    print(f"{len(chosen)} of {len(pool)} {what} are in {command.output}; to label them:")
    review = ["python -m slowfast_dist review", operand(run), option("--list", command.output)]
    if root is not None:  # so that the answers can go into one list with the run's own rows
        review.append(option("--videos", root))
    print(" ".join(review), flush=True)
    content: dict[str, Any] = {
        "output": str(command.output), "suggested": [one.as_json() for one in chosen],
        "candidates": len(pool), "labelled": left, "labelled_windows": pool.labelled,
        "unreadable": unread,
    }  # fmt: skip
    if command.json:
        print(json.dumps(content), flush=True)
    log_suggested(predictor.best, chosen, command)  # last: it may upload
    return content


def _leave_in(run: Path, output: Path, chosen: Sequence[Suggestion]) -> None:
    """The list in the folder of the run, too, for its page; where that cannot be written, or is no
    run, the page does without."""
    folder = run.parent if run.name == "models" else run
    kept = folder / SUGGESTED
    if is_run(folder) and kept.absolute() != output.absolute():
        with suppress(OSError):
            write_list(kept, chosen)


def _without_labelled(
    inputs: Inputs, labelled: "Labelled", windows: bool
) -> tuple[Inputs, int]:
    """Without those that have a label, and how many these are; says what is left out. Raises
    UserError where nothing is left."""
    if inputs.skipped:
        note(str(inputs.skipped))
    if inputs.repeated:
        note(f"{inputs.repeated} of the inputs are files that were given already")
    odd = [str(one.path) for one in inputs.files if unwritable(str(one.path)) is not None]
    if odd:
        note(
            f"{len(odd)} files are left out, whose names a list cannot hold: "
            f"{few(odd, quoted=True)}: rename them"
        )
    files = [one for one in inputs.files if unwritable(str(one.path)) is None]
    # Of windows those are left out that have a label, one by one.
    kept = [one for one in files if not labelled.has(one.path, whole=windows)]
    left = len(files) - len(kept)
    if left:
        note(f"{left} of {len(files)} videos have a label in the run already, and are left out")
    if not kept:
        raise UserError(
            f"none of the {len(inputs.files)} videos is left to choose from: give some without a "
            "label"
        )
    return replace(inputs, files=tuple(kept)), left


def _fill(pool: "Pool", predictor: "Predictor", inputs: Inputs, command: Suggest) -> int:
    """Put all that can be read into the pool; names the others, and returns how many they are."""
    from slowfast_dist.inference.parts import Unread, parts_of_files, with_probabilities
    from slowfast_dist.inference.seen import SeenVideos

    remedy = "--windows chooses windows of them"
    seen = SeenVideos(predictor, command.temporal_views, command.windows, remedy)
    compute = with_probabilities(predictor)
    parts, total, unread = (
        parts_of_files(predictor, compute, inputs, command, seen), len(inputs.files), 0
    )  # fmt: skip
    with closing(parts):
        for one in over_files(parts, total, "looking at"):
            if isinstance(one, Unread):
                note(f"error: {one.name}: {one.reason}")
                unread += 1
            else:
                pool.add(one)
    for line in seen.notes():
        note(line)
    if unread:
        note(f"{unread} of {total} could not be read")
    return unread


def _print(chosen: Sequence[Suggestion]) -> None:
    rows = [(one.name, one.predicted or "none", one) for one in chosen]
    place = max(len(name) for name, _, _ in rows)
    label = max(len(said) for _, said, _ in rows)
    for name, said, one in rows:
        sure = "" if one.probability is None else f"{100 * one.probability:5.1f} %"
        print(clean(f"{name:{place}}  {said:{label}}  {sure:7}  {one.reason}".rstrip()))
