"""All that is read from outside beside videos, misshapen: `python -m tests.campaigns.fuzz text`.

Each case is drawn from (seed, target, number) alone, so that one can be repeated by itself. It must
work or raise UserError or RunError with one short line, within its time and memory.
"""

import os
import resource
import shutil
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import FrameType

import psutil

from slowfast_dist.cli.main import one_line
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.data.listing import group_pattern as group_pattern
from tests.campaigns import fuzz_given, fuzz_left, fuzz_pickles, fuzz_runs

Case = Callable[[Path, Random], None]
"""Makes one input in an empty folder and gives it to the program."""

CASE_SECONDS = 20.0
MORE_BYTES = 2 * 1024**3
"""Memory that the cases may take beside what the process has when they begin."""
LINE_LENGTH = 1000
"""Characters of a message."""

TARGETS: dict[str, Case] = {
    case.__name__: case
    for case in (
        fuzz_given.config_file, fuzz_given.command_line, fuzz_given.csv_list, fuzz_given.names,
        fuzz_given.patterns, fuzz_left.best_model, fuzz_left.weights, fuzz_left.checkpoint,
        fuzz_left.resume, fuzz_left.run_files, fuzz_left.probe_cache, fuzz_pickles.pickles,
        fuzz_runs.cache_segment, fuzz_runs.page, fuzz_runs.model_card, fuzz_runs.prepared,
    )
}  # fmt: skip


class TooLongError(BaseException):
    """A case that took longer than CASE_SECONDS."""


@contextmanager
def _limits() -> Iterator[None]:
    """Memory for all that follows; an alarm, where it is set, raises."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TooLongError

    before, patience = resource.getrlimit(resource.RLIMIT_AS), group_pattern.SECONDS
    group_pattern.SECONDS = 0.2  # or the patterns that need it all would need hours
    handler = signal.signal(signal.SIGALRM, ring)
    most = psutil.Process().memory_info().vms + MORE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)
        group_pattern.SECONDS = patience


def run_case(target: str, folder: Path, seed: int, number: int) -> str | None:
    """One case in an empty ``folder``; None where all is well, else what is amiss.

    "" where the program refused it in one line, as it should.
    """
    folder.mkdir()
    here = Path.cwd()
    os.chdir(folder)
    try:
        signal.setitimer(signal.ITIMER_REAL, CASE_SECONDS)
        TARGETS[target](folder, Random(f"{seed} {target} {number}"))
    except (UserError, RunError) as error:
        line = one_line(error)
        if len(line) > LINE_LENGTH or not line.isprintable():
            return f"a line of {len(line)} characters: {line[:200]!r}"
    except TooLongError:
        return f"longer than {CASE_SECONDS:g} s"
    except BaseException:
        return traceback.format_exc(limit=-3)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.chdir(here)
    if (folder / "executed").exists():
        return "a planted call was executed"
    return None


def fuzz_text(root: Path, cases: int, seed: int, targets: Sequence[str] = tuple(TARGETS)) -> bool:
    """``cases`` in all, shared out to the targets; prints a line each and the first of each fault.

    Returns whether all was well; the inputs of what was not stay in ``root``/TARGET.
    """
    fuzz_left.make_files()
    fuzz_runs.make_files()
    well = True
    with _limits():
        for target in targets:  # of the cache few: each starts a process
            faults: Counter[str] = Counter()
            begun, slowest = time.process_time(), 0.0
            share = max(1, cases // len(targets) // (20 if target == "probe_cache" else 1))
            for number in range(share):
                folder, since = root / target / str(number), time.process_time()
                folder.parent.mkdir(exist_ok=True)
                fault = run_case(target, folder, seed, number)
                slowest = max(slowest, time.process_time() - since)
                if fault is None:
                    shutil.rmtree(folder)
                    continue
                kind = fault.strip().splitlines()[-1][:100]
                faults[kind] += 1
                if faults[kind] == 1:
                    print(f"{folder}:\n{fault}", flush=True)
            well &= not faults
            print(
                f"{target}: {share} cases, {faults.total()} faults, slowest {slowest:.2f} s, "
                f"{time.process_time() - begun:.0f} s",
                flush=True,
            )
    return well
