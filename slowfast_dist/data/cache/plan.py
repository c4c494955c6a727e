"""How many bytes of decoded frames a training keeps on a host, where, and what is said of that."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.data import DataConfig, cache_bytes
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.cache.frames import (
    ASKED_EPOCHS,
    IMAGE_BYTES,
    USUAL_BYTES,
    FrameCache,
    decoding_cost,
    decoding_seconds,
    is_paid,
)
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.system.files import free_space, reason_of
from slowfast_dist.system.memory import available_memory
from slowfast_dist.system.messages import sendable
from slowfast_dist.system.text import size
from slowfast_dist.video.cache.store import FrameStore
from slowfast_dist.video.reader import IMAGES

MEMORY_SHARE = 0.2
"""Share of the memory free when the loaders are made that `auto` takes at most: the steps, whose
need nobody knows yet, and the workers, which may take a quarter, come first."""

BESIDE_STEPS = 0.1
"""The same where the steps' size was chosen so that they may take .8 of it (--micro-batch-size auto
on a CPU): half of the rest."""

LEFT_SHARE = 0.1
"""Share of that memory that must be free whenever more is kept: steps and workers take theirs in
the first epoch, while the cache fills."""

DISK_SHARE = 0.5
"""Share of a disk's free space that `auto` takes at most: the run saves checkpoints, too."""

LEAST_SHARE = 0.1
"""Share of all frames below which `auto` keeps none: it would save no more than that of an epoch's
reading."""


@sendable
@dataclass(frozen=True)
class CachePlan:
    """``budget``: bytes; 0: no cache. ``line``: what was chosen, for people; ``reserve``: bytes
    left to the validation, which needs fewer for each clip; the others as in `FrameCache`."""

    budget: int
    line: str
    folder: Path | None = None
    least: int = 0
    reserve: float = 0.0
    memory_left: float = 0.0


def plan_cache(
    data: DataConfig, train: VideoTable, val: VideoTable, epochs: int, clips: int = 1,
    share: float = MEMORY_SHARE,
) -> CachePlan:  # fmt: skip
    """For a training of ``epochs`` with ``clips`` of each video in an evaluation, by what is free
    on this host now; ``share``: of memory, at most, that `auto` takes. Raises UserError for a size
    that does not fit, or a folder that cannot be used."""
    if data.cache == "off":
        return CachePlan(0, "")
    given, folder = f"--data.cache {data.cache}", data.cache_dir

    def none(why: str) -> CachePlan:
        return CachePlan(0, f"decoded frames are not kept ({given}): {why}")

    if sys.platform != "linux":
        return none("only Linux can")
    if epochs == 1:
        return none("nothing is read again in a training of one epoch")
    budget = cache_bytes(data.cache)
    least = 0 if budget is None else ASKED_EPOCHS
    trained = training_bytes(train, data, max(epochs - 1, least))
    scored = shown_bytes(val, data, clips)
    needed = int(trained + scored)
    if not needed:
        return none("the epochs would not pay for it")
    free, left = _free(folder)
    where = f"on the disk of {folder}" if folder else "in memory"
    if budget is None:
        budget = int((DISK_SHARE if folder else share) * free)
        if budget < LEAST_SHARE * needed:
            other = "" if folder else "; --data.cache-dir keeps them on a local disk"
            return none(
                f"{size(budget)} are to be had {where}, and all take about {size(needed)}{other}"
            )
    elif budget > free:
        raise UserError(f"{given}: {size(int(free))} are free {where}: give less, or auto")
    whose = "all that clips show" if trained else "those that are validated, as others do not pay"
    what = f"about {size(needed)}, {whose} ({given}: at most {size(budget)})"
    if budget < needed:
        what = f"{size(budget)}, the first that fit; all take about {size(needed)} ({given})"
    line = f"decoded frames are kept {where}: {what}"
    return CachePlan(budget, line, folder, least, min(scored, budget / 2), left)


def _free(folder: Path | None) -> tuple[float, float]:
    """Bytes that are free, and those of memory that must stay so."""
    if folder is None:
        memory = available_memory(1)
        return memory, LEFT_SHARE * memory
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, error) from None
    return float(free_space(folder) or 0), 0.0


def _unusable(folder: Path, error: OSError) -> UserError:
    return UserError(f"--data.cache-dir {folder}: {reason_of(error)}: give another folder")


def training_bytes(videos: VideoTable, data: DataConfig, epochs: int) -> float:
    """Of all frames that training keeps where there is room and so many ``epochs`` follow;
    estimated for each row."""
    frames, pixels, images = _frames_and_pixels(videos)
    lengths = frames
    if videos.segments is not None and videos.segments.spans is not None:
        parts = videos.segments.spans[:, 1] - videos.segments.spans[:, 0]
        lengths = np.where(np.isnan(videos.segments.bounds[:, 0]), frames, parts)
    if data.sampling == "uniform":
        kept = np.minimum(lengths, data.num_frames)
    else:
        assert videos.infos is not None
        groups = videos.infos.columns["key_interval"].astype(np.int64)
        groups = np.where(groups > 0, groups, frames)
        rates = videos.rates()
        steps = np.ones(len(videos))
        if data.frame_rate != "video":
            steps = np.where(rates > 0, rates / data.frame_rate, 1.0)
        spans = np.minimum(frames, steps * data.sampling_rate * (data.num_frames - 1) + 1)
        spans = np.where(images, np.minimum(frames, data.num_frames), spans)
        costs = decoding_cost(lengths, frames, np.where(images, 0, groups), spans)
        seconds = decoding_seconds(lengths, videos.infos.columns["decode_ms"], pixels)
        kept = np.where(is_paid(costs, seconds, epochs), lengths, 0)
    return float((np.where(images, IMAGE_BYTES, USUAL_BYTES) * pixels * kept).sum())


def shown_bytes(videos: VideoTable, data: DataConfig, clips: int) -> float:
    """Of all frames that ``clips`` of each video show, at most."""
    frames, pixels, images = _frames_and_pixels(videos)
    kept = np.minimum(frames, clips * data.num_frames)
    return float((np.where(images, IMAGE_BYTES, USUAL_BYTES) * pixels * kept).sum())


def _frames_and_pixels(
    videos: VideoTable,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Of each row's file, and whether it is a folder of images; (N,)."""
    assert videos.infos is not None
    columns, codecs = videos.infos.columns, videos.infos.texts["codec"]
    images = np.isin(columns["codec"], [at for at, name in enumerate(codecs) if name == IMAGES])
    height, width = (columns[name].astype(np.int64) for name in ("height", "width"))
    return columns["frames"].astype(np.int64), height * width, images


# --- the store, and each dataset's part of it ----------------------------------------------------


def make_store(
    plan: CachePlan, data: DataConfig, train: VideoTable, val: VideoTable
) -> tuple[CachePlan, FrameStore | None]:
    """The store of a plan, if it has one; `auto` in memory does without where none can be made.
    Raises UserError where one was asked for."""
    if not plan.budget:
        return plan, None
    frames = np.concatenate([file_frames(train), file_frames(val)])
    try:
        return plan, FrameStore.create(frames, plan.budget, plan.folder)
    except OSError as error:
        given, why = f"--data.cache {data.cache}", reason_of(error)
        if plan.folder is not None:
            raise _unusable(plan.folder, error) from None
        if data.cache != "auto":
            raise UserError(f"{given}: cannot be had here ({why}): give auto, or off") from None
        return CachePlan(0, f"decoded frames are not kept ({given}): {why}"), None


def parts_of(
    store: FrameStore, plan: CachePlan, train: VideoTable, epochs: int
) -> tuple[FrameCache, FrameCache]:
    """Of the training's and of the validation's files."""
    first = len(file_frames(train))
    return (
        FrameCache(store, 0, epochs, plan.least, plan.reserve, plan.memory_left),
        FrameCache(store, first, epochs, memory_left=plan.memory_left),
    )


def file_frames(videos: VideoTable) -> NDArray[np.int64]:
    """Frames of each file, (F,), by the number that its rows have in a dataset."""
    assert videos.infos is not None
    frames = videos.infos.columns["frames"].astype(np.int64)
    if videos.segments is None:
        return frames
    result = np.zeros(int(videos.segments.files.max(initial=-1)) + 1, np.int64)
    result[videos.segments.files] = frames
    return result
