"""One line of progress in place of what pip prints.

    pip install --progress-bar raw ... | python launch/pip_progress.py

On a terminal the line is rewritten; elsewhere one is printed every 15 seconds. pip's warnings and
errors go to its standard error, past this. Needs Python's standard library alone.
"""

import os
import re
import select
import sys
import time

INTERVAL = {True: 0.2, False: 15.0}
"""Seconds between two lines, on a terminal and elsewhere (a log of CI is to stay readable)."""


class Progress:
    """What pip has done so far, by the lines that it prints."""

    def __init__(self) -> None:
        self.packages = 0
        self.bytes = 0
        self.size = 0
        self.name = ""
        self.phase = ""

    def read(self, line: str) -> None:
        if found := re.match(r"\s*(?:Collecting|Processing) (\S+)", line):
            self.packages += 1
            # "torch==2.13.0", or a file: "/folder/torch-2.13.0-cp311-cp311-linux_x86_64.whl"
            end = "-" if found[1].endswith((".whl", ".gz")) else r"[=<>!~;\[]"
            self.name = re.split(end, os.path.basename(found[1]))[0]
        elif found := re.match(r"Progress (\d+) of (\d+)", line):
            # A file's bytes from 0 on; the last line of a file is its size.
            self.size = int(found[1])
            if found[1] == found[2]:
                self.bytes += self.size
                self.size = 0
        elif found := re.match(r"\s*Building (?:editable|wheel) for ([^\s:]+)", line):
            self.phase = f"building {found[1]}"
        elif found := re.match(r"Installing collected packages: (.*)", line):
            self.phase = f"unpacking {len(found[1].split(','))} packages"

    def __str__(self) -> str:
        if self.phase:
            return self.phase
        if not self.packages:
            return "comparing with what is there"
        megabytes = round((self.bytes + self.size) / 1e6)
        return f"{self.packages} packages, {megabytes} MB downloaded, now {self.name}"


def main() -> None:
    progress, started = Progress(), time.monotonic()
    on_terminal = sys.stdout.isatty()
    shown, rest = started, b""
    descriptor = sys.stdin.fileno()
    while True:
        if select.select([descriptor], [], [], 0.2)[0]:
            part = os.read(descriptor, 1 << 16)
            if not part:
                break
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                progress.read(line.decode(errors="replace"))
        now = time.monotonic()
        if now - shown >= INTERVAL[on_terminal]:
            shown = now
            text = f"  {now - started:.0f} s: {progress}"
            print(f"\r{text[:78]:78}" if on_terminal else text, end="" if on_terminal else "\n")
            sys.stdout.flush()
    if on_terminal:
        print(f"\r{'':78}\r", end="")


if __name__ == "__main__":
    main()
