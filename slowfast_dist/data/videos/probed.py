"""A listing with what the probe found of its files, without those that cannot be read."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.image_folders import gap_remarks, require_image_rates
from slowfast_dist.data.listing.listing import Listing
from slowfast_dist.data.locating import place_segments
from slowfast_dist.data.probe_cache import default_cache
from slowfast_dist.data.probing import probe_videos
from slowfast_dist.system.cpus import available_cpus
from slowfast_dist.system.log import logger


def probe_listing(
    listing: Listing, place: str, source: str, data: DataConfig
) -> tuple[Listing, NDArray[np.bool_], tuple[tuple[str, str, str], ...]]:
    """The listing with what the probe found, which samples can be read (N,), and what it rejected:
    ``place`` will list that. ``source``: the flag and what it names, for a message; ``data`` cuts
    the clips, and names the background."""
    videos = listing.videos
    shown = logger.isEnabledFor(logging.INFO)
    found = probe_videos(videos, available_cpus(), default_cache(), shown, data.image_fps)
    require_image_rates(found.reasons, videos, source)
    unread = {videos.names[row]: reason for row, reason in sorted(found.reasons.items())}
    rejected = [(name, reason, "probe") for name, reason in unread.items()]
    if rejected:
        name, reason, _ = rejected[0]
        files = len(videos) if videos.segments is None else len(videos.file_rows()[0])
        logger.info(
            f"{len(rejected)} of {files} videos cannot be read and are left out, as {name}: "
            f"{reason} (unreadable_videos.csv in {place} lists them)"
        )
    classes, background = listing.classes, data.background
    label = classes.index(background) if background in classes else -1
    placed = place_segments(
        videos.probed(found.infos), found.readable, source, data.crop_box, label
    )
    rejected += [(videos.sample(row), why, "list") for row, why in sorted(placed.reasons.items())]
    listing = replace(
        listing, videos=placed.videos,
        remarks=(*listing.remarks, *placed.remarks, *gap_remarks(placed.videos)),
    )
    return listing, found.readable & placed.inside, tuple(rejected)


def scorable(
    listing: Listing, readable: NDArray[np.bool_], rejected: Sequence[tuple[str, str, str]],
    flag: str, root: Path,
) -> Listing:  # fmt: skip
    """``listing`` with the readable files alone, (N,). Raises UserError where there is none."""
    if not readable.any():
        name, reason, _ = rejected[0]
        raise UserError(
            f"--{flag} {root}: none of the videos can be read, as {name}: {reason}; replace them"
        )
    return listing.select(np.flatnonzero(readable))
