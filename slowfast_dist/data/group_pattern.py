"""--data.group-pattern: which videos are of one recording, by a regular expression."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slowfast_dist.config import UserError
from slowfast_dist.cpu_limit import TooMuchCpuError, cpu_limit

SECONDS, SECONDS_A_NAME = 3.0, 1e-4
"""CPU time in which all groups must be found; a pattern such as 'seq\\d+' takes 1e-6 s a name."""


def compile_pattern(group_pattern: str) -> re.Pattern[str]:
    """Raises UserError for what is no regular expression."""
    try:
        return re.compile(group_pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(
            f"--data.group-pattern {group_pattern!r}: no valid regular expression ({error}); "
            r"give one such as 'seq\d+'"
        ) from None


def group_of(name: str, pattern: re.Pattern[str]) -> str:
    """The captured parts joined, or the whole match, or ``name`` itself where nothing matches."""
    match = pattern.search(name)
    if match is None:
        return name
    return "/".join(part or "" for part in match.groups()) if match.groups() else match[0]


@contextmanager
def time_to_search(pattern: re.Pattern[str], names: int, root: Path) -> Iterator[None]:
    """For a block that searches that many ``names`` below ``root``.

    Raises UserError where it takes beyond all measure: patterns such as (a+)+$ take twice as long
    for each further letter of a name, and a name of 40 letters outlasts the run.
    """
    try:
        with cpu_limit(SECONDS + names * SECONDS_A_NAME):
            yield
    except TooMuchCpuError:
        raise UserError(
            f"--data.group-pattern {pattern.pattern!r}: takes for ever on paths such as those "
            f"below {root}; give a simpler one, without repetitions inside repetitions"
        ) from None
