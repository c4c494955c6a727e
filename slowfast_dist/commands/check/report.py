"""The report of ``check-data``: for people, in 80 columns, and for programs."""

import os
import shutil
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from heapq import nlargest
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from slowfast_dist.annotations.table import SIDES
from slowfast_dist.commands.check.dataset import Dataset, Finding
from slowfast_dist.commands.check.files import clip_config
from slowfast_dist.config.commands.dataset import CheckData
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.clips import dense_clips
from slowfast_dist.data.frame_rates import group_rates
from slowfast_dist.system.files import reason_of, sync_folder
from slowfast_dist.system.text import clock
from slowfast_dist.video.pictures import ratio
from slowfast_dist.video.reader import chosen_decoder
from slowfast_dist.video.views import reads_stored

EXAMPLES = 3
"""Names under a finding, and of videos that are slow to decode: a report of ten findings then fits
on a screen."""

STEP_TFLOP = 0.3
"""TFLOP to train on one clip of 32 frames of 224 x 224 px with SlowFast-R50: 50.3 GMAC forward, two
operations each, and twice that again backward."""

PREPARED_SECONDS = 0.03
"""CPU seconds to read a clip of a video that ``prepare`` wrote: measured on H.264 sources of 340 x
256 to 1080p."""

PREPARE_COST = 0.2
"""CPU seconds that ``prepare`` takes for a second of video, measured on the same ones."""

WORTH_PREPARING = 3.0
"""Times what reading a prepared clip costs, from which on ``prepare`` is worth a word."""


def facts(data: Dataset, command: CheckData, seconds: float | None, workers: int) -> dict[str, Any]:
    """What the dataset is, wrong or not. ``seconds``: CPU time to read a clip."""
    infos = [info for _, info in data.readable()]
    rates = [info.mean_rate() for info in infos]
    lengths = [info.frames / rate for info, rate in zip(infos, rates, strict=True) if rate > 0]
    stats: dict[str, Any] = {
        "codecs": _counts(info.codec for info in infos),
        "decoders": _counts(chosen_decoder(info, "auto") for info in infos),
        "frame_rates": _counts(f"{rate:.4g}" for rate in rates),
        "sizes": _counts(f"{info.width}x{info.height}" for info in infos),
        "rotated": sum(info.rotation != 0 for info in infos),
        "pixel_aspects": _counts(ratio(info.pixel_aspect) for info in infos),
        "pixels_stored": reads_stored(clip_config(command)),
        "lights": _counts(info.light for info in infos),
        "interlaced": sum(info.interlaced for info in infos),
        "alpha": sum(info.alpha for info in infos),
        "seconds": {"total": sum(lengths), "median": median(lengths) if lengths else None},
    }
    clip = clip_config(command)
    groups = group_rates(np.array(rates))
    if len(groups) > 1 and clip.frame_rate != "video":
        stats["by_time"] = {
            "frame_rate": clip.frame_rate, "rates": [vars(group) for group in groups],
        }  # fmt: skip
    costs = [  # on average a clip begins in the middle between two keyframes
        (info.decode_ms * min(span + info.key_interval / 2, info.frames), data.names[row])
        for row, info in data.readable()
        for span in (int(dense_clips(info, clip).at(0)[-1]) + 1,)
    ]
    stats["slowest"] = [
        {"path": name, "decode_ms_a_clip": round(cost, 1)}
        for cost, name in nlargest(EXAMPLES, costs)
    ]
    if seconds:
        stats["loader"] = {
            "cpu_seconds_a_clip": seconds,
            "clips_per_second_a_core": 1 / seconds,
            "cores": workers,
            "clips_per_second": workers / seconds,
        }
        if seconds > WORTH_PREPARING * PREPARED_SECONDS and lengths:
            gain = (seconds - PREPARED_SECONDS) * len(lengths)
            stats["loader"]["prepared_cpu_seconds_a_clip"] = PREPARED_SECONDS
            stats["loader"]["prepare_pays_after_epochs"] = PREPARE_COST * sum(lengths) / gain
    return stats


def _counts(values: Iterator[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def report(
    root: Path, data: Dataset, found: list[Finding], stats: dict[str, Any],
    moved: list[dict[str, str]],
) -> dict[str, Any]:  # fmt: skip
    """For programs; the keys stay."""
    counts = Counter(
        (name, side) for row, side in enumerate(data.sides) for name in data.classes_of(row)
    )
    has_test = "test" in data.sides
    return {
        "data": shown(str(root.absolute())),
        "ok": not any(finding.level == "error" for finding in found),
        "videos": len(data.names),
        "readable": len(data.names) - len(data.reasons),
        "classes": {
            name: {side: counts[name, side] for side in (*SIDES[:2], *SIDES[2:] * has_test)}
            for name in data.single_classes
        },
        "findings": [
            {name: value for name, value in vars(finding).items() if name != "examples"}
            for finding in found
        ],
        "facts": stats,
        "moved": moved,
    }


def text(root: Path, data: Dataset, found: list[Finding], stats: dict[str, Any]) -> str:
    """For people: the worst first, each finding with its remedy; then what the dataset is."""
    sides = Counter(side for side in data.sides if side)
    split = f"; {sides['train']} train, {sides['val']} validate" if sides else ""
    split += f", {sides['test']} test" if sides["test"] else ""
    what = f"{len(data.names)} videos"
    if data.has_segments:
        files = len(data.first_rows)
        what = f"{len(data.names)} segments of {files} file{'s' * (files != 1)},"
    lines = [f"{shown(str(root))}: {what} of {len(data.single_classes)} classes{split}"]
    for level, title in (("error", "ERRORS"), ("warning", "WARNINGS")):
        of_level = [finding for finding in found if finding.level == level]
        if of_level:
            lines += ["", title]
        for finding in of_level:
            lines += _finding(finding)
    lines += ["", "WHAT THERE IS" if found else "NOTHING WRONG WAS FOUND", *_facts(stats)]
    for remark in data.remarks:
        if remark.level == "info":
            lines += _wrapped(str(remark), "  ", "    ")
    return "\n".join(lines)


def shown(name: str) -> str:
    """Without what is no UTF-8 and what a terminal would obey."""
    return "".join(sign if sign.isprintable() else "?" for sign in name)


def _finding(finding: Finding) -> Iterator[str]:
    yield from _wrapped(finding.summary, "- ", "  ")
    for example in finding.examples[:EXAMPLES]:
        yield from _wrapped(example, "    ", "      ")
    if len(finding.examples) > EXAMPLES:
        yield f"    and {len(finding.examples) - EXAMPLES} more"
    yield from _wrapped(finding.remedy, "  > ", "    ")


def _facts(stats: dict[str, Any]) -> Iterator[str]:
    def line(title: str, value: str) -> Iterator[str]:
        return _wrapped(value, f"  {title:<12}", " " * 14)

    for title, name in (("codecs", "codecs"), ("frame rates", "frame_rates"), ("sizes", "sizes")):
        if stats[name]:
            yield from line(title, _most_common(stats[name]))
    if "by_time" in stats:
        rate, groups = stats["by_time"]["frame_rate"], stats["by_time"]["rates"]
        mix = _most_common({f"{group['rate']:g}": group["videos"] for group in groups})
        yield from line("", f"{mix} are mixed; clips take frames by their times "
                            f"(frame rate {rate:g})")  # fmt: skip
    names = {"decord": "Decord", "pyav": "PyAV"}
    if stats["decoders"]:
        decoders = {names[name]: count for name, count in stats["decoders"].items()}
        yield from line("decoders", _most_common(decoders))
    if stats["rotated"]:
        yield from line("rotated", f"{stats['rotated']}; they are turned upright")
    shapes = {name: count for name, count in stats["pixel_aspects"].items() if name != "1:1"}
    if shapes:
        how = "read as they are stored" if stats["pixels_stored"] else "shown as players do"
        yield from line("pixels", f"not square: {_most_common(shapes)}; {how}")
    total = stats["seconds"]
    if total["median"] is not None:
        minutes, seconds = divmod(round(total["total"]), 60)
        yield from line(
            "length", f"{total['median']:.3g} s (median), {minutes}:{seconds:02d} min in all"
        )
    if "segments" in stats:
        yield from line("segments", _segments(stats["segments"]))
        gaps = stats["segments"]["background"]
        yield from line(
            "background", f"{gaps['count']} of {gaps['files']} files, {clock(gaps['seconds'])}, "
            f"{gaps['margin']:g} s and more from any segment: what --data.background draws from",
        )  # fmt: skip
        yield from line("class time", _class_time(stats["segments"]["class_seconds"]))
    if stats["slowest"]:
        named = [f"{row['path']} ({row['decode_ms_a_clip']:.0f} ms)" for row in stats["slowest"]]
        yield from line("slowest", f"to decode a clip of: {', '.join(named)}")
    if "loader" in stats:
        yield from line("loader", _loader(stats["loader"]))


def _segments(stats: dict[str, Any]) -> str:
    lengths, gaps = stats["seconds"], stats["gaps"]
    between = ""
    if gaps["count"]:
        spread = gaps["seconds"]
        between = f"; {gaps['count']} gaps between them, {spread['median']:.3g} s (median), "
        between += f"{spread['least']:.3g} to {spread['most']:.3g}"
    return (
        f"{lengths['median']:.3g} s (median), {lengths['least']:.3g} to {lengths['most']:.3g}; "
        f"{stats['annotated_share']:.0%} of their files' time is in one{between}"
    )


def _class_time(seconds: dict[str, float]) -> str:
    """The least and the most, where there are many."""
    order = sorted(seconds.items(), key=lambda one: -one[1])
    chosen = order if len(order) <= 2 * EXAMPLES else [*order[:EXAMPLES], *order[-EXAMPLES:]]
    named = [f"{name} {clock(time)}" for name, time in chosen]
    if len(chosen) < len(order):
        named.insert(EXAMPLES, f"{len(order) - len(chosen)} between")
    return ", ".join(named)


def _loader(stats: dict[str, Any]) -> str:
    rate = stats["clips_per_second"]
    sentences = (
        f"{1000 * stats['cpu_seconds_a_clip']:.0f} ms of CPU a clip: "
        f"{stats['clips_per_second_a_core']:.0f} clips/s a core, {rate:.0f} on {stats['cores']}. "
        f"SlowFast-R50 at 32 x {DataConfig().crop_size} px computes {STEP_TFLOP} TFLOP a clip: "
        f"a GPU that really does more than {STEP_TFLOP * rate:.2g} TFLOP/s waits."
    )
    if "prepare_pays_after_epochs" in stats:
        sentences += (
            f" python -m slowfast_dist prepare brings it to about {1000 * PREPARED_SECONDS:.0f} ms "
            f"and pays after {stats['prepare_pays_after_epochs']:.0f} epochs."
        )
    return sentences


def _most_common(counts: dict[str, int]) -> str:
    named = [f"{name} ({count})" for name, count in list(counts.items())[:EXAMPLES]]
    rest = sum(list(counts.values())[EXAMPLES:])
    return ", ".join(named) + (f", others ({rest})" if rest else "")


def _wrapped(value: str, first: str, rest: str) -> Iterator[str]:
    yield from textwrap.wrap(
        shown(value), 80, initial_indent=first, subsequent_indent=rest,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


# --- moving videos out of a dataset: never over another file -------------------------------------

def require_place(folder: Path, roots: Iterable[Path]) -> None:
    """Raise UserError where ``folder`` is no place for the bad videos of ``roots``."""
    target = folder.resolve()
    for root in roots:
        base = root.resolve() if root.is_dir() else root.resolve().parent
        if root.is_dir() and target.is_relative_to(base):
            raise UserError(
                f"--move-bad {folder}: is in {root} itself, where it would be taken for a class; "
                "give a folder outside"
            )
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--move-bad {folder}: is a file; give a folder")


def move(source: Path, target: Path) -> str | None:
    """Move a file, or a link itself; returns why it was not moved, None where it was.

    Whatever is interrupted leaves the file in one place at least, and ``target`` whole or absent.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir() and not source.is_symlink():  # of images
            if os.path.lexists(target):
                raise FileExistsError
            shutil.move(source, target)
            sync_folder(target.parent)
            return None
        if source.is_symlink():
            # A relative link would point elsewhere from there.
            os.symlink(os.path.join(os.path.abspath(source.parent), os.readlink(source)), target)
        elif not _linked(source, target):
            _copy(source, target)
        sync_folder(target.parent)
    except FileExistsError:
        return f"{target}: something is there already"
    except OSError as error:
        return f"{error.filename or target}: {reason_of(error, target.parent)}"
    try:
        source.unlink()
    except OSError as error:  # a folder from which nothing may be taken
        target.unlink(missing_ok=True)
        return f"{error.filename or source}: {error.strerror or error}"
    return None


def _linked(source: Path, target: Path) -> bool:
    """Whether ``target`` is now a second name of the file, which is no overwriting and at once."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # another file system, or one without links
        return False
    return True


def _copy(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(source, "rb") as reader, open(temporary, "xb") as writer:
            shutil.copyfileobj(reader, writer, 1024**2)
            writer.flush()
            os.fsync(writer.fileno())
        shutil.copystat(source, temporary)
        if not _linked(temporary, target):  # a file system without links: nobody else writes here
            if os.path.lexists(target):
                raise FileExistsError
            os.rename(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
