"""Throw at the program what nobody should give it, and see that it costs only what is bad.

``python -m tests.campaigns.fuzz videos [--files 1000] [--good 100] [--seed 0] [--source DIR]``:
damaged videos among good ones, through the real training, evaluation and check-data, also with
--full. They must end well, within their time and memory; every good video is used, every other one
decodes or is listed.
DIR: videos to damage; by default $SLOWFAST_DIST_TEST_DATA, and without it small ones are made.

``python -m tests.campaigns.fuzz text [--cases 5000] [--seed 0]``: CSV lists, YAML files, flags,
names of classes and files, patterns, a run's own files. Each case works or is one line for the
user.

``python -m tests.campaigns.fuzz pickles [--cases 10000] [--seed 0]``: files of weights, mutated.
None may execute anything, which Python's audit events tell.

Prints what it did; the exit code is 1 where anything is amiss, and the inputs are then kept.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from tests.campaigns.fuzz_text import fuzz_text
from tests.campaigns.fuzz_videos import fuzz_videos


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "python -m tests.campaigns.fuzz", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="keeps everything; else only what is amiss")
    commands = parser.add_subparsers(dest="command", required=True)
    videos = commands.add_parser("videos", help="damaged videos among good ones")
    videos.add_argument("--files", type=int, default=1000, help="damaged ones")
    videos.add_argument("--good", type=int, default=100)
    videos.add_argument("--source", type=Path)
    text = commands.add_parser("text", help="all else that is read from outside")
    text.add_argument("--cases", type=int, default=5000)
    pickles = commands.add_parser("pickles", help="files of weights")
    pickles.add_argument("--cases", type=int, default=10_000)
    for command in (videos, text, pickles):  # also behind the command's name
        command.add_argument("--seed", type=int, default=argparse.SUPPRESS)
        command.add_argument("--output", type=Path, default=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.output is not None and options.output.exists():
        parser.error(f"--output {options.output} exists: give a new folder")
    root = options.output or Path(tempfile.mkdtemp(prefix="fuzz-"))
    root.mkdir(parents=True, exist_ok=True)
    if options.command == "videos":
        source = options.source or os.environ.get("SLOWFAST_DIST_TEST_DATA")
        well = fuzz_videos(
            root, Path(source) if source else None, options.files, options.good, options.seed
        )
    else:
        chosen = {"targets": ["pickles"]} if options.command == "pickles" else {}
        well = fuzz_text(root, options.cases, options.seed, **chosen)
    if well and options.output is None:
        shutil.rmtree(root)
    elif not well:
        print(f"the inputs and what was printed: {root}")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
