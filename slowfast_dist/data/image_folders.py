"""What people should know of folders of images among their videos, once these were probed."""

from collections.abc import Iterator, Mapping

import numpy as np

from slowfast_dist.annotations.labels import Remark
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.video.images.listing import FPS_FILE, NO_RATE
from slowfast_dist.video.reader import VideoInfo

GAP_REMEDY = (
    "the image before a missing one is shown for longer, so times are right; clips that count "
    "frames (frame rate video) take the images as they are"
)
"""What comes of it."""


def require_image_rates(reasons: Mapping[int, str], videos: VideoTable, source: str) -> None:
    """Raise UserError where folders of images do not tell how many are shown a second: by
    ``reasons``, why videos cannot be read, by row. ``source``: the flag and what it names."""
    rows = [row for row, reason in sorted(reasons.items()) if reason == NO_RATE]
    if rows:
        own = "--data.image-fps" if source.startswith("--data.") else "--image-fps"
        first, count = videos.names[rows[0]], len({videos.names[row] for row in rows})
        one = f"{first} is a folder of images that does"
        if count > 1:
            one = f"{count} folders of images, as {first}, do"
        raise UserError(
            f"{source}: {one} not tell how many are shown a second: give {own}, or write the "
            f"number into a file {FPS_FILE} in each"
        )


def gap_remarks(videos: VideoTable) -> Iterator[Remark]:
    """Whether numbers are missing between the images of folders."""
    files = videos.per_file()
    assert files.infos is not None
    missing = files.infos.columns["missing_images"]
    if len(rows := np.flatnonzero(missing)):
        worst = int(rows[missing[rows].argmax()])
        what = gap_text(len(rows), int(missing.sum()), files.names[worst], int(missing[worst]))
        yield Remark("warning", "image-gaps", what, GAP_REMEDY)


def gap_text(folders: int, numbers: int, name: str, most: int) -> str:
    """``folders`` of images lack so many ``numbers``, ``name`` the ``most``."""
    if folders == 1:
        lacks = "1 number is" if numbers == 1 else f"{numbers} numbers are"
        return f"{name}: {lacks} missing between its images"
    return (
        f"{folders} folders of images lack {numbers} numbers between their images, {name} the most "
        f"({most})"
    )


def gap_of(name: str, info: VideoInfo) -> str | None:
    """The same of one video; None where nothing is missing."""
    missing = info.missing_images
    return f"{gap_text(1, missing, name, missing)}: {GAP_REMEDY}" if missing else None
