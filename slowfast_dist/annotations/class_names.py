"""Names of classes by the numbers or codes that lists have for them, in the forms that files have.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from slowfast_dist.config.errors import UserError
from slowfast_dist.system.parsing import parse_json
from slowfast_dist.system.text import clean

FORMS = (
    "a text with a line for each class (NAME; NUMBER NAME; or NAME,NUMBER), or JSON: a list of "
    "names, names by number, or numbers by name"
)

MOST_BYTES = 16 << 20
"""Bytes that are read of such a file at most: a hundred thousand classes."""

_CODE = re.compile(r"[a-z]?\d{1,9}")
"""A number, or one of Charades' codes, c012."""

_CODE_FIRST = re.compile(rf"({_CODE.pattern})[\s,;:]+(\S.*)")
_NUMBER_LAST = re.compile(r"(\S.*?)\s*[,;\t]\s*(\d{1,9})")
_WORD_NUMBER = re.compile(r"(\S+)\s+(\d{1,9})")

_HEADER = frozenset({"id", "index", "number", "label_id", "class_id", "name", "class", "label"})
"""Words of a first line that names columns."""


def read_numbered_names(path: Path) -> dict[str, str]:
    """The names in the file of --classes by number or code, as texts; where it has none, a list
    counts from 0. Raises UserError."""
    try:
        with open(path, "rb") as file:
            text = file.read(MOST_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise UserError(f"--classes {path}: cannot be read ({error}); give {FORMS}") from None
    is_json = path.suffix.lower() == ".json" or text.lstrip()[:1] in ("{", "[")
    try:
        return names_of_json(text) if is_json else _of_lines(text)
    except ValueError as error:
        raise UserError(f"--classes {path}: {error}; give {FORMS}") from None


def names_of_json(text: str) -> dict[str, str]:
    """Of a list of names, also one called classes as in best_model.json, of names by number, or of
    numbers by name. Raises ValueError with what is wrong."""
    try:
        content: Any = parse_json(text)
    except ValueError:
        raise ValueError("is no JSON") from None
    if isinstance(content, dict) and isinstance(content.get("classes"), list):
        content = content["classes"]
    pairs: list[tuple[Any, Any]] = []
    if isinstance(content, list):
        pairs = list(enumerate(content))
    elif isinstance(content, dict):
        pairs = list(content.items())
        if not (_are_codes(content) and all(isinstance(name, str) for _, name in pairs)):
            pairs = [(code, name) for name, code in pairs]
    if not _are_codes(code for code, _ in pairs) or not all(isinstance(n, str) for _, n in pairs):
        raise ValueError("tells no names of classes")
    return _unique((str(code), name) for code, name in pairs)


def _are_codes(codes: Iterable[Any]) -> bool:
    return all(
        isinstance(code, int | str) and not isinstance(code, bool) and _CODE.fullmatch(str(code))
        for code in codes
    )


def _of_lines(text: str) -> dict[str, str]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and {word.strip().casefold() for word in re.split(r"[,;\t]", lines[0])} <= _HEADER:
        lines = lines[1:] if len(lines) > 1 and _all(lines[1:]) else lines
    return _unique(_all(lines) or [(str(number), line) for number, line in enumerate(lines)])


def _all(lines: list[str]) -> list[tuple[str, str]]:
    """Code and name of each line, nothing where not all have both."""
    first = [_CODE_FIRST.fullmatch(line) for line in lines]
    if all(first):
        return [(match[1], match[2]) for match in first if match]
    last = [_NUMBER_LAST.fullmatch(line) for line in lines]
    if all(last):
        return [(match[2], match[1]) for match in last if match]
    # Without a comma "turn 1, turn 2" may be names: then a word or a number is there twice.
    words = [match for line in lines if (match := _WORD_NUMBER.fullmatch(line))]
    apart = len({match[1] for match in words}) == len({match[2] for match in words}) == len(lines)
    return [(match[2], match[1]) for match in words] if apart else []


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for code, name in pairs:
        name = _unquoted(name.strip())
        if not name:
            raise ValueError(f"class {code} has no name")
        if code in found:
            raise ValueError(f"number {clean(code)} is there twice")
        found[code] = name
    if not found:
        raise ValueError("holds no class")
    return found


def _unquoted(name: str) -> str:
    """Without the quotes of a CSV, and those of pytorchvideo's names."""
    return name.strip('"').replace('""', '"').strip() if name[:1] == name[-1:] == '"' else name
