"""What a run's page on wandb shows beside curves: confusion matrix, classes, hardest videos."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.metrics.scores import PER_CLASS
from slowfast_dist.metrics.summary import HardVideo
from slowfast_dist.metrics.wrong_labels import Doubt
from slowfast_dist.system import signals
from slowfast_dist.video.guarded_reader import GuardedReader
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.video.views import Region, SpatialView, region_of
from slowfast_dist.video.writer import write_video

VIDEO_SECONDS = 5.0
"""Seconds after which the decoding of one video is given up: the training waits for it."""
TABLE_SECONDS = 20.0
"""Seconds after which no further video of a table is begun, for the same reason."""
MOST_BYTES = 2 * 1024**2
"""Size of the largest excerpt that is shown; those of real clips had .03 to .12 MB."""
MAX_TABLE_CLASSES = 50
"""Classes up to which a confusion matrix is a chart; of more it is an image, as wandb took 12 s for
a table of 400 classes."""

HARDEST = ("video", "clip", "class", "prediction", "confidence", "probability", "loss")
"""Columns of the table of the hardest videos."""

SUGGESTED_VIDEOS = ("video", "clip", "predicted", "probability", "reason")
"""Columns of the table of videos to label next."""

DOUBTS = ("video", "clip", "label", "rather", "label_probability", "probability", "nearest")
"""Columns of the table of videos whose label is probably wrong; "nearest": in words, how their
nearest clips are labelled."""


def hardest_table(hardest: Sequence[HardVideo], videos: VideoTable, data: DataConfig) -> Any:
    """A wandb.Table of HARDEST, a row a video; ``videos`` are those of the validation.

    A video that cannot be read, hangs, or comes after TABLE_SECONDS has its row without a clip.
    """
    import wandb

    table = wandb.Table(columns=[*HARDEST])
    told = [(one.path, f"{one.label}, taken for {one.prediction}") for one in hardest]
    for hard, clip in zip(hardest, _clips(told, videos, data), strict=True):
        table.add_data(
            plain_text(hard.path), clip, hard.label, hard.prediction,
            hard.confidence, hard.probability, hard.loss,
        )  # fmt: skip
    return table


def doubts_table(doubts: Sequence[Doubt], videos: VideoTable, data: DataConfig) -> Any:
    """A wandb.Table of DOUBTS, a row a video whose label is probably wrong; as `hardest_table`."""
    import wandb

    table = wandb.Table(columns=[*DOUBTS])
    told = [(one.path, f"{one.label}, rather {one.probable}") for one in doubts]
    for one, clip in zip(doubts, _clips(told, videos, data), strict=True):
        table.add_data(
            plain_text(one.path), clip, one.label, one.probable, one.label_probability,
            one.probability, one.nearest_words,
        )  # fmt: skip
    return table


@dataclass(frozen=True)
class Suggested:
    """A video, or the part ``span`` of its frames, to label next: what it is called, what it holds
    (None: not known any more), what is predicted of it, and why it was chosen."""

    name: str
    path: Path
    info: VideoInfo | None
    span: tuple[int, int] | None
    predicted: str
    probability: float | None
    reason: str


def suggested_table(suggested: Sequence[Suggested], data: DataConfig) -> Any:
    """A wandb.Table of SUGGESTED_VIDEOS, a row a video; a clip is missing as in
    `hardest_table`."""
    import wandb

    table = wandb.Table(columns=[*SUGGESTED_VIDEOS])
    reader, end = GuardedReader(VIDEO_SECONDS), time.monotonic() + TABLE_SECONDS
    try:
        for one in suggested:
            clip = None
            if one.info is not None and time.monotonic() < end:
                whole = data.sampling == "uniform"
                with suppress(Exception):  # whatever is wrong with a video costs its clip alone
                    region = None
                    if data.crop_box is not None:
                        height, width = one.info.height, one.info.width
                        aspect = one.info.pixel_aspect
                        region = region_of(data.crop_box, height, width, aspect)[0]
                    content = excerpt(
                        one.path, one.info, data.decoder, whole, reader, one.span, region
                    )
                    if len(content) <= MOST_BYTES:
                        caption = plain_text(one.predicted)
                        clip = wandb.Video(BytesIO(content), caption, format="mp4")
            table.add_data(plain_text(one.name), clip, one.predicted, one.probability, one.reason)
    finally:
        reader.close()
    return table


def _clips(
    told: Sequence[tuple[str, str]], videos: VideoTable, data: DataConfig
) -> Iterator[Any]:
    """Of each name and caption a wandb.Video, or None."""
    import wandb

    rows = {name: row for row, name in enumerate(videos.samples())}
    reader, end = GuardedReader(VIDEO_SECONDS), time.monotonic() + TABLE_SECONDS
    try:
        for name, caption in told:
            in_time = time.monotonic() < end and signals.received() is None
            content = _excerpt(videos, rows[name], data, reader) if in_time else None
            yield content and wandb.Video(BytesIO(content), plain_text(caption), format="mp4")
    finally:
        reader.close()


def _excerpt(videos: VideoTable, row: int, data: DataConfig, reader: GuardedReader) -> bytes | None:
    whole = data.sampling == "uniform"  # else the middle, as the model saw it
    try:
        path, info, span = videos.path(row), videos.info(row), videos.span(row)
        region = videos.region(row, data.crop_box)
        content = excerpt(path, info, data.decoder, whole, reader, span, region)
    except Exception:  # whatever is wrong with a video, or with showing it, costs its clip alone
        return None
    return content if len(content) <= MOST_BYTES else None


def per_class_table(rows: Sequence[Mapping[str, Any]]) -> Any:
    """A wandb.Table of the rows that `metrics.per_class` gave."""
    import wandb

    columns = [*rows[0]] if rows else [*PER_CLASS]  # of several labels there are more
    data = [[row[name] for name in columns] for row in rows]
    return wandb.Table(columns=[*columns], data=data)


def plain_text(name: str) -> str:
    """A name that may hold bytes that are no UTF-8, as text."""
    return name.encode("utf-8", "replace").decode()


def confusion_chart(matrix: NDArray[Any], classes: Sequence[str], offline: bool) -> Any:
    """Counts (K, K), rows = true, as wandb's chart or, if K is large or ``offline``, an image."""
    import wandb

    if len(classes) > MAX_TABLE_CLASSES or offline:
        caption = "row: true class, column: prediction, shade: share of the row"
        return wandb.Image(confusion_image(matrix), caption=caption)
    fields = ["Actual", "Predicted", "nPredictions"]
    rows = [
        [actual, predicted, int(matrix[i, j])]
        for i, actual in enumerate(classes)
        for j, predicted in enumerate(classes)
    ]
    return wandb.plot_table(
        "wandb/confusion_matrix/v1",
        wandb.Table(columns=[*fields], data=rows),
        {field: field for field in fields},
        {"title": "Validation"},
    )


def confusion_image(matrix: NDArray[Any]) -> Any:
    """A PIL image, at least 800 pixels wide: each row of counts as shares, white 0 to blue 1."""
    from PIL import Image

    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    dark = np.array([8, 48, 107])
    # The root lifts small shares, which would be invisible among hundreds of classes.
    pixels = 255 - np.sqrt(shares)[:, :, None] * (255 - dark)
    scale = -(-800 // len(matrix))
    small = Image.fromarray(pixels.round().astype(np.uint8))
    return small.resize((len(matrix) * scale, len(matrix) * scale), Image.Resampling.NEAREST)


# Excerpts: a few seconds of a video, small, as an mp4 that browsers play.


SECONDS = 6.0
"""Length of the longest excerpt, long enough for an action."""
RATE = 10
"""Frames a second of an excerpt at most: enough to see what happens, a third of the bytes of 30."""
LONG_SIDE = 256
"""Pixels of an excerpt's longer side; a smaller video keeps its size."""


def excerpt(
    path: Path,
    info: VideoInfo,
    decoder: Literal["auto", "decord", "pyav"],
    whole: bool,
    reader: GuardedReader,
    span: tuple[int, int] | None = None,
    region: Region | None = None,
) -> bytes:
    """An mp4 of H.264 in yuv420p, upright, in square pixels, from the middle of the video, or of
    the frames ``span`` of it (the first, and the one behind the last): all of the picture, or what
    of it is in ``region``.

    ``whole``: frames from all over the video, in fast motion where it is longer than SECONDS.
    Raises DecodeError where the video does not decode, hangs or crashes its decoder.
    """
    first, end = (0, info.frames) if span is None else span
    indices, rate = excerpt_frames(end - first, info.fps, whole)
    indices += first
    region = region or Region(0, 0, info.height, info.width)
    shown_width = max(1, round(region.width * info.pixel_aspect))
    longer = max(region.height, shown_width)
    side = min(LONG_SIDE, longer)
    # The reader gives squares; from one of the longer side the picture only shrinks.
    square = SpatialView(*region, side, flip=False)
    frames = reader.read(path, indices, info, decoder, square)
    scale = side / longer
    size = (_even(shown_width * scale), _even(region.height * scale))
    shown = (cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames)
    with TemporaryDirectory(prefix="slowfast_dist_") as folder:
        target = Path(folder) / "excerpt.mp4"
        write_video(target, (np.asarray(frame, np.uint8) for frame in shown), rate)
        return target.read_bytes()


def excerpt_frames(frames: int, fps: float, whole: bool) -> tuple[NDArray[np.int64], int]:
    """Which of a video's frames are shown, int64 (n,) in order, and how many of them a second."""
    fps = fps if 0 < fps <= 240 else 25.0  # a file may not say, or lie
    span = frames if whole else min(frames, max(1, round(SECONDS * fps)))
    seconds = min(SECONDS, span / fps)
    count = min(span, max(1, round(seconds * RATE)))
    first = (frames - span) // 2
    places = first + (2 * np.arange(count, dtype=np.int64) + 1) * span // (2 * count)
    return places, max(1, round(count / seconds))


def _even(length: float) -> int:
    """4:2:0 has a colour for every 2 x 2 pixels."""
    return max(2, 2 * round(length / 2))
