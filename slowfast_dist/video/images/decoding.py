"""The pixels of one image, as a player shows them, and of a folder's images through views.

PNG is decoded by FFmpeg, as the video reader does: its own pixels, of 16 bits the upper 8 (rounded
as FFmpeg does), grey and palettes as RGB, what lies behind transparent parts as it is stored. JPEG
is decoded by Pillow, with libjpeg-turbo, bit for bit as OpenCV and Pillow give it: FFmpeg's differs
by up to a dozen grey levels, as it enlarges the colours otherwise. Both are turned as EXIF says.
"""

import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from PIL import Image

from slowfast_dist.video.container import FAULTS, MAX_PIXELS, DecodeError
from slowfast_dist.video.images.listing import list_images, read_content
from slowfast_dist.video.views import Pixels, SpatialView, region_in, show_region

ORIENTATION = 0x0112
"""EXIF's tag of how the stored picture is to be turned and mirrored, 1 to 8."""

_TURNED = {5, 6, 7, 8}
"""Orientations whose rows become columns."""

_PILLOW_FAULTS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What a broken image makes Pillow raise; SyntaxError for a damaged PNG header."""


class ImageHeader:
    """What the header of an image says, which is ``content``. Raises DecodeError, as of ``path``,
    for what is no JPEG or PNG, and for more than MAX_PIXELS."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.path, self._content = path, content
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of many pixels, which are refused here
                self._image = Image.open(io.BytesIO(content), formats=("JPEG", "PNG"))
        except _PILLOW_FAULTS as error:
            why = "empty file" if not content else "neither JPEG nor PNG, or damaged"
            raise DecodeError(path.parent, f"{path.name}: {why}") from error
        self.orientation = _orientation(self._image)
        width, height = self._image.size
        if width * height > MAX_PIXELS:
            what = f"{path.name}: {width} x {height} pixels: larger than can be read"
            raise DecodeError(path.parent, what)
        self.size = (width, height) if self.orientation in _TURNED else (height, width)
        """Height and width of the picture as it is shown."""
        self.alpha = self._image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or (
            "transparency" in self._image.info
        )
        """Whether it may be transparent anywhere."""

    def pixels(self, png: "PngDecoder") -> Pixels:
        """uint8 RGB (H, W, 3), as it is shown. Raises DecodeError where it is damaged."""
        if self._image.format == "PNG":
            rgb = png.decode(self.path, self._content)
        else:
            try:
                rgb = np.asarray(self._image.convert("RGB"))
            except _PILLOW_FAULTS as error:
                raise DecodeError(self.path.parent, f"{self.path.name}: {error}") from error
        return _upright(rgb, self.orientation)

    def is_transparent(self) -> bool:
        """Whether any of its pixels is."""
        try:
            return self.alpha and int(np.asarray(self._image.convert("RGBA"))[..., 3].min()) < 255
        except _PILLOW_FAULTS:
            return False


def _orientation(image: Image.Image) -> int:
    """1 where EXIF does not tell, or is damaged."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow reads a stranger's EXIF block without looking at it first
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


class PngDecoder:
    """FFmpeg's decoder of PNG, strict about damage, for one image after the other."""

    def __init__(self) -> None:
        self._context: VideoCodecContext | None = None
        self._reformatter = VideoReformatter()

    def decode(self, path: Path, content: bytes) -> Pixels:
        try:
            context = self._context or _new_context()
            self._context = None  # of a damaged image nothing may stay
            packet = av.Packet(content)
            packet.is_keyframe = True  # else FFmpeg adds the picture to the one before
            [frame] = context.decode(packet)
            self._context = context
            height, width = frame.height, frame.width
            rgb = self._reformatter.reformat(frame, width, height, "rgb24", threads=1)
            return np.asarray(rgb.to_ndarray(), np.uint8)
        except FAULTS as error:
            raise DecodeError(path.parent, f"{path.name}: damaged ({error})") from error


def _new_context() -> VideoCodecContext:
    context = VideoCodecContext.create("png", "r")
    assert isinstance(context, VideoCodecContext)
    context.thread_count = 1
    context.options = {"err_detect": "explode", "max_pixels": str(MAX_PIXELS)}
    return context


def _upright(rgb: NDArray[np.uint8], orientation: int) -> Pixels:
    """(h, w, 3) as EXIF's orientation says that it is shown; any other number than 2 to 8: as is.
    """
    if orientation in (5, 7):
        rgb = rgb.transpose(1, 0, 2)
    turns = {3: 2, 6: 3, 7: 2, 8: 1}.get(orientation, 0)
    rgb = np.rot90(rgb, turns) if turns else rgb
    rgb = rgb[:, ::-1] if orientation == 2 else rgb[::-1] if orientation == 4 else rgb
    return np.ascontiguousarray(rgb)


def read_image(path: Path, size: tuple[int, int] | None, png: PngDecoder) -> Pixels:
    """uint8 RGB (H, W, 3) of an image of a folder, whose images are all of one ``size`` (H, W).
    Raises DecodeError, as of the folder."""
    try:
        content = read_content(path)
    except OSError as error:
        raise DecodeError(path.parent, f"{path.name}: {error.strerror}") from error
    header = ImageHeader(path, content)
    if size is not None and header.size != size:
        height, width = header.size
        what = f"{path.name} is of {width} x {height} pixels, the video of {size[1]} x {size[0]}"
        raise DecodeError(path.parent, what)
    return header.pixels(png)


def read_image_views(
    folder: Path, places: dict[int, list[int]], frames: int, size: tuple[int, int],
    views: Sequence[SpatialView | None], out: NDArray[np.uint8],
) -> None:  # fmt: skip
    """Write the images of a folder of so many ``frames``, by number and where they go, through V
    views into ``out`` (V, T, H, W, 3). Raises DecodeError."""

    def write(number: int, rgb: Pixels) -> None:
        where = places[number]
        for view, seen in zip(views, out, strict=True):
            if view is None:
                seen[where] = rgb
            else:
                show_region(region_in(rgb, view), view, seen, where)

    each_image(folder, sorted(places), frames, size, write)


def each_image(
    folder: Path, wanted: Sequence[int], frames: int, size: tuple[int, int],
    use: Callable[[int, Pixels], None],
) -> None:  # fmt: skip
    """Call ``use`` with each of the images ``wanted`` (numbers) of a folder of so many ``frames``.
    Raises DecodeError."""
    names, png = frame_names(folder, frames), PngDecoder()
    for number in wanted:
        use(number, read_image(folder / names[number], size, png))


def frame_names(folder: Path, frames: int) -> list[str]:
    """Of a folder's images, which were so many ``frames`` when it was probed. Raises DecodeError
    where they are not any more."""
    names = list_images(folder).names
    if len(names) != frames:
        raise DecodeError(folder, f"{len(names)} images, {frames} when it was probed")
    return names
