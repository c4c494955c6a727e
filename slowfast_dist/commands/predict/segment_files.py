"""Write the files about a long video: its segments, a timeline, an annotated copy."""

import contextlib
import csv
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from slowfast_dist.annotations.formats.writers import WRITERS
from slowfast_dist.annotations.formats.writing import Found, VideoSegments
from slowfast_dist.commands.predict.annotate import annotate
from slowfast_dist.config.commands.predict import Predict
from slowfast_dist.config.errors import RunError
from slowfast_dist.inference.drawing.names import SUFFIXES, claim_name
from slowfast_dist.inference.drawing.timeline import draw_timeline
from slowfast_dist.inference.segments import SegmentedVideo, find_segments, with_unknown
from slowfast_dist.inference.windows import score_windows
from slowfast_dist.system.files import atomic_write, reason_of, write_json
from slowfast_dist.system.progress import LINE_SECONDS, is_terminal
from slowfast_dist.system.text import for_spreadsheets
from slowfast_dist.video.reader import VideoInfo

if TYPE_CHECKING:
    from slowfast_dist.inference.predictor import Predictor

def write_segment_files(
    predictor: "Predictor", path: Path, info: VideoInfo, command: Predict
) -> dict[str, Any]:
    """Do what --segments and --annotate ask for with one video.

    Files called after the video go into --output; they replace those of an earlier prediction of
    the same video, never another file. Returns {"segments": [{"start", "end", "class",
    "confidence"}, ...], "files": [path, ...]}. Raises DecodeError for a video that cannot be read,
    UserError for a folder that cannot be made, RunError for what cannot be written.
    """
    folder = command.output
    with _progress_bar(path, 1 + command.annotate) as progress:
        scores = score_windows(
            predictor, path, info, command.window, command.stride, command.batch_size, progress
        )
        segments = with_unknown(
            find_segments(scores, predictor.classes, command.smoothing),
            predictor.best.min_confidence,
        )
        video = SegmentedVideo(scores, segments, predictor.classes, command.smoothing)
        rows = [segment.as_json(digits=4) for segment in segments]
        name = claim_name(folder, path)
        files: list[Path] = []
        try:
            if command.segments:
                files = [folder / (name + suffix) for suffix in SUFFIXES[:3]]
                about = {"video": _utf8(path), "duration": round(scores.duration, 3)}
                write_json(files[0], {**about, "segments": rows})
                with atomic_write(files[1], "w") as file:
                    writer = csv.DictWriter(file, ["start", "end", "class", "confidence"])
                    writer.writeheader()
                    safe = for_spreadsheets if command.csv_safe else str
                    writer.writerows({**row, "class": safe(row["class"])} for row in rows)
                draw_timeline(files[2], video, path.name)
                found = _for_tools(path, info, video)
                for suffix, write in map(WRITERS.__getitem__, command.format):
                    files.append(folder / (name + suffix))
                    with atomic_write(files[-1], "w") as file:
                        file.write(write(found))
            if command.annotate:
                files.append(folder / (name + SUFFIXES[3]))
                lost = annotate(path, info, files[-1], video, lambda done: progress(1 + done))
                if lost:
                    print(f"{_utf8(path)}: {lost}", file=sys.stderr)
        except OSError as error:
            where = error.filename or folder
            raise RunError(f"{where}: cannot be written ({reason_of(error, folder)})") from error
    return {"segments": rows, "files": [str(file) for file in files]}


def _for_tools(path: Path, info: VideoInfo, video: SegmentedVideo) -> VideoSegments:
    segments = [Found(one.start, one.end, one.label, one.probability) for one in video.segments]
    rate, seconds = info.uneven_rate or info.fps, video.scores.duration
    classes = [*video.classes, *sorted(video.seconds().keys() - set(video.classes))]
    return VideoSegments(_utf8(path.resolve()), seconds, rate, classes, segments)


def _utf8(path: Path) -> str:
    """What of its name UTF-8 does not have is written as numbers."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


@contextlib.contextmanager
def _progress_bar(path: Path, parts: int) -> Iterator[Callable[[float], None]]:
    """Progress of the work on one video, on standard error: a bar on a terminal, elsewhere a line
    every 30 s. What it yields is called with how many of the ``parts`` are done."""
    title, printed = _utf8(Path(path.name)), time.monotonic()
    with tqdm(
        total=100, desc=title, unit="%", leave=False, dynamic_ncols=True,
        disable=not is_terminal(sys.stderr), bar_format="{l_bar}{bar}| {remaining}",
    ) as bar:  # fmt: skip

        def show(done: float) -> None:
            nonlocal printed
            percent = min(100, int(100 * done / parts))
            bar.update(percent - bar.n)
            if bar.disable and time.monotonic() - printed >= LINE_SECONDS:
                printed = time.monotonic()
                print(f"{title}: {percent} %", file=sys.stderr, flush=True)

        yield show
