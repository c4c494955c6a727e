"""The command ``import``: annotations of other tools and datasets become one CSV of segments."""

import os
from collections.abc import Sequence
from pathlib import Path

from slowfast_dist.annotations.class_names import read_numbered_names
from slowfast_dist.annotations.formats.registry import find_format
from slowfast_dist.annotations.importing.reading import Subjects
from slowfast_dist.annotations.importing.rows import Notes, Options
from slowfast_dist.annotations.importing.source import Source
from slowfast_dist.annotations.importing.writing import left_out, write_left_out, write_rows
from slowfast_dist.annotations.table import SUFFIXES
from slowfast_dist.config.commands.dataset import Import
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.data.listing.imported import Imported, import_files
from slowfast_dist.system.files import reason_of
from slowfast_dist.system.log import logger
from slowfast_dist.system.text import option

DROPPED = ".dropped.csv"
"""Ending of the list of what is left out or changed, in place of the output's own."""


def run_import(files: Sequence[Path], command: Import) -> None:
    """Write the segments of ``files`` to --output. Raises UserError for the user's mistakes, with
    nothing written."""
    listed = command.output.with_name(command.output.stem + DROPPED)
    _refuse_output(command.output, command.overwrite)
    notes = Notes()
    sources = [Source(path, _options(command), notes) for path in files]
    for path in files:
        if not path.is_file():
            raise UserError(f"{path}: there is no such file")
    formats = [find_format(source, command.format) for source in sources]
    for source, found in zip(sources, formats, strict=True):
        logger.info("%s: %s (--format %s)", source.path, found.title, found.name)
    root = command.videos or files[0].parent
    imported = import_files(
        list(zip(sources, formats, strict=True)), root,
        Subjects(command.subject, command.subject_as), notes, command.point_seconds,
        command.frame_rate, command.image_fps,
    )  # fmt: skip
    _write(command.output, listed, imported)
    _report(command.output, listed, imported)


def _refuse_output(output: Path, overwrite: bool) -> None:
    if not output.is_dir() and output.suffix.lower() not in SUFFIXES:
        what = "a training takes lists that end in .csv, .tsv or .jsonl: call it so"
        raise UserError(f"--output {output}: {what}")
    if output.is_dir() or (output.exists() and not overwrite):
        what = "is a folder; name a file in it" if output.is_dir() else (
            "is there already: give another name, or add --overwrite"
        )
        raise UserError(f"--output {output}: {what}")


def _options(command: Import) -> Options:
    classes = {} if command.classes is None else read_numbered_names(command.classes)
    return Options(
        tier=command.tier, frame_rate=command.frame_rate, frame_base=command.frame_base,
        frame_end=command.frame_end, comma=command.decimal_comma, times=command.times,
        classes=classes,
    )  # fmt: skip


def _write(output: Path, listed: Path, imported: Imported) -> None:
    root = imported.root
    start = _start(output, root)
    # A list's relative paths may not leave its folder by a link: such videos have absolute ones.
    real = os.path.join(os.path.realpath(output.parent if start else root), "")

    def spelled(name: str) -> str:
        path = os.path.join(os.path.abspath(root), name)
        return start + name if os.path.realpath(path).startswith(real) else path

    try:
        write_rows(output, imported.columns, imported.table, spelled)
        write_left_out(listed, left_out([imported.notes]))
    except OSError as error:
        raise RunError(f"--output {output}: cannot be written ({reason_of(error)})") from None


def _start(output: Path, root: Path) -> str:
    """What stands before paths below ``root`` so that they start from the output's folder; nothing
    where the videos are not below that."""
    below = os.path.relpath(root.absolute(), output.absolute().parent).replace(os.sep, "/")
    return "" if below == "." or below.startswith("..") else f"{below}/"


def _report(output: Path, listed: Path, imported: Imported) -> None:
    for line in imported.notes.said:
        logger.info("%s", line)
    for line in imported.notes.lines():
        logger.warning("%s", line)
    print(f"{imported.counts()}: {output}")
    if listed.exists():
        print(f"what was left out or changed: {listed}")
    root = imported.root.absolute()
    own = os.path.relpath(root, output.absolute().parent).startswith("..")
    more = f" {option('--data.videos', imported.root)}" if own else ""
    print(f"train with: python train.py {option('--data.root', output)}{more}")
