"""A class of background: clips of what lies between the segments of annotated videos."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import inf

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.annotations.labels import Remark, sort_labels
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.background.gaps import Annotated, Gap, Part, gaps_of_file, windows
from slowfast_dist.data.clips import clip_indices, clip_seconds
from slowfast_dist.data.listing.columns import Categorical
from slowfast_dist.data.listing.segments import Segments, locate
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.system.messages import sendable
from slowfast_dist.video.reader import VideoInfo

LEAST_SHARE = 0.5
"""Share of a clip's length that a gap must have: a clip of a shorter one would be more of its last
frame, repeated, than of the gap. With short_segments context, which shows what is around, it is all
of a clip, as around a gap are the segments."""


@sendable
@dataclass(frozen=True)
class Background:
    """The rows of a training's table from ``first`` on are gaps, of the class ``label``; an epoch
    has ``clips`` of them, each of a part of ``seconds`` that is drawn anew."""

    label: int
    first: int
    clips: int
    seconds: float

    def lengths(self, videos: VideoTable) -> NDArray[np.float64]:
        """Seconds of the gaps up to and with each (G,)."""
        assert videos.segments is not None
        return np.cumsum(np.diff(videos.segments.bounds[self.first :], axis=1)[:, 0])

    def row_of(self, lengths: NDArray[np.float64], rng: np.random.Generator) -> int:
        """A gap, by chance as often as it is long; ``lengths`` as above."""
        place = int(np.searchsorted(lengths, rng.random() * lengths[-1], "right"))
        return self.first + min(place, len(lengths) - 1)

    def part(
        self, info: VideoInfo, data: DataConfig, span: tuple[int, int], rng: np.random.Generator
    ) -> tuple[int, int]:
        """Frames of a part of a gap with the frames ``span``: its first and the one behind its
        last."""
        first, end = span
        seconds = max(self.seconds, clip_seconds(info, data))
        frames = min(end - first, max(1, round(seconds * info.mean_rate())))
        start = first + int(rng.integers(end - first - frames + 1))
        return start, start + frames


@dataclass
class SideGaps:
    """The gaps of the files of ``videos``, and how many were left out."""

    videos: VideoTable
    gaps: list[tuple[Gap, int]] = field(default_factory=list)
    """Each with a row of ``videos`` beside it."""
    short: int = 0
    """Gaps that are too short."""
    between: int = 0
    """Gaps between rows of two sides, or beside a row of none."""
    stated: int = 0
    """Rows that say where background is."""

    @property
    def seconds(self) -> float:
        return sum(gap.seconds for gap, _ in self.gaps)

    @property
    def files(self) -> int:
        assert self.videos.segments is not None
        return len({int(self.videos.segments.files[row]) for _, row in self.gaps})

    def counted(self) -> str:
        """As 24 gaps of 6 files (52.1 s)."""
        gaps, files = len(self.gaps), self.files
        return (
            f"{gaps} gap{'s' * (gaps != 1)} of {files} file{'s' * (files != 1)} "
            f"({self.seconds:.1f} s)"
        )


def find_gaps(
    annotated: Annotated, sides: Sequence[VideoTable], name: str, data: DataConfig,
    other: Annotated | None = None,
) -> list[SideGaps]:  # fmt: skip
    """The gaps of the files of each of the ``sides``, whose rows are some of the list's, probed and
    located. Those of the list's class ``name`` say where background is, in files that have some;
    what an ``other`` list has of the same files is no gap either."""
    places: dict[_Key, tuple[int, int]] = {}  # by row of the list: side, and row there
    infos: dict[int, tuple[VideoInfo, int]] = {}  # by file: what it holds, and a side of it
    for number, videos in enumerate(sides):
        assert videos.segments is not None
        places |= {key: (number, row) for row, key in enumerate(_keys(videos))}
        _, first = np.unique(videos.segments.files, return_index=True)
        infos |= {
            int(videos.segments.files[row]): (videos.info(row), number) for row in first.tolist()
        }
    found = [SideGaps(videos) for videos in sides]
    elsewhere = {} if other is None else dict(_by_path(other, name))
    rows = [places.get(key, (-1, 0)) for key in _keys(annotated.videos)]
    for path, file, segments, stated in _by_file(annotated, name, rows):
        if file not in infos or (annotated.of_run and name in annotated.classes and not stated):
            continue
        info, side = infos[file]
        if path in elsewhere:
            own = {part[:2] for part in segments}
            segments += [part for part in elsewhere[path] if part[:2] not in own]
        gaps = gaps_of_file(segments, stated, info.duration(), data.margin)
        least = max(1e-3, clip_seconds(info, data) * _least_share(data))
        found[side].between += sum(gap.seconds >= least for gap in gaps.between)
        for number, some in gaps.of_side.items():
            usable = {gap[:2]: gap for gap in some if gap.seconds >= least}  # each time once
            found[number].short += sum(gap.seconds < least for gap in some)
            found[number].gaps += [(gap, rows[gap.row][1]) for gap in usable.values()]
        for part in stated:
            found[part.side].stated += part.side >= 0
    return found


_Key = tuple[float, ...]


def _keys(videos: VideoTable) -> list[_Key]:
    """What tells rows of one list apart, whatever was selected of them and however classes are
    numbered since: file, times, line and region of interest. Lines alone do not: many rows of
    another tool's file have none, or the same."""
    segments = videos.segments
    assert segments is not None and segments.lines is not None
    boxes = np.empty((len(videos), 0)) if segments.boxes is None else segments.boxes
    columns = np.column_stack([segments.files, segments.bounds, segments.lines, boxes])
    return [tuple(row) for row in np.nan_to_num(columns, nan=-1.0).tolist()]


def _least_share(data: DataConfig) -> float:
    return LEAST_SHARE if data.short_segments == "repeat" else 1.0


def _by_file(
    annotated: Annotated, name: str, places: Sequence[tuple[int, int]] | None
) -> Iterator[tuple[str, int, list[Part], list[Part]]]:
    """Of each file of a list its path, its number, its segments, and the rows of the class ``name``
    of background. ``places``: of each row its side, and the row there; None: all are on none."""
    videos, segments = annotated.videos, annotated.videos.segments
    assert segments is not None
    label = annotated.classes.index(name) if name in annotated.classes else -1
    order = np.argsort(segments.files, kind="stable")
    cuts = np.flatnonzero(np.diff(segments.files[order])) + 1
    bounds = np.nan_to_num(segments.bounds, nan=0.0)
    bounds[np.isnan(segments.bounds[:, 1]), 1] = inf
    for rows in np.split(order, cuts):
        parts: tuple[list[Part], list[Part]] = [], []
        columns = (bounds[rows].tolist(), rows.tolist(), (videos.labels[rows] == label).tolist())
        for (start, end), row, is_background in zip(*columns, strict=True):
            side, _ = (-1, 0) if places is None else places[row]
            parts[is_background].append(Part(start, end, row, side))
        row = int(rows[0])
        yield os.path.abspath(videos.path(row)), int(segments.files[row]), *parts


def _by_path(other: Annotated, name: str) -> Iterator[tuple[str, list[Part]]]:
    for path, _, segments, _ in _by_file(other, name, None):
        yield path, segments


# --- from the gaps to samples --------------------------------------------------------------------


def with_gaps(side: SideGaps, label: int, gaps: Sequence[tuple[Gap, int]]) -> VideoTable:
    """The side's rows without those of the class ``label`` of background, and ``gaps`` of its files
    as further rows of that."""
    videos, segments = side.videos, side.videos.segments
    assert segments is not None
    own = np.flatnonzero(videos.labels != label)
    rows = np.concatenate([own, np.array([row for _, row in gaps], np.int64)])
    table, taken, first = videos.select(rows), segments.take(rows), len(own)
    bounds = taken.bounds.copy()
    bounds[first:] = np.array([gap[:2] for gap, _ in gaps]).reshape(-1, 2)
    spans = np.zeros((len(rows), 2), np.int32) if taken.spans is None else taken.spans.copy()
    # Gaps of one file follow each other.
    cuts = first + 1 + np.flatnonzero(np.diff(taken.files[first:]))
    for some in np.split(np.arange(first, len(rows)), cuts - first):
        if len(some):
            spans[some] = locate(table.info(int(some[0])), bounds[some]).spans
    subjects = taken.subjects
    if subjects is not None:  # nobody is seen there
        told = [*subjects.take(np.arange(first)), *(len(rows) - first) * [""]]
        subjects = Categorical.of(told) if any(told) else None
    weights = table.weights
    if weights is not None:  # of a gap beside a segment it is not that one's
        beside = (np.arange(len(rows)) >= first) & (table.labels != label)
        weights = np.where(beside, np.float32(1), weights)
    labels = table.labels.copy()
    labels[first:] = label
    return replace(
        table, labels=labels, weights=weights,
        segments=Segments(taken.files, bounds, taken.lines, subjects, spans, taken.boxes),
    )  # fmt: skip


def clips_wanted(videos: VideoTable, label: int, share: float | None) -> int:
    """Clips of the class ``label`` of background: as many as the median of the other classes has,
    or ``share`` of all."""
    others = videos.labels[videos.labels != label]
    if share is not None:
        return max(1, round(share / (1 - share) * len(others)))
    counts = np.bincount(others)
    return max(1, round(float(np.median(counts[counts > 0])))) if len(others) else 1


def fixed_parts(
    side: SideGaps, seconds: float, count: int, data: DataConfig, seed: int
) -> list[tuple[Gap, int]]:
    """Of a validation: up to ``count`` parts of ``seconds`` of the gaps, none over another, drawn
    by ``seed``."""
    assert side.videos.segments is not None
    parts, least = list[tuple[Gap, int]](), dict[int, float]()  # by file
    for gap, row in side.gaps:
        if (file := int(side.videos.segments.files[row])) not in least:
            info = side.videos.info(row)
            # A frame more than a clip: it may begin within one.
            least[file] = max(seconds, clip_seconds(info, data) + 1 / info.mean_rate())
        parts += [(part, row) for part in windows(gap, least[file])]
    chosen: list[int] = []
    for place in np.random.default_rng([seed, len(parts)]).permutation(len(parts)).tolist():
        part, row = parts[place]
        info = side.videos.info(row)
        [(first, end)] = locate(info, np.array([part[:2]])).spans.tolist()
        clip = clip_indices(info, data, 0.5, (first, end))
        if first <= clip.min() and clip.max() < end:  # not what is around a gap
            chosen.append(place)
        if len(chosen) == count:
            break
    return [parts[place] for place in sorted(chosen)]


def with_label(
    classes: Sequence[str], name: str, order: Sequence[str] | None = None
) -> tuple[str, ...]:
    """The classes with the background's, in their order, or in ``order`` where these are they."""
    known = sort_labels({*classes, name})
    return tuple(order) if order is not None and sorted(order) == sorted(known) else known


@dataclass(frozen=True)
class ScoredBackground:
    """How an evaluation takes a model's class ``name`` of background from a list: as the training's
    validation did, by its ``data``, in parts of ``seconds``, and drawn by its ``seed``. ``other``:
    of the run's own validation, the list of its training, whose segments are no background
    either."""

    name: str
    data: DataConfig
    seconds: float
    seed: int = 0
    other: Annotated | None = None

    def added(
        self, annotated: Annotated, videos: VideoTable, classes: Sequence[str]
    ) -> tuple[VideoTable, Remark]:
        """The videos, rows of the list with labels of the ``classes``, with parts of their gaps."""
        label = list(classes).index(self.name)
        [side] = find_gaps(annotated, (videos,), self.name, self.data, self.other)
        wanted = clips_wanted(videos, label, self.data.background_share)
        parts = fixed_parts(side, self.seconds, wanted, self.data, self.seed)
        what = f"background {self.name!r}: {side.counted()}, of which {len(parts)} clips are scored"
        remark = Remark("info", "background", what + _left_out((side,), self.data))
        return with_gaps(side, label, parts), remark


@dataclass(frozen=True)
class WithBackground:
    """Classes and tables of a training with its background, and what the user should know."""

    classes: tuple[str, ...]
    train: VideoTable
    val: VideoTable
    background: Background
    remarks: tuple[Remark, ...]


def add_background(
    annotated: tuple[Annotated | None, Annotated | None], train: VideoTable, val: VideoTable,
    classes: Sequence[str], data: DataConfig, seed: int, order: Sequence[str] | None,
) -> WithBackground:  # fmt: skip
    """Both sides with their gaps; ``annotated``: the list of each, one object where it is the same.

    Raises UserError, naming the flag, where the training side has no gap.
    """
    name, (first, second) = data.background, annotated
    assert name is not None
    if first is None or train.segments is None:
        raise UserError(
            f"--data.background {name}: is for lists with start and end of segments, between which "
            "it lies: leave it out, or give videos of such a class"
        )
    for one in annotated:
        if one is not None:
            one.require_all(f"--data.background {name}")
    known = with_label(classes, name, order)
    label, labels = known.index(name), np.array([known.index(one) for one in classes], np.int32)
    train, val = (replace(side, labels=labels[side.labels]) for side in (train, val))
    if second is first:
        gaps, val_gaps = find_gaps(first, (train, val), name, data)
    else:
        [gaps] = find_gaps(first, (train,), name, data, second)
        val_gaps = SideGaps(val)
        if second is not None and val.segments is not None:
            [val_gaps] = find_gaps(second, (val,), name, data, first)
    if not gaps.gaps:
        raise UserError(
            f"--data.background {name}: the training videos have no gap to draw from"
            f"{_left_out((gaps,), data)}: lower --data.margin or --data.num-frames, or add rows of "
            f"the label {name} where nothing happens"
        )
    table = with_gaps(gaps, label, gaps.gaps)
    own = len(table) - len(gaps.gaps)
    seconds = table.select(np.arange(own)).median_seconds() or 0.0
    clips = clips_wanted(table, label, data.background_share)
    background = Background(label, own, clips, seconds)
    parts: list[tuple[Gap, int]] = []
    if val_gaps.gaps:
        wanted = clips_wanted(val, label, data.background_share)
        parts = fixed_parts(val_gaps, seconds, wanted, data, seed)
    if val.segments is not None:
        val = with_gaps(val_gaps, label, parts)
    remarks = _remarks(name, data, gaps, val_gaps, background, len(parts))
    return WithBackground(known, table, val, background, tuple(remarks))


def _remarks(
    name: str, data: DataConfig, train: SideGaps, val: SideGaps, background: Background, parts: int
) -> Iterator[Remark]:
    how = "as the median class" if data.background_share is None else (
        f"{data.background_share:g} of all"
    )  # fmt: skip
    yield Remark(
        "info", "background",
        f"background {name!r}: {train.counted()} for training, {background.clips} clips an epoch "
        f"({how}), and {val.counted()} for validation, {parts} clips"
        f"{_left_out((train, val), data)}",
    )  # fmt: skip
    if stated := train.stated + val.stated:
        yield Remark(
            "info", "background-stated",
            f"{stated} rows of the label {name!r} say where background is; in their files it is "
            "nowhere else",
        )
    places = sum(len(windows(gap, max(background.seconds, 1e-3))) for gap, _ in train.gaps)
    if background.clips > 2 * places:
        yield Remark(
            "warning", "background-scarce",
            f"background {name!r}: {background.clips} clips an epoch are of {train.seconds:.1f} s "
            f"of gaps, where {places} of a segment's length lie beside each other",
            "a smaller --data.background-share, or more files",
        )  # fmt: skip
    if not parts:
        yield Remark(
            "warning", "unscored-class",
            f"no validation video of class {name!r}: it is scored with support 0",
            "lower --data.margin, or add files with gaps",
        )  # fmt: skip


def _left_out(sides: Sequence[SideGaps], data: DataConfig) -> str:
    short, between = (sum(getattr(side, name) for side in sides) for name in ("short", "between"))
    why = []
    if short:
        share = "half a clip" if _least_share(data) < 1 else "a clip"
        why.append(f"{short} shorter than {share} ({data.margin:g} s around segments are none)")
    if between:
        why.append(f"{between} between segments of two sides")
    return f"; left out: {', '.join(why)}" if why else ""
