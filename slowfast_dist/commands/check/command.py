"""The command ``check-data``: what is wrong with a dataset, before hours are spent on it."""

import contextlib
import os
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from slowfast_dist.commands.check import files, segments
from slowfast_dist.commands.check.dataset import Dataset, Finding
from slowfast_dist.commands.check.preview import preview_config, require_page, write_preview
from slowfast_dist.commands.check.reading import read_dataset, worker_count
from slowfast_dist.commands.check.report import facts, move, report, require_place, shown, text
from slowfast_dist.commands.check.sides import copies, shared_recordings
from slowfast_dist.config.checks import require
from slowfast_dist.config.commands.dataset import CheckData
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.data.clip_cost import clip_costs
from slowfast_dist.data.listing.scan import path_below
from slowfast_dist.system.child import HANGS
from slowfast_dist.system.files import reason_of, write_json

SAMPLE = 20
"""Videos of which a clip is read, to estimate the loader's speed: some seconds of work."""


def run_check(root: Path, command: CheckData) -> None:
    """Print the report on the videos of ``root``, class folders or a CSV.

    Exits with code 1 where something would spoil a training. Raises UserError for mistakes of the
    user's.
    """
    roots = [root, command.val_dir] if command.val_dir else [root]
    if command.move_bad:
        require_place(command.move_bad, roots)
    if command.json:
        _require_writable(command.json, "json")
    if command.preview:
        _require_writable(command.preview, "preview")
        require_page(command.preview)
        preview_config(command)  # a --run that is none is said before the videos are looked at
    else:
        require(command.run is None, "run", command.run, "goes with --preview PAGE.html: add it")
    with _in_words_of_this_command():
        data = read_dataset(root, command)
    found = _findings(data, command)
    by_file = data.files()
    readable = [by_file.paths[row] for row, _ in by_file.readable()]
    seconds = _read_cost(readable, command)
    stats = facts(by_file, command, seconds, worker_count(command)) | segments.facts(data, command)
    print(text(root, data, found, stats), flush=True)
    moved = _move_bad(by_file, command.move_bad, roots) if command.move_bad else []
    if command.json:
        try:
            write_json(command.json, report(root, data, found, stats, moved))
        except OSError as error:
            raise RunError(f"--json {command.json}: {reason_of(error)}") from None
    if command.preview:
        print(f"\n{write_preview(command.preview, root, data, command)}", flush=True)
    if any(finding.level == "error" for finding in found):
        raise SystemExit(1)


def _findings(data: Dataset, command: CheckData) -> list[Finding]:
    """All that is wrong, the worst first."""
    by_file = data.files()
    # Parts of one file are of one recording, and which of it shows which class says the list.
    found = [] if data.has_segments else [*shared_recordings(data)]
    found += [
        *copies(by_file),
        *files.unreadable(by_file),
        *segments.left_out(data),
        *segments.outside(data),
        *files.cut_off(by_file),
        *files.refused(data),
        *segments.cut(data),
        *segments.boxes_cut(data),
        *segments.overlapping(data),
        *segments.annotated_twice(data),
        *files.short_clips(data, command),
        *files.class_sizes(data),
        *files.frame_rates(by_file, command),
        *files.frame_sizes(by_file, command),
        *files.pictures(by_file, command),
    ]
    return sorted(found, key=lambda finding: finding.level != "error")


def _read_cost(readable: Sequence[Path], command: CheckData) -> float | None:
    """Mean CPU seconds to read a clip of a few videos, spread evenly over all; None without any."""
    step = max(1, len(readable) // SAMPLE)
    chosen = readable[step // 2 :: step][:SAMPLE]
    costs = clip_costs(
        chosen, 1, command.num_frames, command.sampling_rate, command.crop_size,
        command.frame_rate, command.pixel_aspect,
    )  # fmt: skip
    return statistics.mean(costs.values()) if costs else None


# --- the user's wishes ---------------------------------------------------------------------------


@contextlib.contextmanager
def _in_words_of_this_command() -> Iterator[None]:
    """Training's messages name its flags; here DIR is given bare, and the others without data."""
    try:
        yield
    except UserError as error:
        message = str(error).removeprefix("--data.root ").removeprefix("--data.train-dir ")
        message = message.replace("--data.train-dir", "DIR").replace("--data.", "--")
        raise UserError(message) from None


def _require_writable(path: Path, flag: str) -> None:
    """Raise UserError now, and not after hours, where the report cannot be written."""
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"--{flag} {path}: cannot be written; give another file")


def _move_bad(data: Dataset, target: Path, roots: Sequence[Path]) -> list[dict[str, str]]:
    """Move the unreadable videos to where they were, below ``target``; say what was done."""
    moved: list[dict[str, str]] = []
    not_moved: list[str] = []
    for row in sorted(data.reasons):
        # Two videos of the same path below their roots are not the same.
        path, name = data.paths[row], data.names[row]
        place = (target / data.roots[row] if data.roots else target) / path_below(name)
        # A long video on a busy machine is no bad one.
        slow = data.reasons[row].startswith(HANGS)
        problem = "perhaps it is only slow: see for yourself" if slow else move(path, place)
        if problem:
            not_moved.append(f"{name}: {problem}")
        else:
            moved.append({"from": shown(str(path)), "to": shown(str(place))})
    if moved or not_moved:
        print(f"\n{len(moved)} unreadable videos moved to {target}")
    for line in not_moved:
        print(f"  not moved: {shown(line)}")
    for table in roots if moved else ():
        if not table.is_dir():
            print(f"  {table} still lists them: delete their lines there")
    return moved
