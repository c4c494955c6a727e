"""What is wrong with single files and classes of a dataset."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from slowfast_dist.commands.check.dataset import Dataset, Finding
from slowfast_dist.config.commands.dataset import CheckData
from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.clips import dense_clips
from slowfast_dist.data.frame_rates import BY_TIMES, PRETRAINED_RATE, rate_findings
from slowfast_dist.data.listing.columns import InfoColumns
from slowfast_dist.data.listing.video_table import count_pictures
from slowfast_dist.video.pictures import picture_findings
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.video.views import is_sensible, reads_stored

IMBALANCE = 3.0
"""Videos of the largest class over those of the smallest, from which it is worth a word: training
then favours the large one, and accuracy hides it."""

FEW_VIDEOS = 5
"""Videos of a class below which a split leaves next to nothing to learn from or to score."""

EXTREME_ASPECT = 3.0
"""Long side over short side from which a square crop sees less than a third of the picture."""

TINY = 32
"""Pixels of the short side below which nothing can be seen, and SlowFast's last stages, which
divide it by 32, have nothing left."""

ODD_SIZE = 2.0
"""Times by which a short side may exceed the median one, or fall short of it: beyond that people
are of another size in the crop than in most videos."""


def unreadable(data: Dataset) -> Iterator[Finding]:
    if data.reasons:
        rows = sorted(data.reasons)
        yield Finding(
            "unreadable", "error",
            f"{len(rows)} of {len(data.names)} videos cannot be read, or not to their end: "
            "training would do without them.",
            "replace them, or move them away: --move-bad DIR",
            [f"{data.names[row]}: {data.reasons[row]}" for row in rows],
            [{**data.video(row), "reason": data.reasons[row]} for row in rows],
        )  # fmt: skip


def cut_off(data: Dataset) -> Iterator[Finding]:
    cut = [(row, info) for row, info in data.readable() if info.lost]
    if cut:
        lost = sum(info.lost for _, info in cut)
        yield Finding(
            "cut-off", "warning",
            f"{len(cut)} of {len(data.readable())} videos were cut off while they were recorded or "
            f"copied: {lost} pictures at their ends are damaged or not there, as far as the files "
            "tell, and are left out.",
            "copy them anew where there is a whole one",
            [f"{data.names[row]}: {info.lost} of {info.frames + info.lost} pictures"
             for row, info in cut],
            [{**data.video(row), "lost": info.lost} for row, info in cut],
        )  # fmt: skip


LISTED = ("segments-outside", "segments-cut", "overlapping-segments", "rows-left-out")
"""Remarks on lists and segments of which findings tell more."""


def refused(data: Dataset) -> Iterator[Finding]:
    if data.refused is not None:
        yield Finding("refused", "error", "Training would not start.", data.refused)
    for remark in data.remarks:
        if remark.level == "warning" and remark.kind not in LISTED:
            what = f"{remark.what[0].upper()}{remark.what[1:]}."
            yield Finding(remark.kind, "warning", what, remark.remedy)


def short_clips(data: Dataset, command: CheckData) -> Iterator[Finding]:
    clip = clip_config(command)
    known = data.readable()
    short = [(row, info) for row, info in known if not dense_clips(info, clip, data.spans[row]).fit]
    if not short:
        return
    counted = [_counted_frames(_frames(data, row, info), info, command) for row, info in known]
    low = int(np.percentile(counted, 5))
    rate = (low - 1) // max(1, command.num_frames - 1)
    if rate >= command.sampling_rate:
        remedy = "harmless where they are few"
    elif rate:
        remedy = f"--data.sampling-rate {rate} fits 95 of 100"
    else:
        remedy = "a smaller --data.num-frames"
    span = (command.num_frames - 1) * command.sampling_rate + 1
    lasts, of = f"{span} frames", ""
    what = "segments" if data.has_segments else "videos"
    if data.has_segments:
        remedy += "; --data.short-segments context shows the frames around them"
    if command.frame_rate != "video":
        lasts, of = f"{span / command.frame_rate:.2f} s", f" of {command.frame_rate:g} a second"
    yield Finding(
        "short-clips", "warning",
        f"{len(short)} of {len(known)} {what} are shorter than a clip ({lasts}: "
        f"{command.num_frames} frames, every {_ordinal(command.sampling_rate)}{of}); their last "
        "frame is repeated.",
        f"{remedy}; --data.sampling uniform spreads a clip over each video",
        [f"{data.names[row]}: {frames} frame{'s' * (frames != 1)}{_lasting(frames, info)}"
         for frames, row, info in sorted(
             ((_frames(data, row, info), row, info) for row, info in short),
             key=lambda one: one[0])],
        [{**data.video(row), "frames": _frames(data, row, info)} for row, info in short],
    )  # fmt: skip


def clip_config(command: CheckData) -> DataConfig:
    """The clips that the training would cut."""
    return DataConfig(
        num_frames=command.num_frames, sampling_rate=command.sampling_rate,
        frame_rate=command.frame_rate, pixel_aspect=command.pixel_aspect,
        crop_box=command.crop_box, background=command.background, margin=command.margin,
    )  # fmt: skip


def _frames(data: Dataset, row: int, info: VideoInfo) -> int:
    """Of a video, or of the part of it."""
    first, end = data.spans[row] or (0, info.frames)
    return end - first


def _counted_frames(frames: int, info: VideoInfo, command: CheckData) -> float:
    """So many ``frames`` of a video, at the rate in which a clip counts them."""
    own = info.mean_rate()
    if command.frame_rate == "video" or own <= 0:
        return frames
    return 1 + (frames - 1) / own * command.frame_rate


def _lasting(frames: int, info: VideoInfo) -> str:
    rate = info.mean_rate()
    return f", {frames / rate:.2f} s" if rate > 0 else ""


def _ordinal(number: int) -> str:
    return {1: "one", 2: "2nd", 3: "3rd"}.get(number, f"{number}th")


def class_sizes(data: Dataset) -> Iterator[Finding]:
    counts = Counter({name: 0 for name in data.single_classes})
    counts.update(name for row, _ in data.readable() for name in data.classes_of(row))
    (most, top), (least, bottom) = counts.most_common()[0], counts.most_common()[-1]
    what = "segments" if data.has_segments else "videos"
    items: list[dict[str, Any]] = [{"class": name, "videos": n} for name, n in counts.items()]
    if bottom and top >= IMBALANCE * bottom:
        yield Finding(
            "class-imbalance", "warning",
            f"Class {most!r} has {top} {what}, {least!r} {bottom}: {top / bottom:.1f} times as "
            "many.",
            "--loss.class-weights balanced; judge by the macro averages",
            items=items,
        )  # fmt: skip
    few = [(name, count) for name, count in counts.items() if count < FEW_VIDEOS]
    if few:
        yield Finding(
            "small-classes", "warning",
            f"{len(few)} of {len(counts)} classes have fewer than {FEW_VIDEOS} {what}: too few to "
            "train on and to score.",
            f"add {what}, or put the class together with another",
            [f"{name}: {count}" for name, count in few],
            [item for item in items if item["videos"] < FEW_VIDEOS],
        )  # fmt: skip


def frame_rates(data: Dataset, command: CheckData) -> Iterator[Finding]:
    """What the training will say of them, too."""
    known = data.readable()
    rates = np.array([info.mean_rate() for _, info in known])
    whose = f"the {PRETRAINED_RATE:g} a second that the pretrained networks saw"
    names = [data.names[row] for row, _ in known]
    notes = rate_findings(
        rates, names.__getitem__, clip_config(command), [PRETRAINED_RATE], whose,
        f"{BY_TIMES}, as the preset finetune has it; or --data.sampling uniform where each shows "
        "one action",
    )  # fmt: skip
    for note in notes:
        rows = [(known[place][0], float(rates[place])) for place in note.videos]
        yield Finding(
            note.kind, "warning", f"{note.summary}.", note.remedy or "harmless where they are few",
            [f"{data.names[row]}: " + (f"{rate:.4g} a second" if rate > 0 else "it does not say")
             for row, rate in rows],
            [{**data.video(row), "fps": rate} for row, rate in rows],
        )  # fmt: skip


_KINDS: dict[str, Callable[[VideoInfo], bool]] = {
    "hdr": lambda info: info.light != "sdr",
    "interlaced": lambda info: info.interlaced,
    "alpha": lambda info: info.alpha,
    "pixel-aspect": lambda info: not is_sensible(info.stated_aspect),
    "stored": lambda info: info.pixel_aspect != 1,
}
"""Of a kind of picture_findings: whether a video is meant."""


def pictures(data: Dataset, command: CheckData) -> Iterator[Finding]:
    known = data.readable()
    if not known:
        return
    counts = count_pictures(InfoColumns.of([info for _, info in known]))
    stored = "--data.pixel-aspect stored" if reads_stored(clip_config(command)) else None
    for note in picture_findings(counts, stored):
        rows = [row for row, info in known if _KINDS[note.kind](info)]
        yield Finding(
            note.kind, "warning", f"{note.summary[0].upper()}{note.summary[1:]}.",
            note.remedy or "harmless where they look right",
            [data.names[row] for row in rows] if len(rows) < len(known) else [],
            [data.video(row) for row in rows],
        )  # fmt: skip


def frame_sizes(data: Dataset, command: CheckData) -> Iterator[Finding]:
    known = data.readable()
    if not known:
        return
    shorts = {row: min(info.shown_width, info.height) for row, info in known}
    middle = float(np.median(list(shorts.values())))
    odd: list[tuple[int, str]] = []
    small: list[tuple[int, str]] = []
    for row, info in known:
        size, short = f"{info.width} x {info.height} px", shorts[row]
        if short < TINY:
            odd.append((row, f"{size}: too small to see anything in"))
        elif max(info.shown_width, info.height) > EXTREME_ASPECT * short:
            odd.append((row, f"{size}: so long that a crop sees little of it"))
        elif not middle / ODD_SIZE < short < middle * ODD_SIZE:
            odd.append((row, f"{size}, where the others have a short side of {middle:g}"))
        if TINY <= short < command.crop_size:
            small.append((row, size))
    if odd:
        yield Finding(
            "sizes", "warning",
            f"{len(odd)} of {len(known)} videos are of an odd size.",
            "look at them: are they what they should be?",
            [f"{data.names[row]}: {what}" for row, what in odd],
            [{**data.video(row), "size": what} for row, what in odd],
        )  # fmt: skip
    if small:
        side = max(TINY, int(middle) // 32 * 32)
        remedy = "harmless where they are few"
        if len(small) > len(known) / 2 and side < command.crop_size:
            remedy = (
                f"--data.crop-size {side} --data.short-side {side} {round(side * 1.25)} costs "
                f"{(side / command.crop_size) ** 2:.0%} of the time and may lose nothing"
            )
        yield Finding(
            "upscaled", "warning",
            f"{len(small)} of {len(known)} videos have a short side below the crop's "
            f"{command.crop_size} px: they are enlarged, which adds nothing.",
            remedy,
            [f"{data.names[row]}: {size}" for row, size in small],
            [{**data.video(row), "size": size} for row, size in small],
        )  # fmt: skip
