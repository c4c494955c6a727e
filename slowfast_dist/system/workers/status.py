"""What a template tells of a worker that it forks, and how long its start is waited for."""

import json
import os
import select
import time
from pathlib import Path

SLOW_SECONDS = 20.0
"""Seconds without a start after which it is said what is waited for: longer than torch's import
takes from a disk, shorter than from a network drive that is just waking up."""

START_SECONDS = 300.0
"""Seconds after which a start is given up: ten times what torch's import takes from a slow network
drive, and less than the other processes wait (distributed.SLOW_PROCESS_SECONDS)."""

STATES = {
    "T": "is stopped: continue it with kill -CONT {pid}",
    "t": "is stopped by a debugger",
    "D": "waits for a disk or a network drive: is the one with Python's packages there?",
}
"""What a process does by the state in /proc/PID/stat, see proc_pid_stat(5), and the remedy."""


def what_it_does(pid: int) -> str:
    """In words, of a process that does not answer. Linux alone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "has ended"
    state = stat.rpartition(")")[2].split()[0]
    still = "still imports its packages, or the machine is too busy: is their drive slow?"
    return STATES.get(state, still).format(pid=pid)


class Status:
    """What is told of a worker, a line of JSON each: {"pid"}, {"error": why it did not start}, and
    at last {"code"}: its exit code, or minus the number of a signal."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.error: str | None = None
        self.code: int | None = None
        self.pid: int | None = None
        self._unread = b""

    def read(self, seconds: float | None) -> bool:
        """Take in what there is, after waiting at most so long for some; False at its end."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        if not poll.poll(None if seconds is None else 1e3 * max(0.0, seconds)):
            return True
        content = os.read(self.fd, 1 << 16)
        *lines, self._unread = (self._unread + content).split(b"\n")
        for line in lines:
            for name, value in json.loads(line).items():
                setattr(self, name, value)
        return bool(content)

    def wait_for_start(self, template: int) -> int | None:
        """The worker's process id, None where it does not start. ``template``: the process that is
        to fork it. Raises TimeoutError, with what that does, where nothing comes."""
        waited, said = 0.0, False
        while self.pid is None and self.code is None:
            begun = time.monotonic()
            if not self.read(1.0):
                break
            waited += min(1.0, time.monotonic() - begun)  # no more where we were stopped meanwhile
            if self.pid is not None or self.code is not None or waited < SLOW_SECONDS:
                continue
            what = f"the process {template}, from which they are forked, {what_it_does(template)}"
            if waited >= START_SECONDS:
                raise TimeoutError(
                    f"no answer in {START_SECONDS:.0f} s: {what} (--data.num-workers 0 needs none)"
                )
            if not said:
                from slowfast_dist.system.log import logger

                logger.info(f"a worker has not started in {waited:.0f} s: {what}; waiting for it")
                said = True
        return self.pid
