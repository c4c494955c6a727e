"""Rows with several labels: those of one clip united, and those of segments that overlap it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.annotations.labels import Remark
from slowfast_dist.annotations.table import Table
from slowfast_dist.data.listing.listing import Listing
from slowfast_dist.data.listing.scan import Files
from slowfast_dist.metrics.cells import parted

if TYPE_CHECKING:
    from slowfast_dist.data.listing.imported import ImportedRows

OVERLAP_SHARE = 0.5
"""Share of a segment that another one of its file must cover to lend it its labels: a clip drawn
from it shows them rather than not."""

TIE = 1e-9
"""Seconds by which a share may be short for the rounding of its times."""

Sets = NDArray[np.bool_]


@dataclass(frozen=True)
class LabelSets:
    """``codes`` int32 (N,): of each row its place in ``sets`` bool (D, K), the different sets of
    labels that there are."""

    codes: NDArray[np.int32]
    sets: Sets

    @classmethod
    def of_cells(cls, cells: Sequence[str], classes: Sequence[str]) -> "LabelSets":
        """Of N cells, as waving|walking; "" for none of the classes."""
        numbers = {name: place for place, name in enumerate(classes)}
        found: dict[str, int] = {}
        codes = [found.setdefault(cell, len(found)) for cell in cells]
        sets = np.zeros((len(found), len(classes)), np.bool_)
        for cell, code in found.items():
            sets[code, [numbers[name] for name in parted(cell)]] = True
        return cls(np.array(codes, np.int32), sets)

    def united(self, rows: Sequence[Sequence[int]]) -> "LabelSets":
        """(M,): for each the union of the sets of some ``rows`` of these."""
        found: dict[bytes, int] = {}
        sets: list[Any] = []
        codes = np.zeros(len(rows), np.int32)
        known: dict[tuple[int, ...], int] = {}
        for place, some in enumerate(rows):
            key = tuple(sorted(set(self.codes[list(some)].tolist())))
            if key not in known:
                union = self.sets[list(key)].any(axis=0)
                code = known[key] = found.setdefault(union.tobytes(), len(sets))
                if code == len(sets):
                    sets.append(union)
            codes[place] = known[key]
        shape = len(sets), self.sets.shape[1]
        return LabelSets(codes, np.array(sets, np.bool_).reshape(shape))


def same_samples(files: NDArray[np.int32], bounds: NDArray[np.float64]) -> list[list[int]]:
    """The rows of each sample: those of one file with the same bounds (N, 2), NaN for all of it.
    In the order of the first of them."""
    found: dict[tuple[int, float, float], list[int]] = {}
    times = np.nan_to_num(bounds, nan=-1.0).tolist()
    for row, (file, (start, end)) in enumerate(zip(files.tolist(), times, strict=True)):
        found.setdefault((file, start, end), []).append(row)
    return list(found.values())


def covering(files: NDArray[np.int32], bounds: NDArray[np.float64]) -> list[list[int]]:
    """Of each of N samples the rows whose labels it has: itself, and those of its file that cover
    at least OVERLAP_SHARE of it. All of a file covers each of its parts, and none of them it."""
    start = np.nan_to_num(bounds[:, 0], nan=0.0)
    end = np.nan_to_num(bounds[:, 1], nan=np.inf)
    found = [[row] for row in range(len(files))]
    order = np.lexsort((start, files))
    open_: list[tuple[float, float, int]] = []  # of the running file, that may reach further
    file = -1
    columns = (order, files[order], start[order], end[order])
    for row, of, first, last in zip(*(column.tolist() for column in columns), strict=True):
        if of != file:
            file, open_ = of, []
        open_ = [one for one in open_ if one[1] > first]
        for begin, until, other in open_:
            common = min(last, until) - first
            if common >= OVERLAP_SHARE * (last - first) - TIE:
                found[row].append(other)
            if common >= OVERLAP_SHARE * (until - begin) - TIE:
                found[other].append(row)
        open_.append((first, last, row))
    return found


def overlap_remark(gained: int, count: int) -> Remark:
    """What is to be said where ``gained`` of the segments have labels of others."""
    return Remark(
        "info", "overlapping-labels",
        f"{gained} of {count} segments have labels of segments that cover half of them or more, "
        "too",
    )  # fmt: skip


def several_remark(root: Path, codes: NDArray[np.int32], sets: Sets) -> Remark:
    """How many rows of a list have how many labels."""
    counts = sets.sum(axis=1)[codes]
    several, none = int((counts > 1).sum()), int((counts == 0).sum())
    return Remark(
        "info", "several-labels",
        f"{root}: {several} of {len(codes)} rows have several labels, {none} have none "
        "(--loss.name bce)",
    )  # fmt: skip


def with_sets(
    listing: Listing, sets: LabelSets, columns: Sequence[Files],
    table: "Table | ImportedRows | None",
) -> Listing:  # fmt: skip
    """``listing`` with the ``sets`` of labels of its rows: those of one sample are one row, and
    segments have the labels of those that cover them, unless the ``table`` names all of a row.
    Raises UserError for rows of one sample that are on two sides, or of two groups or weights."""
    rows = [part.rows for part in columns if part.rows is not None]
    if table is None or not rows:
        videos = replace(listing.videos, labels=sets.codes, sets=sets.sets)
        return replace(listing, videos=videos)
    files = np.concatenate([part.numbers for part in rows])
    bounds = np.concatenate([part.bounds for part in rows])
    lines = np.concatenate([part.lines for part in rows])
    boxes = np.nan_to_num(np.concatenate([part.boxes for part in rows]), nan=-1.0)
    # Regions of interest of one file, as of two animals, are as different as files.
    keys = np.column_stack([files, boxes])
    files = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int32)
    samples = same_samples(files, bounds)
    chosen = np.array([some[0] for some in samples], np.int64)
    videos = listing.videos
    told: dict[str, NDArray[Any] | None] = {
        "split": listing.sides, "weight": videos.weights,
        "group": None if videos.groups is None else videos.groups.codes,
    }  # fmt: skip
    for name, column in told.items():
        if column is None:
            continue
        for some in samples:
            by_line = sorted(zip(lines[some].tolist(), column[some].tolist(), strict=True))
            other = next((line for line, value in by_line if value != by_line[0][1]), None)
            if other is not None:
                what = f"its {name} is not that of line {by_line[0][0]}, of the same video; "
                raise table.wrong(f"{what}correct one", other)
    # By name, start and end, as the rows of a class are.
    names = list(listing.videos.names)
    order = sorted(range(len(samples)), key=lambda place: (
        names[chosen[place]], *np.nan_to_num(bounds[chosen[place]], nan=-1.0).tolist()
    ))  # fmt: skip
    chosen = chosen[order]
    united = sets.united([samples[place] for place in order])
    listing = listing.select(chosen)
    if not table.names_all:
        own = united.sets[united.codes]
        united = united.united(covering(files[chosen], bounds[chosen]))
        gained = int((united.sets[united.codes] != own).any(axis=1).sum())
        if gained:
            said = overlap_remark(gained, len(chosen))
            listing = replace(listing, remarks=(*listing.remarks, said))
    videos = replace(listing.videos, labels=united.codes, sets=united.sets)
    return replace(listing, videos=videos)
