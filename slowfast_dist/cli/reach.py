"""Whether this user may look where the paths of a command line lead; imports nothing slow."""

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from slowfast_dist.config.checks import flag_types
from slowfast_dist.config.errors import UserError


def check_reach(given: Sequence[Any]) -> None:
    """Raise UserError for a path among a command's words and settings (``given``) that lies where
    this user may not look, and OSError for one that is too long to be a path.

    Later nothing tells either from a file that is missing: from Python 3.14 on ``Path.exists`` and
    its kind are False for them, where they raised before.
    """
    for flag, path in _given_paths(given):
        try:
            os.stat(path)
        except ValueError:  # a null character
            continue
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise
            if error.errno == errno.EACCES:
                why = f"{error.strerror}: change the permissions of the folders that it lies in"
                raise UserError(f"{flag}{path}: {why}") from None


def _given_paths(given: Sequence[Any]) -> Iterator[tuple[str, Path]]:
    """Each path with its flag and a space, or with nothing where it has none."""
    for value in given:
        if is_dataclass(value):
            for flag in flag_types(type(value)):
                setting = attrgetter(flag.replace("-", "_"))(value)
                if isinstance(setting, Path):
                    yield f"--{flag} ", setting
        else:
            for word in value if isinstance(value, list) else [value]:
                if isinstance(word, Path):
                    yield "", word
