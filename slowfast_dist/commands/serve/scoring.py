"""What the server finds out about one video: the most probable classes, then its segments."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException

from slowfast_dist.commands.predict.output import seconds_of, top
from slowfast_dist.commands.predict.videos import predict_segments, predict_video, probe_video
from slowfast_dist.inference.predictor import Predictor

TOP = 5
"""Classes in an answer, the most probable first: as many as `predict` prints."""

BATCH_SIZE = 4
"""Clips scored at once: between two batches the work can be stopped, and on a laptop's CPU a batch
of four takes about a second."""

ASSUMED_FPS = 25.0
"""Frames a second of a file that does not say, to estimate its length: European television's."""

PROGRESS_STEP = 0.01
"""Fraction of the work after which progress is sent again: the page's bar has no finer one."""


def score_video(
    predictor: Predictor,
    max_seconds: float,
    path: Path,
    send: Callable[[dict[str, Any]], None],
    stop: Callable[[], bool],
) -> None:
    """``send`` is given parts of the answer as they are known, and {"progress": 0 to 1}.

    Raises DecodeError for a video that cannot be read, HTTPException (422) for one that is longer
    than ``max_seconds``, Stopped once ``stop`` returns true.
    """
    start = time.monotonic()
    info = probe_video(path)
    duration = seconds_of(info) or info.frames / ASSUMED_FPS
    if duration > max_seconds:
        raise HTTPException(
            422, f"{duration:.0f} s long, more than the {max_seconds:g} s taken here: give a part "
            "of it",
        )  # fmt: skip
    probabilities = predict_video(predictor, path, info, batch_size=BATCH_SIZE, stop=stop)
    best = top(probabilities, predictor.classes, TOP)
    classes = [{"class": name, "probability": round(value, 6)} for name, value in best]
    send({"duration": round(duration, 3), "top": classes})
    shown = 0.0

    def on_progress(done: float) -> None:
        nonlocal shown
        if done - shown >= PROGRESS_STEP:
            shown = done
            send({"progress": round(done, 3)})

    segments = predict_segments(
        predictor, path, info=info, batch_size=BATCH_SIZE, on_progress=on_progress, stop=stop
    )
    send({
        "duration": round(segments[-1].end, 3),
        "segments": [segment.as_json(digits=6) for segment in segments],
        "seconds": round(time.monotonic() - start, 3),
    })  # fmt: skip
