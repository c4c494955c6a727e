"""Draw text into pictures, in any script for which this machine has a font."""

import subprocess
import sys
from bisect import bisect_right
from functools import lru_cache

from PIL import ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_SYSTEM_FONTS = (
    "NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf", "DejaVuSans.ttf",
    "Arial Unicode.ttf", "PingFang.ttc", "Hiragino Sans GB.ttc", "GeezaPro.ttc",
    "segoeui.ttf", "msyh.ttc", "malgun.ttf", "meiryo.ttc", "Nirmala.ttf", "arial.ttf",
)  # fmt: skip
"""Files of fonts with many scripts, which Pillow finds in the system's folders on Linux, macOS and
Windows, for where fontconfig is not there to ask."""

_NONCHARACTER = "\U0010fffe"
"""A code point that no font has: what is drawn for it is drawn for all that are missing."""


def printable(text: str) -> str:
    """On one line: without line breaks and other characters that are not drawn."""
    return "".join(char if char.isprintable() else " " for char in text).strip() or "?"


@lru_cache(maxsize=512)
def font_for(text: str, size: int) -> Font:
    """Pillow's own font where it has all of the text, else a system font that has most of it."""
    own = ImageFont.load_default(size)
    wanted = {char for char in text if not char.isspace()}
    if not isinstance(own, ImageFont.FreeTypeFont):  # Pillow without FreeType
        return own
    missing = _missing(own, wanted)
    if not missing:
        return own
    best: tuple[int, Font] = len(missing), own
    for file in _font_files("".join(sorted(missing))):
        try:
            font = ImageFont.truetype(file, size)
        except (OSError, ValueError):  # one that is not there, or holds pictures of another size
            continue
        if (left := len(_missing(font, wanted))) < best[0]:
            best = left, font
            if not left:
                break
    return best[1]


def _missing(font: ImageFont.FreeTypeFont, characters: set[str]) -> set[str]:
    try:
        nothing = bytes(font.getmask(_NONCHARACTER))
        return {char for char in characters if bytes(font.getmask(char)) == nothing}
    except (OSError, ValueError):
        return characters


@lru_cache(maxsize=64)
def _font_files(characters: str) -> tuple[str, ...]:
    """Files of fonts that may have these characters, likely ones first."""
    codes = " ".join(f"{ord(char):x}" for char in characters[:64])
    files: list[str] = []
    if sys.platform != "win32":
        for pattern in (f"sans:charset={codes}", f":charset={codes}"):
            try:
                command = ["fc-match", "--sort", "--format", "%{file}\n", pattern]
                done = subprocess.run(
                    command, capture_output=True, text=True, errors="replace", timeout=10
                )
                files += done.stdout.splitlines()[:8]
            except (OSError, subprocess.SubprocessError):  # no fontconfig
                break
    return tuple(dict.fromkeys([*files, *_SYSTEM_FONTS]))


def text_width(text: str, size: int) -> float:
    """Pixels."""
    return font_for(text, size).getlength(text)


def ellipsized(text: str, size: int, width: float) -> str:
    """As much of the text as ``width`` pixels hold, with an ellipsis where some is left out; ""
    where nothing fits."""
    if text_width(text, size) <= width:
        return text

    def shortened(length: int) -> str:
        return text[:length].rstrip() + "…"

    lengths = range(1, len(text) + 1)
    length = bisect_right(lengths, width, key=lambda length: text_width(shortened(length), size))
    return shortened(length) if length else ""


def draw_text(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, colour: str,
    anchor: str = "lm",
) -> None:  # fmt: skip
    """``anchor`` as Pillow's: lm is the middle of the left edge."""
    font = font_for(text, size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        anchor = "la"
    draw.text(place, text, fill=colour, font=font, anchor=anchor)


def format_time(seconds: float, step: float = 1.0) -> str:
    """m:ss, or h:mm:ss; with tenths or hundredths where ``step``, from one to the next, is less
    than a second."""
    digits = 0 if step >= 1 else 1 if step >= 0.1 else 2
    total = round(max(0.0, seconds), digits)
    minutes, rest = divmod(total, 60)
    hours, minutes = divmod(int(minutes), 60)
    tail = f"{rest:0{3 + digits if digits else 2}.{digits}f}"
    return f"{hours}:{minutes:02d}:{tail}" if hours else f"{minutes}:{tail}"
