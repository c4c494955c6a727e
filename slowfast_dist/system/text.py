"""Names, lists and times as a terminal or a page shows them, and names as a shell takes them.

The names of files and classes may hold anything.
"""

import re
import shlex
from collections.abc import Sequence
from os import PathLike

JOINERS = "\u200c\u200d"
"""Invisible characters that stay: without them words of Persian or Hindi, and some emoji, are
spelled wrong."""


def clean(text: str) -> str:
    """``text`` with its control characters, lone surrogates and bidi overrides made visible.
    Whatever bytes a class or a path has, the result is UTF-8 text that steers nothing."""
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() or sign in JOINERS else ascii(sign)[1:-1] for sign in text
    )


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""What would break a line, or steer a terminal."""


def unwritable(text: str) -> str | None:
    """Why a CSV, a log or a terminal cannot hold ``text`` as it is, None if they can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "is not UTF-8"
    return "holds a control character" if _CONTROL.search(text) else None


FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""How a text begins that Excel, LibreOffice and Google Sheets may compute in place of showing it
(OWASP, CSV Injection)."""


def for_spreadsheets(text: str) -> str:
    """With an apostrophe in front, which keeps it a text, where a spreadsheet might compute it."""
    return f"'{text}" if text.startswith(FORMULA) else text


def few(names: Sequence[str], most: int = 3, joint: str = ", ", quoted: bool = False) -> str:
    """The first ``most`` names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return joint.join(repr(name) if quoted else name for name in names[:most]) + more


def clock(seconds: float, digits: int = 0, padded: bool = False) -> str:
    """m:ss, or h:mm:ss from an hour on, with ``digits`` behind the seconds. ``padded``: always
    hh:mm:ss, so that lines stay of one width; --:--:-- for NaN."""
    if seconds != seconds:
        return "--:--:--"
    minutes, rest = divmod(round(max(0.0, seconds), digits), 60)
    hours, minutes = divmod(int(minutes), 60)
    tail = f"{rest:0{3 + digits if digits else 2}.{digits}f}"
    if padded:
        return f"{hours:02}:{minutes:02}:{tail}"
    return f"{hours}:{minutes:02}:{tail}" if hours else f"{minutes}:{tail}"


def size(number: int) -> str:
    """Bytes as kB or MB."""
    return f"{number / 1e6:.1f} MB" if number >= 1e6 else f"{number / 1e3:.0f} kB"


def shell(words: Sequence[str]) -> str:
    """The words as a POSIX shell takes them; bash's $'...' where one has control characters."""
    return " ".join(map(_quoted, words))


def option(flag: str, path: PathLike[str] | str) -> str:
    """The flag with its value as a shell and our command line take them, whatever the path is."""
    value = str(path)
    return shell([f"{flag}={value}"] if value.startswith("-") else [flag, value])


def operand(path: PathLike[str] | str) -> str:
    """A path that stands without a flag, as a shell and our command line take it."""
    return shell([f"./{path}" if str(path).startswith("-") else str(path)])


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    surrogates = [sign for sign in word if 0xD800 <= ord(sign) <= 0xDFFF]
    are_bytes = all(0xDC80 <= ord(sign) <= 0xDCFF for sign in surrogates)  # that are no UTF-8
    raw = word.encode("utf-8", "surrogateescape" if are_bytes else "replace")
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\x{byte:02x}"
             for byte in raw)  # fmt: skip
    return f"$'{''.join(plain)}'"
