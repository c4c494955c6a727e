"""The first moments of a process: what must come before anything slow is imported."""

from __future__ import annotations  # read by Pythons that are too old for all else

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from slowfast_dist.cli.environment import require_environment


def main(words: Sequence[str]) -> None:
    """Run the command line ``words``, as `cli.main.main` does.

    From here on a signal to a training asks it to stop, also while Python still imports, and no
    process outlives its launcher.
    """
    require_environment()  # before what an older Python could not even read
    from slowfast_dist.cli.commands import find
    from slowfast_dist.config.errors import UserError
    from slowfast_dist.distributed.environment import adopt_ranks
    from slowfast_dist.distributed.launchers import launcher, watch_siblings
    from slowfast_dist.system import signals
    from slowfast_dist.system.signals import die_with_parent

    command = find(words)
    if command and command.trains:
        signals.install(*signals.PREEMPT_SIGNALS)
    if command and command.launched:
        try:
            adopt_ranks(os.environ)
        except UserError as error:
            from slowfast_dist.cli.main import OTHER_RANKS_DELAY

            names = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")
            rank = next((os.environ[name] for name in names if name in os.environ), "0")
            if rank != "0":  # the first one says it at once; here there may be no first one
                time.sleep(OTHER_RANKS_DELAY)
            who = "" if rank == "0" else f"process {rank}: "
            print(f"error: {who}{error}", file=sys.stderr, flush=True)
            sys.exit(2)
    parent = launcher()
    if parent is not None:
        die_with_parent(parent)
        threading.Thread(target=watch_siblings, args=(parent,), daemon=True).start()
    usual = signal.getsignal(signal.SIGINT)
    if usual is signal.default_int_handler:  # Ctrl-C during an import is no traceback
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from slowfast_dist.cli.main import main as run

    signal.signal(signal.SIGINT, usual)
    try:
        run(words)
    finally:
        # All is done: from here on Ctrl-C ends the process, and not a library's destructor.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            with suppress(AttributeError, OSError):  # there may be none, or nobody reads it
                sys.stdout.flush()
            signal.signal(signal.SIGINT, signal.SIG_DFL)
