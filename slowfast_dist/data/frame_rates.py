"""Frame rates that differ between videos: what people should know of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.data import DataConfig

RATE_TOLERANCE = 0.1
"""Share of a frame rate by which another may differ: 29.97 and 30 a second are alike, 24 and 25
too, while 25 and 30 are not."""

PRETRAINED_RATE = 30.0
"""Frames a second that Kinetics' pretrained networks saw: PySlowFast decodes to DATA.TARGET_FPS, 30
by default, and takes every DATA.SAMPLING_RATE-th."""

NAMED_RATES = 4
"""Frame rates that a line names: a data set of one source has one or two."""

BY_TIMES = "--data.frame-rate 30 takes frames by their times"
"""What helps where videos differ in their rates."""


@dataclass(frozen=True)
class RateGroup:
    """``videos`` whose frame rates are about ``rate``, the most common one of them."""

    rate: float
    videos: int


def group_rates(rates: NDArray[np.float64]) -> list[RateGroup]:
    """The frame rates (N,) of videos in groups of those that are alike, the largest first; 0 stands
    for one that is not known, and is in none."""
    left = np.round(rates[rates > 0], 2)
    groups: list[RateGroup] = []
    while len(left):
        values, counts = np.unique(left, return_counts=True)
        rate = float(values[counts.argmax()])
        alike = are_near(left, [rate])
        groups.append(RateGroup(rate, int(alike.sum())))
        left = left[~alike]
    return sorted(groups, key=lambda group: -group.videos)


def are_near(rates: NDArray[np.float64], others: Sequence[float]) -> NDArray[np.bool_]:
    """Which of ``rates`` (N,) are about one of the ``others``."""
    near = [np.abs(rates - other) <= RATE_TOLERANCE * other + 1e-9 for other in others]
    return np.any([np.zeros(len(rates), np.bool_), *near], axis=0)


def clip_seconds(data: DataConfig, rate: float) -> float:
    """What a clip with sampling dense lasts where frames are counted, at ``rate`` a second."""
    return ((data.num_frames - 1) * data.sampling_rate + 1) / rate


@dataclass(frozen=True)
class RateNote:
    """What people should know of the frame rates of videos: a fixed word for the ``kind``, which
    videos, by their places, what comes of it, and what helps ("" where nothing need be done)."""

    kind: str
    videos: list[int]
    summary: str
    remedy: str = ""


def rate_notes(
    rates: NDArray[np.float64], name: Callable[[int], str], data: DataConfig,
    usual: Sequence[float], whose: str, remedy: str = BY_TIMES,
) -> list[str]:  # fmt: skip
    """The `rate_findings` in a line each."""
    found = rate_findings(rates, name, data, usual, whose, remedy)
    return [f"{note.summary}: {note.remedy}" if note.remedy else note.summary for note in found]


def rate_findings(
    rates: NDArray[np.float64], name: Callable[[int], str], data: DataConfig,
    usual: Sequence[float], whose: str, remedy: str = BY_TIMES,
) -> list[RateNote]:  # fmt: skip
    """What people should know of the frame rates (N,) of videos, of which ``name`` tells what they
    are called; 0 stands for a rate that is not known.

    ``usual``: the rates that the network saw, or sees; ``whose`` they are, and the ``remedy`` where
    frames are counted (``frame_rate`` video) and others have other rates.
    """
    if data.sampling != "dense" or not len(rates):
        return []
    known, found = rates > 0, []
    if untold := np.flatnonzero(~known).tolist():
        effect = "how long their clips last is not known"
        if data.frame_rate != "video":
            effect = f"of these every {data.sampling_rate}. frame is taken, whatever its time "
            effect += f"(frame rate {data.frame_rate:g})"
        found.append(RateNote(
            "no-frame-rate", untold,
            f"{len(untold)} of {len(rates)} videos tell neither a frame rate nor times, as "
            f"{name(untold[0])}: {effect}",
        ))  # fmt: skip
    if data.frame_rate == "video":
        line = other_rates(rates, data, usual, whose, name)
        odd = np.flatnonzero(known & ~are_near(rates, usual)).tolist()
        return [*found, RateNote("frame-rates", odd, line, remedy)] if line else found
    least = data.frame_rate / data.sampling_rate
    if slow := np.flatnonzero(known & (rates < (1 - 1e-3) * least)).tolist():
        found.append(RateNote(
            "slow-videos", slow,
            f"{len(slow)} of {len(rates)} videos have fewer frames a second than the {least:g} "
            f"that a clip takes, as {name(slow[0])} ({rates[slow[0]]:.4g}): frames are repeated",
        ))  # fmt: skip
    return found


def other_rates(
    rates: NDArray[np.float64], data: DataConfig, usual: Sequence[float], whose: str,
    name: Callable[[int], str],
) -> str | None:  # fmt: skip
    """How many videos have other frame rates (N,) than the ``usual`` ones, ``whose`` they are, and
    how long their clips last where frames are counted; None where there is none. For ``name`` see
    `rate_findings`."""
    others = rates[(rates > 0) & ~are_near(rates, usual)] if usual else rates[:0]
    if not len(others):
        return None
    groups = group_rates(others)
    named = [f"{group.videos} have {group.rate:g}" for group in groups[:NAMED_RATES]]
    if rest := sum(group.videos for group in groups[NAMED_RATES:]):
        named.append(f"{rest} still others")
    first = groups[0].rate
    which = f"{len(others)} of {len(rates)} videos have"
    if len(rates) == 1:
        which, named = f"{name(0)} has", [f"{first:g}"]
    return (
        f"{which} another frame rate than {whose}: {', '.join(named)}; at {first:g} a second a "
        f"clip spans {clip_seconds(data, first):.1f} s in place of "
        f"{clip_seconds(data, usual[0]):.1f}"
    )


def rates_as_words(rates: Sequence[float]) -> str:
    """As 15, or 15 and 60."""
    *others, last = [f"{rate:g}" for rate in rates[:NAMED_RATES]]
    return f"{', '.join(others)} and {last}" if others else last
