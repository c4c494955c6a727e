"""--data.group-pattern: which videos are of one recording, by a regular expression."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slowfast_dist.config.errors import UserError
from slowfast_dist.data.listing.columns import Categorical, Texts
from slowfast_dist.system.cpus import TooMuchCpuError, cpu_limit

SECONDS = 3.0
"""CPU seconds in which the groups of a few names must be found: a slow pattern takes for ever."""

SECONDS_A_NAME = 1e-4
"""CPU seconds more for each name, a hundred times what a pattern such as 'seq\\d+' takes."""


def compile_pattern(group_pattern: str) -> re.Pattern[str]:
    """Raises UserError for what is no regular expression."""
    try:
        return re.compile(group_pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(
            f"--data.group-pattern {group_pattern!r}: no valid regular expression ({error}); "
            r"give one such as 'seq\d+'"
        ) from None


def group_of(name: str, pattern: re.Pattern[str]) -> str | None:
    """The captured parts joined, or the whole match; None where nothing matches: the group of such
    a video is its own name."""
    match = pattern.search(name)
    if match is None:
        return None
    return "/".join(part or "" for part in match.groups()) if match.groups() else match[0]


def groups_by_pattern(names: Texts, pattern: re.Pattern[str], root: Path) -> Categorical:
    """(N,) of all paths. Raises UserError where the pattern matches none of them."""
    with time_to_search(pattern, len(names), root):
        found = ((name, group_of(name, pattern)) for name in names)
        groups = Categorical.of(name if own is None else own for name, own in found)
        matches = any(pattern.search(name) for name in names)
    if not matches:
        raise UserError(
            f"--data.group-pattern {pattern.pattern!r}: matches none of the {len(names)} paths "
            f"below {root}, as {names[0]}; give a pattern that does"
        )
    return groups


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
