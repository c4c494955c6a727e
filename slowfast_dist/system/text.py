"""Names of files and classes, which may hold anything, as a terminal or a page shows them, and as
a shell takes them."""

import shlex
from collections.abc import Sequence
from os import PathLike

JOINERS = "\u200c\u200d"
"""Without which words of Persian or Hindi, and some emoji, are spelled wrong."""


def clean(text: str) -> str:
    """``text`` with its control characters, lone surrogates and bidi overrides made visible.

    Whatever bytes a class or a path has, the result is UTF-8 text that steers nothing.
    """
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() or sign in JOINERS else ascii(sign)[1:-1] for sign in text
    )


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
    raw = word.encode("utf-8", "surrogateescape" if _is_bytes(word) else "replace")
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\x{byte:02x}"
             for byte in raw)  # fmt: skip
    return f"$'{''.join(plain)}'"


def _is_bytes(word: str) -> bool:
    """Whether its surrogates are those of bytes that are no UTF-8."""
    return all(0xDC80 <= ord(sign) <= 0xDCFF for sign in word if 0xD800 <= ord(sign) <= 0xDFFF)
