"""Files of which every row is on one side of a list: only those can be scored as a whole."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from slowfast_dist.annotations.labels import Remark
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.listing import Listing


def of_whole_files(chosen: Listing, listing: Listing, flag: str, root: Path) -> Listing:
    """``chosen``, some rows of ``listing``, without those of files that have other rows there, too:
    what else is seen in such a file would count as background, or was trained on.

    Raises UserError, naming the flag, where no file is left.
    """
    segments = chosen.videos.segments
    if segments is None or len(chosen.videos) == len(listing.videos):
        return chosen
    assert listing.videos.segments is not None
    files, rows = np.unique(segments.files, return_counts=True)
    all_files, all_rows = np.unique(listing.videos.segments.files, return_counts=True)
    mixed = files[rows < all_rows[np.searchsorted(all_files, files)]]
    if not len(mixed):
        return chosen
    if len(mixed) == len(files):
        raise UserError(
            f"--{flag} {root}: each of the {len(files)} files with such rows has rows of another "
            "split, too, and --segments scores whole files: give --split all, or a list whose "
            "files are on one side"
        )
    kept = chosen.select(np.flatnonzero(~np.isin(segments.files, mixed)))
    return replace(
        kept,
        remarks=(*kept.remarks, Remark(
            "warning", "mixed-files",
            f"{root}: {len(mixed)} of {len(files)} files are left out, as they have rows of "
            "another split, too",
            "--segments scores whole files; --split all takes them",
        )),
    )  # fmt: skip
