"""What the words on a command line of INPUTs mean: files, or one live source. No torch.

The first rule that fits decides:

1. A path that exists is that file, whatever its ending, or all videos below that folder, which may
   be folders of numbered images, or is one itself.
2. Digits alone are a camera's number.
3. SCHEME://... is the address of a live source.
4. A word with ``*``, ``?`` or ``[`` is a glob; ``**`` stands for folders of any depth.
"""

import errno
import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.scan import (
    VIDEO_SUFFIXES,
    Skipped,
    all_endings,
    images_of,
    is_video,
    walk_folders,
)
from slowfast_dist.runs.settings import own_image_rate
from slowfast_dist.video.images.listing import FPS_FILE, is_image

_CAMERA = re.compile(r"[0-9]+")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_MAGIC = re.compile(r"[*?[]")
_NO_SUCH_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}


@dataclass(frozen=True)
class Input:
    """A file to be predicted; with a ``reason``, a folder whose files cannot be listed."""

    path: Path
    reason: str | None = None


@dataclass(frozen=True)
class Inputs:
    """``files`` in the order of the command line, below a folder or glob sorted; or ``live``, the
    address or number of a live source, alone.

    ``repeated``: how many of the files were given before; ``skipped``: those in folders that are no
    videos, by their endings.
    """

    files: tuple[Input, ...]
    live: str | None = None
    repeated: int = 0
    skipped: Skipped = field(default_factory=Skipped)


def find_inputs(words: Sequence[str], has_rate: bool = False) -> Inputs:
    """Read the INPUTs of the command line; ``has_rate``: whether it is known how fast folders of
    images are shown that do not tell.

    Raises UserError for one that is not there, for a folder or glob without a video, and for a
    live source beside anything else.
    """
    files: list[Input] = []
    skipped = Skipped()
    for word in words:
        if _exists(word):
            found = _at_path(word, skipped, has_rate)
        elif live := _live(word):
            if len(words) > 1:
                raise UserError(f"INPUT {word}: is a live source: give it alone")
            return Inputs((), live)
        elif _MAGIC.search(word):
            found = _matching(word, skipped, has_rate)
        else:
            raise UserError(
                f"INPUT {word}: no such file or folder: give a video, a folder, a glob in quotes, "
                "a camera's number or an address as rtsp://..."
            )
        files += found
    once = _without_repeats(files)
    return Inputs(tuple(once), None, len(files) - len(once), skipped)


def find_files(run: Path, words: Sequence[str], image_fps: float | None, live: str) -> Inputs:
    """The files of the command line, for a command that takes no live source, which ``live`` says.
    ``image_fps`` as the flag; None: that of the run. Raises as `find_inputs`."""
    rate = image_fps or own_image_rate(run if run.name == "models" else run / "models")
    found = find_inputs(words, rate is not None)
    if found.live is not None:
        raise UserError(f"INPUT {found.live}: {live}: give files")
    return found


def unused_by_windows(windows: bool) -> dict[str, str]:
    """Flags that count for nothing with --windows, or without it, and what is said of them."""
    if windows:
        remedy = "is for whole videos, and a window is one clip: leave it out"
        return dict.fromkeys(("temporal_views", "spatial_crops"), remedy)
    return dict.fromkeys(("window", "stride"), "goes with --windows: add it, or leave it out")


def _exists(word: str) -> bool:
    """Also a link to nothing: what is wrong with it is said when it is read."""
    try:
        os.lstat(word)
    except ValueError:  # a null character
        return False
    except OSError as error:
        if error.errno in _NO_SUCH_FILE:
            return False
        raise UserError(f"INPUT {word}: {error.strerror}: change its permissions") from None
    return True


def _live(word: str) -> str | None:
    """The address or number of a live source, if the word is one."""
    if _CAMERA.fullmatch(word):
        return word
    if (address := _URL.match(word)) is None:
        return None
    if address[1].lower() == "file":
        raise UserError(f"INPUT {word}: give the path without {address[0]}")
    return word


def _at_path(word: str, skipped: Skipped, has_rate: bool) -> list[Input]:
    """The file at a path that exists, or the videos below that folder."""
    if not os.path.isdir(word):
        return [Input(Path(word))]
    if not (found := _in_folder(word, skipped, has_rate)):
        others = f" ({skipped})" if skipped else ""
        raise UserError(
            f"INPUT {word}: no video below this folder{others}; videos end in {all_endings()}: "
            "give one that holds some, or name a file itself"
        )
    return found


def _in_folder(folder: str, skipped: Skipped, has_rate: bool) -> list[Input]:
    """The videos below a folder, which may be one of images itself, and the folders there that
    cannot be read; sorted. Other files are counted in ``skipped``, and so are the images of folders
    beside videos of which nothing tells the rate."""
    found: list[Input] = []
    folders: list[tuple[str, list[bytes], Skipped]] = []  # of images
    has_files = False

    def add_unreadable(error: OSError) -> None:
        reason = f"the folder cannot be read ({error.strerror})"
        found.append(Input(Path(error.filename), reason))

    for here, names in walk_folders(folder, add_unreadable):
        files = [os.fsencode(name) for name in names]
        videos = [name for name in files if is_video(name)]
        images = [] if videos else [name for name in files if is_image(name)]
        found += [Input(Path(here, os.fsdecode(name))) for name in videos]
        has_files |= bool(videos)
        if images_of(images, others := Skipped()):
            folders.append((here, images, others))
        else:
            skipped.update(others)
        for name in set(files).difference(videos, images):
            skipped.add(name)
    for here, images, others in folders:
        if has_files and not has_rate and not os.path.exists(os.path.join(here, FPS_FILE)):
            skipped.add_previews(images)
        else:
            skipped.update(others)
            found.append(Input(Path(here)))
    return sorted(found, key=lambda given: os.fsencode(given.path))


# --- globs ---------------------------------------------------------------------------------------


def _matching(pattern: str, skipped: Skipped, has_rate: bool) -> list[Input]:
    """The videos that a glob matches, and those below the folders that it matches."""
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    # Two in a row mean no more than one, and would be walked through again and again.
    parts = [part for place, part in enumerate(parts) if parts[place : place + 2] != ["**"] * 2]
    matches = sorted(set(_matches("/" if pattern.startswith("/") else "", parts)), key=os.fsencode)
    found: list[Input] = []
    for path in matches:
        if os.path.isdir(path):
            found += _in_folder(path, skipped, has_rate)
        elif os.path.splitext(path)[1].lower() in VIDEO_SUFFIXES:
            found.append(Input(Path(path)))
        else:
            skipped.add(os.fsencode(os.path.basename(path)))
    if not found:
        others = f"only what is no video, as {matches[0]}" if matches else "nothing"
        raise UserError(
            f"INPUT {pattern}: this glob matches {others}: correct it, or name a file itself"
        )
    return found


def _matches(folder: str, parts: Sequence[str]) -> Iterator[str]:
    """Paths below ``folder`` ("" for the current one) that match; as in a shell, ``*`` matches no
    name that begins with a dot."""
    place = parts.index("**") if "**" in parts else len(parts)
    begin, rest = parts[:place], parts[place + 1 :]
    found = glob.glob(os.path.join(glob.escape(folder), *begin)) if begin else [folder]
    if place == len(parts):
        yield from found
    elif not rest:  # a folder stands for all that is below it
        yield from (top or "." for top in found)
    else:
        for top in found:
            for here, _ in walk_folders(top or "."):
                yield from _matches("" if here == "." else here.removeprefix("./"), rest)


def _without_repeats(files: Sequence[Input]) -> list[Input]:
    """Each file the first time it is met, by whatever path."""
    real_folder = cache(os.path.realpath)
    once: dict[str, Input] = {}
    for given in files:
        folder, name = os.path.split(given.path)
        real = os.path.join(real_folder(folder), name)
        once.setdefault(os.path.realpath(real) if os.path.islink(real) else real, given)
    return list(once.values())
