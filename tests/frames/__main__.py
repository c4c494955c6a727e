"""Every frame that the product reads, against FFmpeg's full decode of the same file.

``python -m tests.frames DIR [--workers 2] [--verbose]``: all files in DIR, one by one. Each frame
is read by its number in random order (as a loader reads clips), through the index of all packets,
in sequence (as ``prepare`` and ``--segments`` read), and by Decord where the probe calls it exact.
The reference is a strict decode of the whole file by PyAV; where an ``ffmpeg`` program is
installed, that in turn is held against the program's. A line for each file in which something is
wrong, missing or refused, then the sums; the exit code is 1 where a frame is wrong or missing.

``python -m tests.frames --make DIR``: first makes DIR, with a short video by each of the program's
encoders in each of its containers, as far as the program itself writes it and reads it back.
"""

import argparse
import sys
from pathlib import Path

from slowfast_dist.system.workers.pool import map_in_children
from tests.frames.compare import Comparison, compare_file
from tests.frames.make import make_videos

SECONDS = 600.0
"""Seconds after which a file's comparison counts as hanging: a long video is read several times."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "python -m tests.frames", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--make", action="store_true", help="first make DIR, full of videos")
    parser.add_argument("--workers", type=int, default=2, help="files at a time (2)")
    parser.add_argument("--verbose", action="store_true", help="a line for each file")
    options = parser.parse_args(arguments)
    if options.make:
        if options.folder.exists():
            parser.error(f"--make {options.folder} exists: give a new folder")
        print(make_videos(options.folder, options.workers), flush=True)
    elif not options.folder.is_dir():
        parser.error(f"{options.folder} is no folder")
    paths = sorted(path for path in options.folder.rglob("*") if path.is_file())
    found: dict[Path, Comparison] = {}
    answers = map_in_children(compare_file, paths, options.workers, lambda path: SECONDS)
    for path, answer in answers:
        given = Comparison(missing=1, notes=[answer]) if isinstance(answer, str) else answer
        found[path] = Comparison(**given) if isinstance(given, dict) else given
        if options.verbose or found[path].noteworthy:
            name = path.relative_to(options.folder)
            print(f"{name}: {found[path].line()}", flush=True)
    return summary(list(found.values()))


def summary(found: list[Comparison]) -> int:
    """Print the sums; the exit code."""
    wrong, missing = (sum(getattr(one, name) for one in found) for name in ("wrong", "missing"))
    read = [one for one in found if one.refused is None]
    print(
        f"{len(found)} files, {len(read)} read: {sum(one.frames for one in read)} frames, "
        f"{sum(one.reads for one in read)} reads; {wrong} wrong, {missing} missing; "
        f"{len(found) - len(read)} files refused; "
        f"{sum(one.program for one in read)} also held against the ffmpeg program"
    )
    return 1 if wrong or missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
