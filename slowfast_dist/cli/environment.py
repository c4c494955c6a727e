"""The first thing that a command does: see that the package's environment is there.

This file, and those that are imported before it, run on Pythons that the package itself does not
run on, from 3.7 on, so that these say so.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

OLDEST = (3, 11)
"""The first version of Python that runs the package: see pyproject.toml."""

NEEDED = ("numpy", "yaml", "tyro", "torch", "accelerate", "av")
"""Modules that are looked for: where one is missing, another environment than ours is active."""

ROOT = Path(__file__).resolve().parents[2]
"""The repository, where the package is used from a checkout."""


def require_environment() -> None:
    """End with one line and exit code 2 where Python is too old, or a package is missing.

    Looking costs 2 ms; nothing is imported.
    """
    python = f"{sys.executable or 'this Python'} (Python {sys.version.split()[0]})"
    missing = [name for name in NEEDED if find_spec(name) is None]
    if sys.version_info < OLDEST:
        problem = f"{python} is older than {OLDEST[0]}.{OLDEST[1]}"
    elif missing:
        problem = f"{python} has no {', '.join(missing)}"
    else:
        return
    # Of several processes that a launcher starts alike one speaks.
    ranks = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")
    if {os.environ.get(name) or "0" for name in ranks} == {"0"}:
        print(f"error: {problem}: {remedy()}", file=sys.stderr)
    sys.exit(2)


def remedy() -> str:
    """How to come to the environment, from the current folder."""
    if not (ROOT / "launch" / "setup.sh").is_file():
        return "install the package for it: python -m pip install slowfast_dist"
    here = Path.cwd()
    root = ROOT.relative_to(here) if here in (ROOT, *ROOT.parents) else ROOT
    return (
        f"run 'source {root / 'launch' / 'setup.sh'}' in bash, which sets .venv up (once, some "
        f"minutes) and activates it, as 'source {root / '.venv' / 'bin' / 'activate'}' does later"
    )
