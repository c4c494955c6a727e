"""CPU time to read a clip: ours by decoder, the plain way, the bare decode; and where ours goes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

from slowfast_dist.benchmark.bare_decode import (
    STAGES,
    Times,
    decode_bare,
    frame_times,
    stage_seconds,
)
from slowfast_dist.benchmark.output import ratio_of_medians
from slowfast_dist.benchmark.plain import PlainClips, drawn_clip, plain_reader
from slowfast_dist.config import DataConfig
from slowfast_dist.cpu_time import Cost, cost_of
from slowfast_dist.data.columns import InfoColumns
from slowfast_dist.data.dataset import TrainingClips
from slowfast_dist.data.opening import DecodeError
from slowfast_dist.data.sampler import ClipKey
from slowfast_dist.data.video import VideoInfo
from slowfast_dist.data.video_table import VideoTable

SEED = 0

Decoder = Literal["auto", "decord", "pyav"]
DECODERS: tuple[Decoder, ...] = ("pyav", "decord", "auto")
PREPARED = "auto, after prepare"


@dataclass(frozen=True)
class Video:
    path: Path
    info: VideoInfo


@dataclass(frozen=True)
class Group:
    """Videos of one kind: what they are for people, and their numbers among all."""

    name: str
    facts: dict[str, Any]
    members: list[int]

    def keys(self, count: int) -> Iterator[ClipKey]:
        """Of ``count`` clips, taken from the videos in turn."""
        for number in range(count):
            epoch, member = divmod(number, len(self.members))
            yield ClipKey(epoch, self.members[member])


@dataclass
class GroupCosts:
    """Of each clip that all ways could read: its cost by way, and our stages' CPU seconds."""

    costs: dict[str, list[Cost]] = field(default_factory=dict)
    stages: list[dict[str, float] | None] = field(default_factory=list)
    """None where they cannot be told apart."""
    unreadable: list[str] = field(default_factory=list)
    """Why clips were left out."""


def training_clips(videos: Sequence[Video], data: DataConfig) -> TrainingClips:
    """The clips as training reads them, in the order of ``videos``."""
    table = VideoTable.of_paths([video.path for video in videos])
    infos = InfoColumns.of([video.info for video in videos])
    return TrainingClips(table.probed(infos), data, SEED)


def plain_clips(videos: Sequence[Video], data: DataConfig) -> PlainClips:
    """The same clips, read the plain way."""
    return PlainClips([(video.path, video.info) for video in videos], data, SEED)


class ClipBenchmark:
    """All ways to read the same clips, which take turns so that a change of the machine's speed in
    the meantime meets them alike."""

    def __init__(
        self, videos: Sequence[Video], prepared: Sequence[Video] | None, data: DataConfig
    ) -> None:
        """``prepared``: the same videos after prepare."""
        self.videos = videos
        self.data = data
        self._plain = plain_clips(videos, data)
        self._times: dict[int, Times | None] = {}
        self._ours: dict[str, TrainingClips] = {
            name: training_clips(videos, replace(data, decoder=name)) for name in DECODERS
        }
        if prepared is not None:
            self._ours[PREPARED] = training_clips(prepared, replace(data, decoder="auto"))

    def warm_up(self, key: ClipKey) -> None:
        """Load the libraries and start our readers' processes."""
        for way in self._ways(key).values():
            way()

    def measure(self, group: Group, clips: int) -> GroupCosts:
        """Read ``clips`` clips of the group in every way."""
        result = GroupCosts()
        for turn, key in enumerate(group.keys(clips)):
            try:
                ways = self._ways(key)
                names = list(ways)
                order = names[turn % len(names) :] + names[: turn % len(names)]
                if turn % 2:  # none comes always after the same one
                    order.reverse()
                costs = {name: cost_of(ways[name]) for name in order}
            except DecodeError as error:
                result.unreadable.append(str(error))
                continue
            for name in names:
                result.costs.setdefault(name, []).append(costs[name])
            result.stages.append(self._stages(key))
        # A way that some videos rule out has no place beside those that read them all.
        done = max(map(len, result.costs.values()), default=0)
        result.costs = {name: all_ for name, all_ in result.costs.items() if len(all_) == done}
        return result

    def _ways(self, key: ClipKey) -> dict[str, Callable[[], object]]:
        video = self.videos[key.sample]
        ways: dict[str, Callable[[], object]] = {"plain": lambda: self._plain[key]}
        times = self._times_of(key.sample)
        if times is not None:
            indices, _ = drawn_clip(video.info, self.data, SEED, key)
            first, last = int(indices[0]), int(indices[-1])
            ways["bare"] = lambda: decode_bare(video.path, times, first, last)
        for name, clips in self._ours.items():
            if name != "decord" or plain_reader(video.path, video.info) == "decord":
                ways[name] = partial(_read, clips, key)
        return ways

    def _stages(self, key: ClipKey) -> dict[str, float] | None:
        video, times = self.videos[key.sample], self._times_of(key.sample)
        if times is None or video.info.rotation:
            return None
        indices, view = drawn_clip(video.info, self.data, SEED, key)
        try:
            return stage_seconds(video.path, times, indices, view)
        except DecodeError:  # as of frames that lean on an earlier group
            return None

    def _times_of(self, video: int) -> Times | None:
        if video not in self._times:
            times = frame_times(self.videos[video].path)
            usable = times is not None and len(times) == self.videos[video].info.frames
            self._times[video] = times if usable else None
        return self._times[video]


def _read(clips: TrainingClips, key: ClipKey) -> None:
    """Raises DecodeError where training would have taken another video instead."""
    for failure in clips[key].failures:
        raise DecodeError(Path(f"video {failure.video}"), failure.reason)


def clip_rows(group: Group, result: GroupCosts) -> list[dict[str, Any]]:
    """A row for each of our ways: medians in CPU milliseconds a clip, and ratios of medians."""
    cpu = {name: [1e3 * cost.cpu for cost in costs] for name, costs in result.costs.items()}
    rows = []
    for name in (*DECODERS, PREPARED):
        if name not in cpu:
            continue
        row = {
            "videos": group.name,
            **group.facts,
            "reader": name,
            "clips": len(cpu[name]),
            "cpu_ms": median(cpu[name]),
            "clips_per_cpu_second": 1e3 / median(cpu[name]),
            "plain_cpu_ms": median(cpu["plain"]),
            "ratio": ratio_of_medians(cpu[name], cpu["plain"]),
            "bare_cpu_ms": None,
            "ratio_to_bare": None,
        }
        if "bare" in cpu:
            row["bare_cpu_ms"] = median(cpu["bare"])
            row["ratio_to_bare"] = ratio_of_medians(cpu[name], cpu["bare"])
        rows.append(row)
    return rows


def stage_row(group: Group, result: GroupCosts) -> dict[str, Any] | None:
    """CPU milliseconds a clip by stage, medians, with what the stages leave of the pyav reader's:
    handing over from its own process, and what was not foreseen."""
    both = zip(result.costs.get("pyav", ()), result.stages, strict=True)
    pairs = [(cost, seconds) for cost, seconds in both if seconds is not None]
    if not pairs:
        return None
    whole = [1e3 * cost.cpu for cost, _ in pairs]
    stages = [{name: 1e3 * seconds[name] for name in STAGES} for _, seconds in pairs]
    rest = [all_ - sum(parts.values()) for all_, parts in zip(whole, stages, strict=True)]
    return {
        "videos": group.name,
        "cpu_ms": median(whole),
        **{name: median(parts[name] for parts in stages) for name in STAGES},
        "rest": median(rest),
        "rest_share": median(rest) / median(whole),
    }
