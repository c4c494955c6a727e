"""The run on wandb of a training that is over, for what a later command found out about it."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from slowfast_dist.config.errors import UserError
from slowfast_dist.config.training import WandbConfig
from slowfast_dist.system.files import write_json
from slowfast_dist.system.parsing import parse_json
from slowfast_dist.tracking.wandb_run import NullRun, WandbRun, open_wandb, print_line
from slowfast_dist.tracking.wandb_upload import destination

KEPT = "wandb.json"
"""In the folder of a run that was logged: where it is on wandb, and how many videos it may name
(--wandb.hardest)."""

MOST_NAMED = 100
"""Videos that a table names at most, as --wandb.hardest has it."""

MOST_BYTES = 100_000
"""Of the file that is read: it has some hundred."""

Mode = Literal["auto", "online", "offline", "disabled"]


def remember(folder: Path, config: WandbConfig, run: WandbRun | NullRun) -> None:
    """Note where the training in ``folder`` is logged; where it is not, nothing later is either."""
    if isinstance(run, NullRun):
        (folder / KEPT).unlink(missing_ok=True)
    else:
        write_json(folder / KEPT, {**run.place, "hardest": config.hardest})


def require_logged(folder: Path, mode: Mode) -> None:
    """Raise UserError for a --wandb-mode that asks for a run on wandb where there is none."""
    if mode in ("online", "offline") and _kept(folder) is None:
        raise UserError(
            f"--wandb-mode {mode}: {folder} was not logged on wandb (there is no {KEPT}), so there "
            "is no run to add to: leave it out"
        )


def videos_named(folder: Path) -> int:
    """Of how many videos names and excerpts may go up: as the training was told."""
    told = (_kept(folder) or {}).get("hardest")
    return min(max(told, 0), MOST_NAMED) if type(told) is int else 0


def open_late(folder: Path, mode: Mode, holds: str) -> WandbRun | NullRun:
    """The run on wandb of the training in ``folder``, to add what ``holds`` says.

    auto: as the training was logged, unless wandb's own variables turn it off; of one that was not
    nothing goes anywhere. Whatever is wrong costs a line: the command has done its work.
    """
    kept = _kept(folder)
    if mode == "disabled" or kept is None:
        return NullRun(None)
    values = (kept.get(key) for key in ("project", "name", "entity"))
    project, name, entity = (one if isinstance(one, str) and one else None for one in values)
    config = WandbConfig(mode, project, name)
    if mode == "auto" and kept.get("mode") == "offline":
        turned_off = destination(config, folder, os.environ).mode == "disabled"
        config = config if turned_off else WandbConfig("offline", project, name)
    try:
        return open_wandb(config, folder, {}, kept["id"], holds, entity)
    except UserError as error:
        print_line(f"wandb: nothing is added to the run ({error})")
        return NullRun(None)


def _kept(folder: Path) -> dict[str, Any] | None:
    """What `remember` wrote; None where that is not there, or damaged."""
    with suppress(OSError, ValueError, TypeError):
        with open(folder / KEPT, "rb") as file:
            kept: dict[str, Any] = dict(parse_json(file.read(MOST_BYTES)))
        if isinstance(kept.get("id"), str) and kept["id"]:
            return kept
    return None
