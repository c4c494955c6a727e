"""The command ``prepare``: a dataset rewritten once, so that training reads it fast."""

import csv
import json
import signal
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from slowfast_dist.annotations.importing.writing import LEFT_OUT, left_out, write_left_out
from slowfast_dist.annotations.segments import BOX
from slowfast_dist.annotations.table import SUFFIXES
from slowfast_dist.commands.prepare.folder import Prepared, PreparedFolder, open_folder
from slowfast_dist.commands.prepare.sources import (
    TIME_LIMIT,
    UNAWARE,
    Source,
    done_before,
    has_pixel_boxes,
    list_sources,
    refuse_others,
    refuse_overlap,
    with_fractions,
)
from slowfast_dist.config.commands.dataset import Prepare
from slowfast_dist.config.errors import RunError
from slowfast_dist.config.fields import PixelAspect
from slowfast_dist.data.clip_cost import clip_costs
from slowfast_dist.data.image_folders import gap_of
from slowfast_dist.data.listing.columns import InfoColumns
from slowfast_dist.data.listing.video_table import VideoTable, count_pictures
from slowfast_dist.data.probe_cache import default_cache
from slowfast_dist.data.probing import BYTES_PER_SECOND, probe_videos
from slowfast_dist.metrics.cells import parted
from slowfast_dist.runs.videos import start_of_paths
from slowfast_dist.system.cpus import available_cpus
from slowfast_dist.system.files import atomic_write
from slowfast_dist.system.progress import over_files
from slowfast_dist.system.text import option
from slowfast_dist.system.workers.pool import map_in_children
from slowfast_dist.video.pictures import picture_notes
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.video.transcode import KEY_INTERVAL, VERSION, part_name, transcode_or_reason

PIXELS_PER_SECOND = 2e6
"""Pixels of all frames together for which a video may take a second: a twentieth of what one CPU
decodes and encodes."""

FRAMES_PER_SECOND = 50
"""Frames for which a video may take a second, beside that for their pixels: an hour of tiny
pictures is work, too, and a busy machine takes many times as long as an idle one."""

MEASURED = 5
"""Videos that are read before and after, to tell how much was won: some seconds of work."""

CLIPS = 5
"""Clips that are read of each of these videos."""

UNREADABLE = "unreadable_videos.csv"


def run_prepare(root: Path, out: Path, command: Prepare) -> None:
    """Rewrite the videos of ``root``, class folders or a CSV, in ``out``; say what came of it.

    What ``out`` holds already of unchanged sources stays. Raises UserError where the two do not go
    together, RunError where no video can be read or one cannot be written.
    """
    workers = available_cpus() if command.num_workers == "auto" else command.num_workers
    start = start_of_paths(root, command.videos)
    base = root if root.is_dir() else start or root.parent
    unreadable: dict[str, str] = {}
    videos, imported = list_sources(root, start, unreadable, command.image_fps)
    refuse_overlap(base, out, videos)
    with open_folder(out) as folder, _interruptible(folder):
        refuse_others(folder, command, videos, base)
        done = done_before(videos, folder, workers)
        done -= _distorted(videos, done, folder, command.pixel_aspect, workers)
        before = len(done)
        todo = [video for video in videos if video.name not in done]
        infos = _probed(todo, workers, unreadable, command.image_fps)
        for video in todo:
            if video.path in infos and (gap := gap_of(video.name, infos[video.path])):
                print(gap, file=sys.stderr)
        for line in picture_notes(count_pictures(InfoColumns.of(list(infos.values())))):
            print(line, file=sys.stderr)
        todo = [video for video in todo if video.path in infos]
        _transcode(todo, infos, folder, command, workers, unreadable)
        done |= {video.name for video in todo} - set(unreadable)
        for video in videos:
            if video.name in unreadable:
                folder.remove(video.target)
        prepared = [video for video in videos if video.name in done]
        if boxed := [video for video in prepared if has_pixel_boxes(video)]:
            known = _probed(boxed, workers, {}, command.image_fps)
            prepared = with_fractions(prepared, known)
            print(f"regions of interest of {len(boxed)} videos are in pixels; the new list has "
                  "them as fractions of the picture, as its copies have other sizes",
                  file=sys.stderr)  # fmt: skip
        _write_lists(root, out, prepared, unreadable)
        write_left_out(out / LEFT_OUT, left_out([imported.notes] if imported else []))
        if not prepared:
            raise RunError(
                f"none of the {len(unreadable)} videos can be read: see {out / UNREADABLE}"
            )
        _print_result(prepared, before, folder)
        _print_missing(prepared, videos, unreadable, folder, base)
        table = out / _list_name(root) if root.is_file() else out
        print(f"train with: python train.py {option('--data.root', table)}", flush=True)


@contextmanager
def _interruptible(folder: PreparedFolder) -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does, with a line that nothing is lost."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        count = len(folder.entries)
        print(f"stopped: {count} videos are prepared; the same command goes on", file=sys.stderr)
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)


def _distorted(
    videos: list[Source], done: set[str], folder: PreparedFolder, pixel_aspect: PixelAspect,
    workers: int,
) -> set[str]:  # fmt: skip
    """Names of those whose copy an older version made and that have pixels which are not square:
    the copies do not say so. The others' records are brought up to date."""
    old = [v for v in videos if v.name in done and folder.entries[v.target].version == UNAWARE]
    if not old:
        return set()
    infos = _probed(old, workers, {}, None)
    wrong = {v.name for v in old if v.path not in infos or infos[v.path].pixel_aspect != 1}
    for video in old:
        if video.name not in wrong:
            entry = folder.entries[video.target]
            folder.note(replace(entry, version=VERSION, pixel_aspect=pixel_aspect))
    if wrong:
        print(f"{len(wrong)} of {len(done)} videos that were prepared before are made again: their "
              "pixels are not square, which the copies do not say", file=sys.stderr)  # fmt: skip
    return wrong


# --- the work ------------------------------------------------------------------------------------


def _probed(
    videos: list[Source], workers: int, unreadable: dict[str, str], image_fps: float | None
) -> dict[Path, VideoInfo]:
    """What those hold that can be read; the others join the ``unreadable``."""
    table = VideoTable.of_paths([video.path for video in videos])
    found = probe_videos(table, workers, default_cache(), True, image_fps)
    unreadable |= {videos[row].name: reason for row, reason in found.reasons.items()}
    pairs = zip(videos, found, strict=True)
    return {video.path: info for video, info in pairs if isinstance(info, VideoInfo)}


def _transcode(
    videos: list[Source], infos: dict[Path, VideoInfo], folder: PreparedFolder, command: Prepare,
    workers: int, unreadable: dict[str, str],
) -> None:  # fmt: skip
    """Publish what a process makes of each video; what cannot be read joins the ``unreadable``.

    Raises RunError where a result cannot be written.
    """
    by_path = {video.path: video for video in videos}

    def limit(path: Path) -> float:
        info = infos[path]
        pixels = info.frames * info.width * info.height
        by_size = pixels / PIXELS_PER_SECOND + by_path[path].size / BYTES_PER_SECOND
        return TIME_LIMIT + by_size + info.frames / FRAMES_PER_SECOND

    parts = str(folder.parts)
    answers = map_in_children(
        transcode_or_reason, by_path, workers, limit, folder=parts, short_side=command.short_side,
        pixel_aspect=command.pixel_aspect, image_fps=command.image_fps,
    )  # fmt: skip
    with closing(answers):
        for path, answer in over_files(answers, len(videos), "preparing"):
            video = by_path[path]
            if isinstance(answer, str):
                unreadable[video.name] = answer
            elif "write_error" in answer:
                what = f"{folder.path / video.target}: {answer['write_error']}"
                raise RunError(f"{what}; the same command goes on once that is mended")
            else:
                entry = Prepared(
                    video.target, video.name, video.size, video.mtime_ns, answer["sha256"],
                    answer["frames"], command.short_side, KEY_INTERVAL, VERSION, answer["size"],
                    command.pixel_aspect,
                )  # fmt: skip
                folder.publish(part_name(path), entry)


# --- the end -------------------------------------------------------------------------------------


def _write_lists(root: Path, out: Path, prepared: list[Source], unreadable: dict[str, str]) -> None:
    """The table, where the originals have one, and the list of what could not be read."""
    left_out = out / UNREADABLE
    if unreadable:
        _write_csv(left_out, ("path", "reason"), sorted(unreadable.items()))
    else:
        left_out.unlink(missing_ok=True)  # of an earlier start
    if root.is_file():
        listed = [(video.target, row) for video in prepared for row in video.rows]
        columns = {"path": [path for path, _ in listed]}
        for name, field in _COLUMNS.items():
            cells = [getattr(row, field) or "" for _, row in listed]
            if name == "label":  # of several all are told, those of overlapping segments, too
                columns["labels" if any(row.several for _, row in listed) else name] = cells
            elif any(cells):
                columns[name] = cells
        rows = list(zip(*columns.values(), strict=True))
        if root.suffix.lower() == ".jsonl":
            _write_json_lines(out / _list_name(root), tuple(columns), rows)
        else:
            _write_csv(out / _list_name(root), tuple(columns), rows)


def _list_name(root: Path) -> str:
    """What the list is called that stands for ``root``: a CSV where that was imported."""
    return root.name if root.suffix.lower() in SUFFIXES else f"{root.stem}.csv"


_COLUMNS = {
    "label": "label", "start": "start", "end": "end", "split": "side", "group": "group",
    "subject": "subject", **dict(zip(BOX, BOX, strict=True)), "weight": "weight",
    "fold": "fold",
}  # fmt: skip
"""Columns of the list beside the path, and the fields of `Listed` that they hold."""


def _write_json_lines(path: Path, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with atomic_write(path, "w") as file:
        for row in rows:
            cells = {
                name: float(cell) if name in ("start", "end", "weight", *BOX) else cell
                for name, cell in zip(head, row, strict=True)
                if cell or name == "labels"  # a video may have none
            }
            file.write(json.dumps(cells, ensure_ascii=False) + "\n")


def _write_csv(path: Path, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with atomic_write(path, "w") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)


def _print_result(prepared: list[Source], before: int, folder: PreparedFolder) -> None:
    earlier = f", {before} of them before" if before else ""
    source = sum(video.size for video in prepared) / 1e6
    result = sum(folder.entries[video.target].size for video in prepared) / 1e6
    print(f"{len(prepared)} videos are prepared in {folder.path}{earlier}")
    print(f"  {result:.1f} MB in place of {source:.1f}")
    if len(prepared) > before:
        print(f"  {_gain(prepared, folder.path)}")


def _gain(prepared: list[Source], out: Path) -> str:
    """How much faster some of the videos are to read, those at equal steps through the list."""
    chosen = prepared[:: -(-len(prepared) // MEASURED)]
    pairs = [(video.path, out / video.target) for video in chosen]
    costs = clip_costs([path for pair in pairs for path in pair], CLIPS)
    both = [(costs[a], costs[b]) for a, b in pairs if a in costs and b in costs]
    if not both:
        return "how fast they can be read could not be measured"
    source, result = (1000 * statistics.median(column) for column in zip(*both, strict=True))
    return (
        f"a clip takes {result:.0f} ms of CPU time to read in place of {source:.0f} (median of "
        f"{len(both)} videos, default settings)"
    )


def _print_missing(
    prepared: list[Source], videos: list[Source], unreadable: dict[str, str],
    folder: PreparedFolder, base: Path,
) -> None:  # fmt: skip
    if unreadable:
        name, reason = min(unreadable.items())
        total = len(prepared) + len(unreadable)
        print(
            f"{len(unreadable)} of {total} cannot be read and are left out, as {name}: {reason} "
            f"({folder.path / UNREADABLE} lists them)"
        )
    labels, left = ({name for video in some for row in video.rows
                     for name in (parted(row.label) if row.several else [row.label])}
                    for some in (videos, prepared))  # fmt: skip
    empty = sorted(labels - left)
    if empty:
        print(f"no video is left of {len(empty)} classes, as {empty[0]!r}")
    gone = folder.without_source((video.name for video in videos), base)
    if gone:
        print(f"{len(gone)} prepared before have no source any more and stay, as {gone[0]}")
