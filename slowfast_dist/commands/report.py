"""The command ``report``: maps of the hardest videos that have none yet, then the page."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from slowfast_dist.config.commands.report import Report
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.report import command as pages
from slowfast_dist.runs.best_model import DESCRIPTION
from slowfast_dist.system.progress import note
from slowfast_dist.training.at_end.maps import explain_hardest


def run_report(runs: Sequence[Path], command: Report) -> None:
    """Write the page about a run, or the one that compares several; raises as
    `report.command.run_report`."""
    wanted = min(command.explain, command.hardest)
    explain = partial(_explain, most=wanted, command=command) if wanted else None
    pages.run_report(runs, command, explain)


def _explain(run: Path, most: int, command: Report) -> None:
    """Whatever is wrong with maps, the page is drawn all the same. Of a run without a best model
    nothing is said: its page says that."""
    if not (run / "models" / DESCRIPTION).is_file():
        return
    try:
        told = explain_hardest(run, most, command.explain_seconds, place=command.videos)
        line = told.line(run)
    except (UserError, RunError, OSError) as error:
        line = f"no maps of the hardest videos: {error}"
    if line is not None:
        note(line)
