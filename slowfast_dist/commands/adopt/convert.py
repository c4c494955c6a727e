"""Settings of another framework -> the flags of a training that does the same."""

from collections.abc import Mapping
from typing import Any

from slowfast_dist.commands.adopt import from_mmaction, from_pyslowfast
from slowfast_dist.commands.adopt.flags import Flags
from slowfast_dist.config.errors import UserError
from slowfast_dist.model.foreign.pickles import FileFault
from slowfast_dist.model.foreign.source_facts import facts_of, kind_of

MOST_NAMED = 12
"""Settings without a counterpart that a line names; of the others it gives the number."""


def converted(config: Mapping[str, Any]) -> list[str]:
    """A line a flag; then, behind #, what has no flag. Raises UserError."""
    try:
        kind, facts = kind_of(config), facts_of(config)
    except FileFault as error:
        raise UserError(f"--config: {error}") from None
    flags = Flags(config)
    (from_pyslowfast if kind == "PySlowFast" else from_mmaction).convert(flags, facts)
    left = flags.left_over()
    if left:
        more = f" and {len(left) - MOST_NAMED} more" if len(left) > MOST_NAMED else ""
        flags.note(f"without a counterpart: {', '.join(left[:MOST_NAMED])}{more}")
    return [*flags.lines, *flags.notes]
