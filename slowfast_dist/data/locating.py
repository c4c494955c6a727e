"""Segments and the files that they are of, held against each other once these were probed."""

from dataclasses import dataclass, field, replace
from math import isnan

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.annotations.labels import Remark
from slowfast_dist.annotations.segments import box_cells, seconds_text
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.segments import (
    CUT,
    OUTSIDE,
    UNTIMED,
    frames_or_times,
    locate,
    outside_reason,
    overlap_remark,
)
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.video.views import Box, region_of, used_aspect

MOST_OUTSIDE = 0.5
"""Share of the segments that may lie outside of their files: more are no slip of a few rows, but
times of other files, or numbers that are no seconds."""

UNTIMED_REASON = "its file tells neither times nor a frame rate: the segment cannot be found in it"


@dataclass(frozen=True)
class Placed:
    """``videos`` with the frames of each segment; ``inside`` (N,): those that have some;
    ``reasons``: why the others have not, by row; ``remarks``: what is to be said of it."""

    videos: VideoTable
    inside: NDArray[np.bool_]
    reasons: dict[int, str]
    remarks: tuple[Remark, ...] = ()
    cut: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Rows that end behind the end of their file, and are cut there."""
    beyond: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Rows whose region of interest reaches beyond the picture, and is cut there."""


def place_segments(
    videos: VideoTable, readable: NDArray[np.bool_], where: str, crop_box: Box | None = None,
    background: int = -1,
) -> Placed:  # fmt: skip
    """Find the frames of each segment of the ``readable`` files (N,), and look at the regions of
    interest.

    ``where``: the flag and file that named them, for a message; ``crop_box`` that of rows without
    one of their own; ``background``: the label of rows that may lie over others, as these are what
    is not background. Raises UserError where most of the segments lie outside of their files, and
    where a region of interest lies outside of its picture.
    """
    beyond, said = _check_boxes(videos, readable, where, crop_box)
    placed = _place(videos, readable, where, background)
    return replace(placed, beyond=beyond, remarks=(*placed.remarks, *said))


def _check_boxes(
    videos: VideoTable, readable: NDArray[np.bool_], where: str, crop_box: Box | None
) -> tuple[NDArray[np.int64], list[Remark]]:
    """Which rows have a region of interest that reaches beyond the picture, and what is to be said
    of them. Raises UserError for one outside of it."""
    segments = videos.segments
    if crop_box is None and (segments is None or segments.boxes is None):
        return np.empty(0, np.int64), []
    assert videos.infos is not None
    height, width, stated = (
        videos.infos.columns[name].tolist() for name in ("height", "width", "stated_aspect")
    )
    beyond, known = list[int](), dict[tuple[Box, int, int, float], bool]()
    for row in np.flatnonzero(readable).tolist():
        box = crop_box if segments is None or isnan(segments.box(row)[0]) else segments.box(row)
        if box is None:
            continue
        key = box, height[row], width[row], used_aspect(stated[row])
        if key not in known:
            try:
                known[key] = region_of(*key)[1]
            except ValueError as error:
                own = segments is not None and not isnan(segments.box(row)[0])
                raise _outside(videos, row, box, own, where, error) from None
        if known[key]:
            beyond.append(row)
    said = []
    if beyond:
        said.append(Remark(
            "warning", "boxes-cut",
            f"{len(beyond)} of {len(videos)} regions of interest reach beyond their pictures and "
            f"are cut there, as {videos.sample(beyond[0])}",
            "harmless where it is little; are they of pictures of another size?",
        ))  # fmt: skip
    return np.array(beyond, np.int64), said


def _outside(
    videos: VideoTable, row: int, box: Box, own: bool, where: str, error: ValueError
) -> UserError:
    """Of a row whose region of interest, its ``own`` or that of all, holds no pixel."""
    segments, named = videos.segments, ",".join(box_cells(box))
    if not own:
        flag = "--data.crop-box" if where.startswith("--data.") else "the run's crop_box"
        return UserError(
            f"{flag} {named.replace(',', ' ')}: {videos.names[row]}: it {error}; correct it"
        )
    if segments is not None and segments.lines is not None:
        where += f", line {segments.lines[row]}"
    return UserError(f"{where}: {videos.names[row]}: x,y,w,h {named} {error}; correct it")


def _place(
    videos: VideoTable, readable: NDArray[np.bool_], where: str, background: int
) -> Placed:
    segments = videos.segments
    if segments is None or not segments.any_part:
        return Placed(videos, np.ones(len(videos), np.bool_), {})
    spans = np.zeros((len(videos), 2), np.int32)
    states = np.zeros(len(videos), np.int8)
    lasting = np.zeros(len(videos))
    for rows in _rows_of_files(videos, readable):
        found = locate(videos.info(int(rows[0])), segments.bounds[rows])
        spans[rows], states[rows], lasting[rows] = found.spans, found.states, found.seconds
    outside = np.flatnonzero(states == OUTSIDE)
    if len(outside) > MOST_OUTSIDE * max(1, int(readable.sum())):
        raise _all_wrong(videos, outside, lasting, where)
    reasons = {
        row: outside_reason(float(segments.bounds[row, 0]), float(lasting[row]))
        for row in outside.tolist()
    } | dict.fromkeys(np.flatnonzero(states == UNTIMED).tolist(), UNTIMED_REASON)
    inside = np.ones(len(videos), np.bool_)
    inside[list(reasons)] = False
    cut = np.flatnonzero(states == CUT)
    remarks = tuple(_remarks(videos, cut, outside, lasting))
    said = None
    if videos.sets is None:  # else each has its own labels, and those of what covers it
        actions = np.flatnonzero(videos.labels != background)
        said = overlap_remark(
            segments.take(actions), videos.labels[actions],
            lambda place: videos.sample(int(actions[place])),
        )  # fmt: skip
    remarks = (*remarks, said) if said else remarks
    return Placed(videos.located(spans), inside, reasons, remarks, cut)


def _rows_of_files(videos: VideoTable, readable: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """The readable rows of each file together."""
    assert videos.segments is not None
    rows = np.flatnonzero(readable)
    files = videos.segments.files[rows]
    order = np.argsort(files, kind="stable")
    cuts = np.flatnonzero(np.diff(files[order])) + 1
    return [part for part in np.split(rows[order], cuts) if len(part)]


def _all_wrong(
    videos: VideoTable, outside: NDArray[np.int64], lasting: NDArray[np.float64], where: str
) -> UserError:
    """What to say where most segments are not in their files: the first one, and a guess why."""
    segments, row = videos.segments, int(outside[0])
    assert segments is not None
    if segments.lines is not None:
        row = int(outside[np.argmin(segments.lines[outside])])
        where += f", line {segments.lines[row]}"
    remedy = "are they times of another file? correct path, start or end"
    if _are_frames(videos, outside, lasting):
        rate = videos.info(row).mean_rate()
        remedy = f"they look like numbers of frames: divide them by the frames a second ({rate:g})"
    start, seconds = float(segments.bounds[row, 0]), float(lasting[row])
    return UserError(
        f"{where}: start {seconds_text(start)} is behind the end of {videos.names[row]}, which "
        f"lasts {seconds:.6g} s, and so in {len(outside)} of {len(videos)} rows; {remedy}"
    )


def _are_frames(
    videos: VideoTable, outside: NDArray[np.int64], lasting: NDArray[np.float64]
) -> bool:
    assert videos.segments is not None
    return all(
        frames_or_times(
            videos.segments.bounds[row], float(lasting[row]), videos.info(row).mean_rate()
        )
        for row in outside.tolist()
    )


def _remarks(
    videos: VideoTable, cut: NDArray[np.int64], outside: NDArray[np.int64],
    lasting: NDArray[np.float64],
) -> list[Remark]:  # fmt: skip
    assert videos.segments is not None
    said, total = list[Remark](), len(videos)
    if len(cut):
        beyond = videos.segments.bounds[cut, 1] - lasting[cut]
        worst = int(cut[beyond.argmax()])
        said.append(Remark(
            "warning", "segments-cut",
            f"{len(cut)} of {total} segments end behind the end of their videos and are cut there, "
            f"as {videos.sample(worst)} by {beyond.max():.3g} s",
            "harmless where it is little",
        ))  # fmt: skip
    if len(outside):
        row = int(outside[0])
        guess = "their times are of another file"
        if _are_frames(videos, outside, lasting):
            guess = "their times are numbers of frames"
        reason = outside_reason(float(videos.segments.bounds[row, 0]), float(lasting[row]))
        said.append(Remark(
            "warning", "segments-outside",
            f"{len(outside)} of {total} segments lie outside of their videos and are left out, as "
            f"{videos.sample(row)}: it {reason}",
            f"see whether {guess}",
        ))  # fmt: skip
    return said
