"""What a folder of images holds, as a video."""

import hashlib
import time
from pathlib import Path

from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.images.decoding import ImageHeader, PngDecoder
from slowfast_dist.video.images.listing import frame_ticks, list_images, read_content, read_rate
from slowfast_dist.video.reader import IMAGES, VideoInfo
from slowfast_dist.video.seeking import pack_uneven_times, rate_of_times


def probe_folder(folder: Path, image_fps: float | None) -> VideoInfo:
    """Read all images, look at the header of each, decode the first and the last.

    ``image_fps``: how many are shown a second where the folder has no fps.txt. Raises DecodeError,
    also for images of several sizes.
    """
    images, size, total, alpha = list_images(folder), None, 0, False
    rate = read_rate(folder, image_fps)
    digest, png, decode_ms = hashlib.sha256(), PngDecoder(), 0.0
    for number, name in enumerate(images.names):
        try:
            content = read_content(folder / name)
        except OSError as error:
            raise DecodeError(folder, f"{name}: {error.strerror}") from error
        total += len(content)
        digest.update(b"%d\0" % len(content))
        digest.update(content)
        header = ImageHeader(folder / name, content)
        size = size or header.size
        if header.size != size:
            (height, width), first = header.size, images.names[0]
            what = f"{name} is of {width} x {height} pixels, {first} of {size[1]} x {size[0]}"
            raise DecodeError(folder, f"its images are of several sizes: {what}")
        if number in (0, len(images.names) - 1):
            start = time.process_time()
            header.pixels(png)
            decode_ms = 1000 * (time.process_time() - start)
            alpha = alpha or header.is_transparent()
    assert size is not None
    ticks, base = frame_ticks(images, rate)
    uneven_times = pack_uneven_times(ticks.tolist(), base, float(rate))
    return VideoInfo(
        frames=len(images.names), fps=float(rate), width=size[1], height=size[0], rotation=0,
        codec=IMAGES, decord_exact=False, key_interval=1, decode_ms=round(decode_ms, 3),
        file_size=total, digest=int(digest.hexdigest()[:16], 16) >> 1, alpha=alpha,
        uneven_times=uneven_times, uneven_rate=rate_of_times(uneven_times),
        missing_images=images.missing,
    )  # fmt: skip
