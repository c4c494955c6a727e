"""A long video with a list of segments against the same segments cut out: accuracy, time a clip.

``python -m tests.campaigns.segments --minutes 120 --segments 300`` makes both, reads the same clips
of both in turn in one process, trains the demo on either, and prints one JSON object. With
``--background`` what lies between the segments is a class of its own, drawn from the long video in
one training and cut out of it for the other; the first model is then scored over another long video
of a sixth of the time.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.clips import clip_indices
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.videos.finding import find_videos
from slowfast_dist.data.videos.video_set import VideoSet
from slowfast_dist.metrics.over_time import SCORES
from slowfast_dist.runs.reading import read_json
from slowfast_dist.video.container import OpenFiles
from slowfast_dist.video.reader import read_views
from slowfast_dist.video.views import training_view
from tests.helpers.long_videos import pauses, plan, write_cut, write_long

BACKGROUND = "nothing"

Sides = tuple[VideoTable, VideoTable]


def clip_milliseconds(
    lists: dict[str, Path], data: DataConfig, clips: int, repeats: int
) -> dict[str, list[float]]:
    """CPU ms to read a clip, on average over the same ``clips`` of each list's segments, in turn,
    ``repeats`` times other ones; long files stay open from one to the next, as in a training's
    decoding process."""
    tables = {name: find_videos(DataConfig(root=path), 0) for name, path in lists.items()}
    # The two lists name their samples differently; both are in the order of class and time.
    sides = {name: _without_background(found) for name, found in tables.items()}
    files = {name: OpenFiles() for name in lists}
    rounds = [_round(sides, files, data, clips, seed) for seed in range(repeats)]
    return {name: [1000 * spent[name] / clips for spent in rounds] for name in lists}


def _without_background(found: VideoSet) -> VideoTable:
    """The training videos of the classes that every list has."""
    if BACKGROUND not in found.classes:
        return found.train
    kept = np.flatnonzero(found.train.labels != found.classes.index(BACKGROUND))
    return found.train.select(kept)


def _round(
    sides: dict[str, VideoTable], files: dict[str, OpenFiles], data: DataConfig, clips: int,
    draw: int,
) -> dict[str, float]:  # fmt: skip
    """CPU seconds of all clips, by list."""
    spent = dict.fromkeys(sides, 0.0)
    rng = np.random.default_rng(draw)
    for number in range(clips + 5):
        row, position = int(rng.integers(len(sides["long"]))), float(rng.random())
        seed = int(rng.integers(1 << 30))
        pixels = []
        for name, table in sides.items():
            info = table.info(row)
            view = training_view(info.height, info.width, data, np.random.default_rng(seed))
            started = time.process_time()
            indices = clip_indices(info, data, position, table.span(row))
            read = read_views(table.path(row), indices, info, "auto", [view], None, files[name])
            if number >= 5:  # the first ones load libraries
                spent[name] += time.process_time() - started
            pixels.append(read[0].astype(np.int16))
        for other in pixels[1:]:  # the same frames, coded anew
            assert np.abs(other - pixels[0]).mean() < 8, (row, position)
    return spent


def train(table: Path, output: Path, flags: Sequence[str]) -> dict[str, Any]:
    """The demo's settings on a list: accuracy of the best epoch's validation, and its interval."""
    command = [
        sys.executable, "-m", "train", "demo", "--data.root", str(table), "--data.synthetic",
        "false", "--output-dir", str(output), "--wandb.mode", "disabled", *flags,
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=sys.stderr)
    best: Any = read_json(output / "models" / "best_model.json")
    return {
        "accuracy": best["metrics"]["val/accuracy"], "interval": best["intervals"]["accuracy"],
        "epoch": best["epoch"],
    }  # fmt: skip


def score(run: Path, table: Path, folder: Path) -> dict[str, Any]:
    """The scores over time of a list whose files no training saw."""
    command = [
        sys.executable, "-m", "slowfast_dist", "evaluate", str(run), "--data", str(table),
        "--segments", "--output", str(folder),
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=sys.stderr)
    facts: Any = read_json(folder / "metrics.json")
    names = [*SCORES, "true_events", "found_events", "matched_events"]
    return {name: facts[name] for name in names}


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--segments", type=int, default=300)
    parser.add_argument("--key-seconds", type=float, default=10)
    parser.add_argument("--size", type=int, default=72, help="pixels of the videos to read")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5, help="of reading the clips")
    parser.add_argument("--epochs", type=int, default=10, help="0: only read")
    parser.add_argument("--background", action="store_true")
    parser.add_argument("--folder", type=Path, help="where the videos and runs go, and stay")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="segments_") as temporary:
        folder = options.folder or Path(temporary)
        seconds = 60 * options.minutes
        parts = plan(options.segments, seconds)
        size, keys = options.size, options.key_seconds
        lists = {"long": folder / "long" / "segments.csv", "cut": folder / "cut" / "cut.csv"}
        if not lists["cut"].exists():  # made last
            write_long(folder / "long", parts, seconds, keys, size)
            still = pauses(parts, BACKGROUND) if options.background else ()
            write_cut(folder / "cut", parts, keys, size, still)
        prepared = folder / "prepared"
        command = [sys.executable, "-m", "slowfast_dist", "prepare", str(lists["long"])]
        sides = ["--short-side", str(size)]
        subprocess.run([*command, str(prepared), *sides], check=True, stdout=sys.stderr)
        lists["prepared"] = prepared / lists["long"].name
        data = DataConfig(
            num_frames=16, sampling_rate=1, short_side=(size, size), crop_size=size // 9 * 8,
            flip=False,
        )  # fmt: skip
        costs = clip_milliseconds(lists, data, options.clips, options.repeats)
        cost = {name: median(rounds) for name, rounds in costs.items()}
        ratios = [long / cut for long, cut in zip(costs["long"], costs["cut"], strict=True)]
        result: dict[str, Any] = {
            "minutes": options.minutes, "segments": options.segments, "size": size,
            "clip_ms": cost, "ratio": median(ratios), "ratios": [min(ratios), max(ratios)],
            "prepared_ratio": cost["prepared"] / cost["cut"],
        }  # fmt: skip
        if options.epochs:
            flags = ["--epochs", str(options.epochs)]
            drawn = ["--data.background", BACKGROUND] if options.background else []
            result["training"] = {
                "long": train(lists["long"], folder / "run_long", [*flags, *drawn]),
                "cut": train(lists["cut"], folder / "run_cut", flags),
            }
            if options.background:
                run, other = folder / "run_long", folder / "other"
                table = other / "segments.csv"
                if not table.exists():
                    shown = plan(max(1, options.segments // 6), seconds / 6, 1, val_share=1)
                    write_long(other, shown, seconds / 6, keys, size)
                result["over_time"] = score(run, table, folder / "scored")
        print(json.dumps(result))
        return result


if __name__ == "__main__":
    main()
