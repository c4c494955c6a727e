"""The command ``import``: annotations of other tools and datasets become one CSV of segments."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from slowfast_dist.annotations.class_names import read_numbered_names
from slowfast_dist.annotations.formats.registry import Format, find_format
from slowfast_dist.annotations.importing.columns import Columns
from slowfast_dist.annotations.importing.conversion import Facts, Table, convert
from slowfast_dist.annotations.importing.reading import Reader, Subjects, read_rows, side_of_name
from slowfast_dist.annotations.importing.rows import Notes, Options, Segment
from slowfast_dist.annotations.importing.source import Source
from slowfast_dist.annotations.importing.videos import VideoFinder
from slowfast_dist.annotations.importing.writing import write_rows
from slowfast_dist.annotations.table import SUFFIXES
from slowfast_dist.config.commands import Import
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.data.listing.scan import is_video, walk_folders
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.probe_cache import default_cache
from slowfast_dist.data.probing import probe_videos
from slowfast_dist.system.cpus import available_cpus
from slowfast_dist.system.files import atomic_write, reason_of
from slowfast_dist.system.log import logger
from slowfast_dist.system.text import few, option
from slowfast_dist.video.images.listing import is_image_folder
from slowfast_dist.video.reader import VideoInfo

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
    finder = _list_videos(root, files)
    readers = [(source, _reader(found)) for source, found in zip(sources, formats, strict=True)]
    columns = read_rows(readers, finder, Subjects(command.subject, command.subject_as), notes)
    if any(found.name == "videofolder" for found in formats):
        _say_rowless(finder, columns, notes)
    facts = _facts(root, columns, command.image_fps)
    table = convert(columns, facts, notes, command.point_seconds, command.frame_rate)
    if not len(table.rows):
        reasons = "; ".join(notes.lines())
        raise UserError(f"{few([str(path) for path in files])}: no row is left: {reasons}")
    _write(command.output, listed, root, columns, table, notes)
    _report(command.output, listed, root, columns, table, notes)


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


def _list_videos(root: Path, given: Sequence[Path]) -> VideoFinder:
    if not root.is_dir():
        raise UserError(f"--videos {root}: there is no such folder")
    files: list[str] = []
    folders: list[str] = []
    top = os.fspath(root)
    for here, names in walk_folders(top):
        below = os.path.relpath(here, top).replace(os.sep, "/")
        start = "" if below == "." else f"{below}/"
        videos = [start + name for name in names if is_video(os.fsencode(name))]
        if start and not videos and is_image_folder(names):
            folders.append(below)
        files += videos
    return VideoFinder(root, files, folders, lambda name: is_video(os.fsencode(name)))


def _reader(found: Format) -> Reader:
    """The format's reader, with the side of the split that the file's name tells."""
    def read(source: Source) -> Iterator[Segment]:
        side = side_of_name(source.path.stem) if found.side_in_name else ""
        if side:
            source.notes.say(f"{source.path.name}: rows without a split are {side}, as its name "
                             "says")  # fmt: skip
        for segment in found.read(source):
            yield segment if segment.split or not side else segment._replace(split=side)

    return read


def _facts(root: Path, columns: Columns, image_fps: float | None) -> list[Facts | str]:
    """What each video tells, by its code; those that earlier commands looked at are remembered."""
    names = columns.videos.texts[1:]
    table = VideoTable.of_paths([root / name for name in names])
    probed = probe_videos(table, available_cpus(), default_cache(), True, image_fps)
    return ["", *(info if isinstance(info, str) else _facts_of(info) for info in probed)]


def _facts_of(info: VideoInfo) -> Facts:
    return Facts(info.duration() or float("nan"), info.times)


def _say_rowless(finder: VideoFinder, columns: Columns, notes: Notes) -> None:
    rowless = sorted(set(finder.videos).difference(columns.videos.texts))
    if rowless:
        notes.say(f"{len(rowless)} videos have no row and are left out, as {few(rowless)}")


def _write(
    output: Path, listed: Path, root: Path, columns: Columns, table: Table, notes: Notes
) -> None:
    start = _start(output, root)
    # A list's relative paths may not leave its folder by a link: such videos have absolute ones.
    real = os.path.join(os.path.realpath(output.parent if start else root), "")

    def spelled(name: str) -> str:
        path = os.path.join(os.path.abspath(root), name)
        return start + name if os.path.realpath(path).startswith(real) else path

    try:
        write_rows(output, columns, table, spelled)
        pieces = notes.listed()
        first = next(pieces, None)
        if first is None:
            listed.unlink(missing_ok=True)
            return
        with atomic_write(listed, "w") as file:
            file.write(first)
            file.writelines(pieces)
    except OSError as error:
        raise RunError(f"--output {output}: cannot be written ({reason_of(error)})") from None


def _start(output: Path, root: Path) -> str:
    """What stands before paths below ``root`` so that they start from the output's folder; nothing
    where the videos are not below that."""
    below = os.path.relpath(root.absolute(), output.absolute().parent).replace(os.sep, "/")
    return "" if below == "." or below.startswith("..") else f"{below}/"


def _report(
    output: Path, listed: Path, root: Path, columns: Columns, table: Table, notes: Notes
) -> None:
    for line in notes.said:
        logger.info("%s", line)
    for line in notes.lines():
        logger.warning("%s", line)
    rows = table.rows
    videos = len(set(columns.codes("video")[rows].tolist()))
    labels = len(set(columns.codes("label")[rows].tolist()))
    print(f"{len(rows)} rows of {videos} videos and {labels} classes: {output}")
    if listed.exists():
        print(f"what was left out or changed: {listed}")
    own = os.path.relpath(root.absolute(), output.absolute().parent).startswith("..")
    more = f" {option('--data.videos', root)}" if own else ""
    print(f"train with: python train.py {option('--data.root', output)}{more}")
