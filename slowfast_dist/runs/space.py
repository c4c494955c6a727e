"""Whether the disk has room for what a run will save, found out before it trains."""

from pathlib import Path

from slowfast_dist.config.errors import UserError
from slowfast_dist.system.files import disk_full, free_space
from slowfast_dist.system.text import size


def check_space(
    root: Path, checkpoint: int, model: int, keep: int, resumes: bool, output_dir: Path
) -> str | None:
    """Raise UserError where a run's folder ``root`` cannot hold what will surely be saved there.

    ``checkpoint`` and ``model``: bytes of one checkpoint and of the best model's state_dict, which
    is saved twice; ``keep`` checkpoints stay, and a new one is whole before an old one goes. A run
    that ``resumes`` has some already. Returns a warning where there is room for some of it alone.
    """
    free = free_space(root)
    least = checkpoint if resumes else checkpoint + 2 * model
    most = (keep + 1) * checkpoint + 3 * model
    if free is None or free >= most:
        return None
    if free < least:
        what = f"a checkpoint ({size(checkpoint)}) and the best model ({size(2 * model)})"
        raise UserError(
            f"--output-dir {output_dir}: {disk_full(root, least)} for {what}: make room, or give "
            "another --output-dir"
        )
    if resumes:  # what of it is there already
        taken = (path.stat().st_size for path in root.rglob("*") if path.is_file())
        if free >= most - sum(taken):
            return None
    return (
        f"{size(free)} are free in {root}, and up to {size(most)} are needed for {keep + 1} "
        f"checkpoints ({size(checkpoint)} each, --checkpoint.keep) and the best model: make room"
    )
