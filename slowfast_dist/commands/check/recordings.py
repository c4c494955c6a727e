"""Which videos are of one recording, and the group_pattern that keeps them together.

Clips of one recording look alike (people, clothes, place, light) and are often named alike. So
every likely part of the names is tried as a group, and is believed where the videos that look most
alike share it far more often than chance would have it.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import inf, log, sqrt
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.commands.check.near_copies import Fingerprints
from slowfast_dist.data.listing.columns import Categorical
from slowfast_dist.data.listing.group_pattern import group_of

QUERIES = 2000
"""Videos whose nearest others are looked for, among all: more would not change the answer."""

BLOCK = 20_000
"""Videos that the queries are compared with at once, so that the distances fit into memory."""

LEAST_GROUPS = 5
"""Groups of two videos or more that a pattern must make: fewer tell no recordings."""

LARGEST_GROUP = 0.4
"""Share of all videos that one group may hold: a larger one is no recording, but what most names
have in common."""

LEAST_MATCHED = 0.8
"""Share of the names that a pattern must match: some files are named otherwise in any dataset."""

LEAST_LIFT = 3.0
"""Times as often as by chance that the nearest video must be of the same group, so that a weak
likeness within groups, as of a class, is not taken for a recording."""

LEAST_EVIDENCE = 14.0
"""Natural logarithm of the odds against chance (Chernoff's bound) that a pattern must reach: e^14
is over a million, as dozens of patterns are tried."""

LEAST_SHARE = 0.25
"""Share of the videos whose group has others that must look most like one of these: in a recording
most do."""

Codes = NDArray[np.int64]
"""(N,): the number of each video's class or group."""


@dataclass(frozen=True)
class Evidence:
    """How often the most similar video is of the same group."""

    trials: int
    """Videos asked; each among those of its class, and again among those of other classes."""
    hits: int
    expected: float
    """Hits by chance, were groups and fingerprints unrelated."""
    variance: float

    @property
    def z(self) -> float:
        """Hits above chance, in standard deviations."""
        return (self.hits - self.expected) / sqrt(self.variance) if self.variance else 0.0

    @property
    def convincing(self) -> bool:
        if not self.hits or self.hits < LEAST_LIFT * self.expected:
            return False
        odds = self.hits * log(self.hits / self.expected) - (self.hits - self.expected)
        return odds >= LEAST_EVIDENCE and self.hits >= LEAST_SHARE * self.trials


@dataclass(frozen=True)
class Recordings:
    """A pattern whose groups are recordings, as far as their fingerprints tell."""

    pattern: str
    groups: Codes
    evidence: Evidence


def find_recordings(
    names: Sequence[str], labels: Codes, known: Codes, videos: Fingerprints, seed: int = 0
) -> list[Recordings]:
    """Patterns on the names that tell recordings, the best first.

    ``known``: groups that are kept together already, so that only what is alike beyond them
    counts. A group that is no more than a class is none: likeness is counted within classes and
    between them.
    """
    queries = np.arange(len(names))
    if len(queries) > QUERIES:
        queries = np.sort(np.random.default_rng(seed).choice(queries, QUERIES, replace=False))
    neighbours = nearest(videos, queries, labels, known)
    found = []
    for pattern, groups in candidate_groups(names):
        each = [evidence_of(groups, labels, known, queries, pair) for pair in neighbours]
        best = max(each, key=lambda evidence: evidence.z)
        if best.convincing:
            found.append(Recordings(pattern, groups, best))
    return sorted(found, key=lambda recordings: -recordings.evidence.z)


def nearest(
    videos: Fingerprints, queries: Codes, labels: Codes, known: Codes
) -> list[tuple[Codes, Codes]]:
    """The videos most like each query, by colours and by background: (within, beyond) its class.

    Each (Q,), -1 where there is none; those of its own known group do not count.
    """
    asked = _unit(videos["colours"][queries])
    total = len(labels)
    best = np.full((2, 2, len(queries)), inf)
    where = np.full((2, 2, len(queries)), -1, np.int64)
    step = max(1, 8_000_000 // max(1, min(BLOCK, total)))
    for first in range(0, total, BLOCK):
        rows = np.arange(first, min(first + BLOCK, total))
        others = _unit(videos["colours"][rows])
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            own = queries[part, None]
            colour = 1 - asked[part] @ others.T
            both = videos["has_background"][own] & videos["has_background"][rows]
            bits = np.bitwise_count(videos["background"][own] ^ videos["background"][rows])
            place = np.where(both, bits + colour, inf)  # bits, and the colours where these tie
            colour[(asked[part].sum(1) == 0)[:, None] | (others.sum(1) == 0)] = inf
            same_class = labels[own] == labels[rows]
            excluded = known[own] == known[rows]
            for kind, distance in enumerate((colour, place)):
                for side, wrong in enumerate((~same_class, same_class)):
                    masked = np.where(wrong | excluded, inf, distance)
                    position = masked.argmin(1)
                    value = masked[np.arange(len(masked)), position]
                    better = value < best[kind, side, part]
                    best[kind, side, part][better] = value[better]
                    where[kind, side, part][better] = rows[position[better]]
    return [(within, beyond) for within, beyond in where]


def _unit(colours: NDArray[np.uint8]) -> NDArray[np.float32]:
    rows = colours.astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1)


def evidence_of(
    groups: Codes, labels: Codes, known: Codes, queries: Codes, neighbours: tuple[Codes, Codes]
) -> Evidence:
    """How much oftener than by chance the ``neighbours`` of `nearest` are of their query's group.

    Queries whose group has nobody else to be found are not counted.
    """
    in_class = _sizes(groups, labels) - _sizes(groups, labels, known)
    in_all = _sizes(groups) - _sizes(groups, known)
    among_class = _sizes(labels) - _sizes(labels, known)
    among_all = len(labels) - _sizes(known)
    trials, hits, expected, variance = 0, 0, 0.0, 0.0
    for found, mates, among in (
        (neighbours[0], in_class, among_class),
        (neighbours[1], in_all - in_class, among_all - among_class),
    ):
        counts = (found >= 0) & (mates[queries] > 0)
        rows = queries[counts]
        chance = mates[rows] / among[rows]
        trials += len(rows)
        hits += int((groups[found[counts]] == groups[rows]).sum())
        expected += float(chance.sum())
        variance += float((chance * (1 - chance)).sum())
    return Evidence(trials, hits, expected, variance)


def _sizes(*codes: Codes) -> Codes:
    """(N,): how many videos agree with each in all the codes."""
    joint = codes[0]
    for code in codes[1:]:
        joint = np.unique(joint * (int(code.max()) + 1) + code, return_inverse=True)[1]
    _, inverse, counts = np.unique(joint, return_inverse=True, return_counts=True)
    return counts[inverse]


# --- names ---------------------------------------------------------------------------------------


def numbered(values: Sequence[str]) -> Codes:
    """Equal values get equal numbers, from 0 on."""
    return Categorical.of(values).codes.astype(np.int64)


def candidate_groups(names: Sequence[str]) -> Iterator[tuple[str, Codes]]:
    """Patterns that could tell recordings, short ones first, each with the groups that it makes.

    Of several that make the same groups only the first comes.
    """
    seen: set[bytes] = set()
    for text in sorted(candidate_patterns(names), key=len):
        pattern = re.compile(text)
        found = [group_of(name, pattern) for name in names]
        if sum(group is not None for group in found) < LEAST_MATCHED * len(names):
            continue
        # A path that does not match is its own group; a name of one path is no other's group.
        groups = numbered(
            [name if group is None else group for name, group in zip(names, found, strict=True)]
        )
        sizes = np.bincount(groups)
        shared = int((sizes > 1).sum())
        if shared < LEAST_GROUPS or sizes.max() > LARGEST_GROUP * len(names):
            continue
        if groups.tobytes() not in seen:
            seen.add(groups.tobytes())
            yield text, groups


def candidate_patterns(names: Sequence[str]) -> set[str]:
    """Regular expressions for the parts of paths that may name a recording."""
    patterns: set[str] = set()
    sample = names[:: max(1, len(names) // 1000)]
    often = len(sample) / 2

    # Words with a number: seq01, g03, person12; pairs of them; and within a class.
    stems = [PurePosixPath(name).stem for name in sample]
    words = Counter(word for stem in stems for word in set(re.findall(r"([A-Za-z]+)\d", stem)))
    common = [word for word, count in words.most_common(8) if count >= often]
    for word in common:
        patterns |= {rf"{word}\d+", rf"(?<![A-Za-z]){word}\d+", rf"^([^/]+)/.*({word}\d+)"}
    for one, other in combinations(common, 2):
        patterns |= {rf"({one}\d+).*({other}\d+)", rf"({other}\d+).*({one}\d+)"}

    # Long numbers: dates, times, ids.
    numbers = (set(map(len, re.findall(r"\d+", stem))) for stem in stems)
    lengths = Counter(length for each in numbers for length in each)
    for length, count in lengths.items():
        if length >= 6 and count >= often:
            patterns.add(rf"(?<!\d)\d{{{length}}}(?!\d)")

    # Fields of the file name: one, the first few, all but the last few (Kinetics: id_from_to).
    for mark in "_- ":
        if sum(mark in stem for stem in stems) < often:
            continue
        field = f"[^{mark}/]+"
        for count in range(5):
            before = rf"(?:{field}{mark}){{{count}}}" if count else ""
            patterns.add(rf"^(?:.*/)?{before}([^{mark}/.]+)[^/]*$")
            if count:
                patterns.add(rf"([^/]+)(?:{mark}{field}){{{count}}}$")
                patterns.add(rf"^(.+)(?:{mark}{field}){{{count}}}$")
                patterns.add(rf"^(?:.*/)?({before}[^{mark}/.]+)[^/]*$")
    patterns |= {r"([^/]+?)\W?_?\d+\.\w+$", r"^(.+?)\W?_?\d+\.\w+$"}  # without the last number

    # Folders below those of the classes.
    if sum(name.count("/") > 1 for name in sample) >= often:
        patterns |= {r"^[^/]+/([^/]+)/", r"^([^/]+/[^/]+)/"}
    return patterns
