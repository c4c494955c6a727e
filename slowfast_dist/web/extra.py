"""What a command with a page needs beside the package's own libraries."""

from collections.abc import Iterator
from contextlib import contextmanager

from slowfast_dist.config.errors import UserError


@contextmanager
def of_extra(command: str) -> Iterator[None]:
    """Around imports of starlette and uvicorn: raises UserError, which names the extra, where one
    is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("slowfast_dist"):
            raise
        raise UserError(
            f"{command}: the package {error.name} is missing: pip install '.[demo]'"
        ) from None
