"""What lies on both sides of a split, or twice in it: recordings, backgrounds, copies."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from slowfast_dist.commands.check.dataset import Dataset, Finding, Level
from slowfast_dist.commands.check.near_copies import clusters, same_background
from slowfast_dist.commands.check.recordings import (
    QUERIES,
    Codes,
    Recordings,
    find_recordings,
    nearest,
    numbered,
)
from slowfast_dist.data.listing.group_pattern import group_of
from slowfast_dist.system.text import few

CHANCE_PAIRS = 4000
"""Pairs of a training and a validation video drawn at random, to find how often the two have the
same background by chance: enough to tell a share of .1 from .12."""

MANY_PLACES = 0.1
"""Share of those pairs up to which a dataset has so many places that a shared one means a shared
recording: the finding is an error."""

ONE_PLACE = 0.5
"""Share of those pairs from which a dataset has one place, as a single camera's, whose sight says
nothing about recordings. Between the two, as with a few cameras, the finding is a warning."""

NAMED = {
    "Kinetics (id_start_end)": r"([\w-]{11})_\d{6}_\d{6}",
    "UCF101 (v_Class_gNN_cNN)": r"(v_[^/]+_g\d+)_c\d+",
}
"""Ways of naming clips after their recording that published datasets have."""


def shared_recordings(data: Dataset) -> Iterator[Finding]:
    """Recordings with videos on both sides, by likeness and names, by names, or by likeness."""
    if not {"train", "val"} <= set(data.sides):
        return
    for recordings in find_recordings(data.names, data.labels, data.groups, data.fingerprints)[:1]:
        crossing = _crossing(data, recordings.groups)
        if crossing:
            yield _named_recordings(data, recordings, crossing)
        return
    for what, text in NAMED.items():
        pattern = re.compile(text)
        found = [group_of(name, pattern) for name in data.names]
        if sum(group is not None for group in found) < 0.8 * len(found):
            continue
        given = [group or name for group, name in zip(found, data.names, strict=True)]
        if crossing := _crossing(data, numbered(given)):
            yield Finding(
                "names-cross-split", "warning",
                f"Named as in {what}, {len(crossing)} recordings have clips on both sides of the "
                "split.",
                _by_pattern(data, text),
                *_groups(data, crossing),
            )  # fmt: skip
            return
    yield from _places(data)


def _named_recordings(data: Dataset, recordings: Recordings, crossing: list[list[int]]) -> Finding:
    pattern, evidence = recordings.pattern, recordings.evidence
    seen = sum(data.sides[row] == "val" for group in crossing for row in group)
    total = sum(side == "val" for side in data.sides)
    refusal = data.try_pattern(pattern)
    return Finding(
        "recordings-cross-split", "error",
        f"The same recordings are on both sides of the split: {len(crossing)} of them; of "
        f"{total} validation videos {seen} have clips of their recording among the training "
        "videos, so validation would be too good. The names tell the recordings: in "
        f"{evidence.hits} of {evidence.trials} comparisons the most similar video has the same "
        f"{pattern} in its path; by chance it would be {evidence.expected:.0f}.",
        _by_pattern(data, pattern)
        + (f" (as it is, training refuses that: {refusal})" if refusal else ""),
        *_groups(data, crossing),
    )  # fmt: skip


def _by_pattern(data: Dataset, pattern: str) -> str:
    if data.by_column:
        return (
            "correct the column split, recordings whole, or delete it and train with "
            f"--data.group-pattern '{pattern}'"
        )
    if data.roots:
        return (
            "divide the videos anew, recordings whole, or let training do it: all of them below "
            f"one --data.root, with --data.group-pattern '{pattern}'"
        )
    return f"train with --data.group-pattern '{pattern}'"


def _crossing(data: Dataset, groups: Codes) -> list[list[int]]:
    """Groups with videos on both sides."""
    members: dict[int, list[int]] = {}
    for row, group in enumerate(groups.tolist()):
        if data.sides[row] in ("train", "val"):
            members.setdefault(group, []).append(row)
    return [rows for rows in members.values() if len({data.sides[row] for row in rows}) == 2]


def _groups(data: Dataset, groups: Sequence[Sequence[int]]) -> tuple[list[str], list[Any]]:
    """Examples, of each group one video of either side; and all groups whole."""
    examples = []
    for rows in groups:
        sides = {data.sides[row]: data.names[row] for row in reversed(rows)}
        examples.append(" and ".join(f"{sides[side]} ({side})" for side in ("train", "val")))
    return examples, [{"videos": [data.video(row) for row in rows]} for rows in groups]


def _places(data: Dataset) -> Iterator[Finding]:
    """The same background on both sides, where no part of the names explains it."""
    rng = np.random.default_rng(0)
    side = numbered([str(side) for side in data.sides])
    val, train = (
        np.array([row for row, of in enumerate(data.sides) if of == name], np.int64)
        for name in ("val", "train")
    )
    queries = rng.permutation(val)[:QUERIES]
    copies = {tuple(pair) for pair in data.near_copies.tolist()}
    pairs: set[tuple[int, int]] = set()
    for one in nearest(data.fingerprints, queries, data.labels, side):
        for found in one:
            rows = np.stack((queries, found), axis=1)[found >= 0]
            rows = np.sort(rows[same_background(data.fingerprints, rows[:, 0], rows[:, 1])], axis=1)
            pairs |= {tuple(pair) for pair in rows.tolist()} - copies
    groups = clusters(np.array(sorted(pairs), np.int64).reshape(-1, 2), len(data.names))
    seen = sum(data.sides[row] == "val" for rows in groups for row in rows)
    if seen < max(3, 0.05 * len(queries)):  # so few may be chance
        return
    by_chance = same_background(
        data.fingerprints, rng.choice(val, CHANCE_PAIRS), rng.choice(train, CHANCE_PAIRS)
    ).mean()
    if by_chance > ONE_PLACE:  # it says nothing about recordings
        return
    yield Finding(
        "places-cross-split", "error" if by_chance <= MANY_PLACES else "warning",
        f"{seen} of {len(queries)} validation videos show the very place of training videos, as "
        "clips of one recording do"
        + (", or of a few cameras that always stand there" if by_chance > MANY_PLACES else "")
        + ". No part of the names tells the recordings.",
        "give each recording a folder of its own below its class's folder and train with "
        "--data.group-pattern '^[^/]+/([^/]+)/', or divide them by hand: --data.train-dir and "
        "--data.val-dir (or CSVs); --json FILE lists what goes together",
        *_groups(data, groups),
    )  # fmt: skip


def copies(data: Dataset) -> Iterator[Finding]:
    """Duplicates with other labels, on both sides, and the rest."""
    equal = [(rows[0], row) for rows in data.same_bytes for row in rows[1:]]
    pairs = np.concatenate((data.near_copies, np.array(equal, np.int64).reshape(-1, 2)))
    byte_groups = {row: number for number, rows in enumerate(data.same_bytes) for row in rows}
    found: dict[str, list[list[int]]] = {"classes": [], "split": [], "rest": []}
    for rows in clusters(pairs, len(data.names)):
        across_classes = len({int(data.labels[row]) for row in rows}) > 1
        across_split = len({data.sides[row] for row in rows} - {None}) > 1
        if across_classes:
            found["classes"].append(rows)
        if across_split:
            found["split"].append(rows)
        if not across_classes and not across_split:
            found["rest"].append(rows)

    delete = "delete all but one of each"
    kinds: list[tuple[str, Level, list[list[int]], str, str]] = [
        ("duplicates-across-classes", "error", found["classes"],
         "stored more than once, in different classes: one of the labels is wrong.",
         "keep each in its right class alone"),
        ("duplicates-across-split", "error", found["split"],
         "on both sides of the split: validation would score what was trained on.", delete),
        ("duplicates", "warning", found["rest"],
         "stored more than once in a class: they count more than others.", delete),
    ]  # fmt: skip
    for kind, level, groups, what, remedy in kinds:
        if groups:
            examples, items = [], []
            for rows in groups:
                exact = len({byte_groups.get(row, -1 - row) for row in rows}) == 1
                names = few([data.names[row] for row in rows], 3, " = ")
                examples.append(f"{names} ({'the same bytes' if exact else 'looks the same'})")
                items.append({"exact": exact, "videos": [data.video(row) for row in rows]})
            if not all(item["exact"] for item in items):
                remedy = f"look whether those of other bytes are copies indeed; {remedy}"
            times = f"{len(groups)} video{'s' * (len(groups) > 1)}"
            yield Finding(kind, level, f"{times} {what}", remedy, examples, items)
