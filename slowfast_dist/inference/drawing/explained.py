"""The clip that is explained, and the two files that are drawn of it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import RunError
from slowfast_dist.inference.drawing.explanation import Picture, draw_strip, write_clip
from slowfast_dist.inference.drawing.names import EXPLAINED
from slowfast_dist.system.files import atomic_write, reason_of, sync_folder
from slowfast_dist.video.guarded_reader import GuardedReader
from slowfast_dist.video.ordered_reader import frame_times
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.video.views import Region, evaluation_view
from slowfast_dist.video.writer import WriteError

if TYPE_CHECKING:
    from slowfast_dist.inference.explain import Explanation


def read_clip(
    reader: GuardedReader, path: Path, info: VideoInfo, numbers: NDArray[np.int64],
    data: DataConfig, region: Region | None,
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:  # fmt: skip
    """The frames ``numbers`` as the network sees them, (T, S, S, 3), the centre crop however many
    views are scored, and their times in seconds, (T,). Raises DecodeError."""
    view = evaluation_view(info.height, info.width, data, 0, 1, info.pixel_aspect, region)
    clip = reader.read(path, numbers, info, data.decoder, view).copy()
    return clip, frame_times(info).starts[numbers]


def title_of(said: str, name: str, found: "Explanation") -> str:
    """What stands above the pictures: what is ``said`` of the video, its name, and how much of the
    map counts."""
    strength = found.joined.strength
    title = f"{said}   {name}   strength {strength:.2f}"
    return title if strength else f"{title}: no more than chance"


def write_explained(folder: Path, stem: str, picture: Picture) -> list[Path]:
    """Write the clip, then the strip, into ``folder``, called ``stem``; returns both. Raises
    RunError for what cannot be written."""
    files = [folder / (stem + suffix) for suffix in EXPLAINED]
    part = files[0].with_name(f".{files[0].name}.{os.getpid()}.tmp")
    try:
        write_clip(part, picture)
        os.replace(part, files[0])
        with atomic_write(files[1]) as file:
            draw_strip(picture).save(file, "PNG", optimize=True)
        sync_folder(folder)
    except (OSError, WriteError) as error:
        reason = reason_of(error, folder) if isinstance(error, OSError) else str(error)
        raise RunError(f"{files[0]}: cannot be written ({reason})") from error
    finally:
        part.unlink(missing_ok=True)
    return files
