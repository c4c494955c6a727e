"""The command lines of what is done with videos beside training: one lazy import a command."""

from pathlib import Path

from slowfast_dist.arguments import parse_command
from slowfast_dist.commands import CheckData, Prepare


def check_data(arguments: list[str]) -> None:
    """Report what is wrong with a folder of videos: DIR [flags]."""
    parsed = parse_command(arguments, CheckData(), "check-data", ("DIR",))
    if parsed is None:
        return
    from slowfast_dist.check.command import run_check

    (root,), command = parsed
    run_check(Path(root), command)


def prepare(arguments: list[str]) -> None:
    """Rewrite a folder of videos once, for fast loading: DIR OUT [flags]."""
    parsed = parse_command(arguments, Prepare(), "prepare", ("DIR", "OUT"))
    if parsed is None:
        return
    from slowfast_dist.prepare import run_prepare

    (root, out), command = parsed
    run_prepare(Path(root), Path(out), command)
