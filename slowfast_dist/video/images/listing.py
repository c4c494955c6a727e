"""Which images of a folder are the frames of a video, in which order, and when they are shown.

The last number in a name counts: frame_10.png follows frame_9.png, however many zeros stand before.
The images keep their times where numbers are missing: the one before is then shown for longer.
"""

import hashlib
import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.fields import MOST_RATE
from slowfast_dist.video.container import DecodeError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
"""Endings of the images that are taken for frames, in small letters; capital ones count as well."""

FPS_FILE = "fps.txt"
"""Beside the images: how many of them are shown a second."""

NO_RATE = (
    "a folder of images that does not tell how many are shown a second: give --data.image-fps "
    f"(--image-fps of other commands), or write the number into a file {FPS_FILE} beside them"
)
"""The reason why such a folder is not read."""

LEAST_IMAGES = 2
"""Numbered images that make a folder a video: a single one is a cover, or a note."""

MOST_SPAN = 10**15
"""From the first number to the last, at most: names that tell nanoseconds reach eleven days, and
the times of what is ten times as wide do not fit into 64 bits."""

MOST_IMAGE_BYTES = 2**29
"""Bytes of the largest image that is read: one of MAX_PIXELS, 16 bits and transparent, which PNG
could not make smaller, has 302 million."""

_NAME = re.compile(r"(.*?)(\d{1,18})(\D*)\.(?:jpe?g|png)", re.IGNORECASE | re.DOTALL)
"""What stands before the last number in a name, the number (of int64), and what follows it."""

_FLOW = re.compile(r"(flow[_-]?)?[xyuv][_-]?|flow[_-]?", re.IGNORECASE)
"""What stands before the number in names of optical flow, as flow_x_00001.jpg of MMAction2 beside
img_00001.jpg."""


@dataclass(frozen=True)
class ImageSequence:
    """The ``names`` of N images in their order, their ``numbers`` (N,), and the names of
    ``others`` that are no frames: optical flow, and images without a number."""

    names: list[str]
    numbers: NDArray[np.int64]
    others: list[str]

    @property
    def step(self) -> int:
        """From one number to the next, in the median: 1, or 10 where every tenth frame was kept."""
        return int(np.sort(np.diff(self.numbers))[(len(self.numbers) - 2) // 2])

    @property
    def missing(self) -> int:
        """Numbers that are left out between the first and the last."""
        steps = np.rint(np.diff(self.numbers) / self.step).astype(np.int64)
        return int(np.maximum(steps - 1, 0).sum())


def is_image(name: bytes) -> bool:
    """Whether a file's name has an image's ending, and is not hidden."""
    dot = name.rfind(b".")
    return dot > 0 and name[:1] != b"." and name[dot:].lower() in _SUFFIXES


_SUFFIXES = frozenset(suffix.encode() for suffix in IMAGE_SUFFIXES)


def find_sequence(names: Iterable[str]) -> ImageSequence | None:
    """The frames among the files of a folder; None where it has too few numbered images for a
    video. Raises ValueError, with a reason for people, for images of several sequences, and for a
    number that is there twice."""
    found: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    others: list[str] = []
    for name in names:
        if not is_image(os.fsencode(name)):
            continue
        if match := _NAME.fullmatch(name):
            found[match[1], match[3]].append((int(match[2]), name))
        else:
            others.append(name)
    flow = [key for key in found if _FLOW.fullmatch(key[0])]
    if len(flow) < len(found):
        others += [name for key in flow for _, name in found.pop(key)]
    if sum(map(len, found.values())) < LEAST_IMAGES:
        return None
    if len(found) > 1:
        firsts = sorted(min(name for _, name in part) for part in found.values())
        shown = " and ".join(firsts[:2])
        raise ValueError(
            f"its images are of {len(found)} sequences, as {shown}: put those of each video into a "
            "folder of its own"
        )
    [frames] = found.values()
    frames.sort()
    for (one, first), (other, second) in pairwise(frames):
        if one == other:
            raise ValueError(f"number {one} is there twice, {first} and {second}: remove one")
    if frames[-1][0] - frames[0][0] > MOST_SPAN:
        raise ValueError(
            f"the numbers of {frames[0][1]} and {frames[-1][1]} are more than {MOST_SPAN:,} apart: "
            "remove the one that is not of the video"
        )
    numbers = np.array([number for number, _ in frames], np.int64)
    return ImageSequence([name for _, name in frames], numbers, others)


def list_images(folder: Path) -> ImageSequence:
    """The frames of a folder. Raises DecodeError where it is no video."""
    try:
        found = find_sequence(os.listdir(folder))
    except OSError as error:
        raise DecodeError(folder, error.strerror or str(error)) from error
    except ValueError as error:
        raise DecodeError(folder, str(error)) from error
    if found is None:
        endings = ", ".join(IMAGE_SUFFIXES)
        raise DecodeError(
            folder, f"a folder without {LEAST_IMAGES} numbered images ({endings}) is no video"
        )
    return found


def read_content(path: Path) -> bytes:
    """All of an image's file. Raises OSError, and DecodeError for more than MOST_IMAGE_BYTES."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size > MOST_IMAGE_BYTES:
            what = f"{path.name} has more than {MOST_IMAGE_BYTES:,} bytes: larger than can be read"
            raise DecodeError(path.parent, what)
        return file.read()


def read_rate(folder: Path, image_fps: float | None) -> Fraction:
    """Images a second: what fps.txt says, as 25, 29.97 or 30000/1001, else ``image_fps``. Raises
    DecodeError where neither tells."""
    try:
        with open(folder / FPS_FILE, encoding="utf-8-sig", errors="replace") as file:
            text = file.read(100).strip()
    except FileNotFoundError:
        if image_fps is None:
            raise DecodeError(folder, NO_RATE) from None
        return Fraction(image_fps).limit_denominator(1001)
    except OSError as error:
        raise DecodeError(folder, f"{FPS_FILE}: {error.strerror}") from error
    try:
        rate = Fraction(text if _RATE.fullmatch(text) else 0)
    except ZeroDivisionError:
        rate = Fraction(0)
    if not Fraction(1, 1000) <= rate <= MOST_RATE:
        raise DecodeError(
            folder, f"{FPS_FILE} holds {text[:40]!r}: write one number above 0, as 25 or 30000/1001"
        )
    return rate.limit_denominator(1001)


_RATE = re.compile(r"\d{1,7}(\.\d{1,9}|/\d{1,7})?")


def frame_ticks(images: ImageSequence, rate: Fraction) -> tuple[NDArray[np.int64], Fraction]:
    """When each image is shown: ticks (N,) from the first one on, and the seconds of a tick. Where
    a number is missing, its time passes."""
    ticks = (images.numbers - images.numbers[0]) * _TICKS
    return ticks, 1 / (rate * images.step * _TICKS)


_TICKS = 1000
"""Ticks from one number to the next: what is off by one of them still counts as even."""


# --- by what a folder is known as unchanged -------------------------------------------------------

Stamp = tuple[int, int]
"""Size and mtime_ns of a file. Of a folder the bytes of its images, and a number from _FOLDER on
that follows from names, sizes and times of all of them: no file is so old."""

_FOLDER = -(1 << 63)
_BITS = 62


def is_folder_stamp(stamps: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of (N, 2) stamps are of folders of images, (N,)."""
    return np.asarray(stamps[:, 1] < _FOLDER + (1 << _BITS))


def stamps_at_rate(stamps: NDArray[np.int64], image_fps: float | None) -> NDArray[np.int64]:
    """(N, 2): those of folders with ``image_fps``, of which follows when their images are shown."""
    if image_fps is None:
        return stamps
    salt = _number(str(float(image_fps)).encode())
    changed = stamps.copy()
    rows = is_folder_stamp(stamps)
    low = stamps[rows, 1] & ((1 << _BITS) - 1)
    changed[rows, 1] = (low ^ salt) + _FOLDER
    return changed


def stamp_of_entries(entries: Iterable["os.DirEntry[bytes]"]) -> Stamp:
    """Of the images (and fps.txt) of a folder, as os.scandir gives them."""
    size, lines = 0, []
    for entry in entries:
        try:
            status = entry.stat()
        except OSError:  # a link to nothing: what reads it says why
            lines.append(b"%s\0-" % entry.name)
            continue
        size += status.st_size
        lines.append(b"%s\0%d\0%d" % (entry.name, status.st_size, status.st_mtime_ns))
    return size, _number(b"\0\0".join(sorted(lines))) + _FOLDER


def _number(content: bytes) -> int:
    digest = hashlib.blake2b(content, digest_size=8).digest()
    return int.from_bytes(digest) & ((1 << _BITS) - 1)


def counts_for_stamp(name: bytes) -> bool:
    return is_image(name) or name == FPS_FILE.encode()


def stamp_of(path: str | Path) -> Stamp | None:
    """Of a file, or of a folder of images; None for any other thing that is there. Raises
    OSError."""
    status = os.stat(path)
    if stat.S_ISREG(status.st_mode):
        return status.st_size, status.st_mtime_ns
    if not stat.S_ISDIR(status.st_mode):
        return None
    with os.scandir(os.fsencode(path)) as entries:
        counted = [entry for entry in entries if counts_for_stamp(entry.name)]
    try:
        images = find_sequence(os.fsdecode(entry.name) for entry in counted)
    except ValueError:
        return stamp_of_entries(counted)  # a video, of which the probe says what is wrong
    return None if images is None else stamp_of_entries(counted)


def is_image_folder(names: Iterable[str]) -> bool:
    """Whether a folder of files of these ``names``, of which none is a video, is one: also one of
    which the probe will say what is wrong."""
    try:
        return find_sequence(names) is not None
    except ValueError:
        return True


def source_sha256(path: Path) -> str:
    """SHA-256 of a file's content, or of those of a folder's images in their order, in hexadecimal
    digits. Raises OSError, and DecodeError for a folder that is no video."""
    if not path.is_dir():
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for name in list_images(path).names:
        content = read_content(path / name)
        digest.update(b"%d\0" % len(content))
        digest.update(content)
    return digest.hexdigest()
