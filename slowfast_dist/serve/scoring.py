"""What the server finds out about one video."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slowfast_dist.data.video import VideoInfo
from slowfast_dist.prediction.output import top
from slowfast_dist.prediction.segments import find_segments
from slowfast_dist.prediction.videos import look_at, predict_video
from slowfast_dist.prediction.windows import Stopped, score_windows
from slowfast_dist.predictor import Predictor
from slowfast_dist.serve.refusal import Refusal

TOP = 5
BATCH_SIZE = 4
"""Clips scored at once: between two batches the work can be broken off."""


@dataclass(frozen=True)
class Scoring:
    """Tells the most probable classes of a whole video, as `predict` does, then its segments."""

    predictor: Predictor
    max_seconds: float

    def __call__(
        self, path: Path, tell: Callable[[dict[str, Any]], None], stop: Callable[[], bool]
    ) -> None:
        """``tell`` is given parts of the answer as they are known, and {"progress": 0 to 1}.

        Raises DecodeError for a video that cannot be read, Refusal for one that is too long.
        """
        start = time.monotonic()
        info = look_at(path)
        duration = playing_time(info)
        if duration > self.max_seconds:
            raise Refusal(
                422, f"{duration:.0f} s long, more than the {self.max_seconds:g} s taken here: "
                "give a part of it",
            )  # fmt: skip
        if stop():
            return
        views = self.predictor.best.evaluation
        try:
            probabilities = predict_video(
                self.predictor, path, info, views.temporal_views, views.spatial_crops, BATCH_SIZE,
                stop,
            )  # fmt: skip
        except Stopped:
            return
        best = top(probabilities, self.predictor.classes, TOP)
        classes = [{"class": name, "probability": round(value, 6)} for name, value in best]
        tell({"duration": round(duration, 3), "top": classes})
        if stop():
            return
        shown = 0.0

        def on_progress(done: float) -> None:
            nonlocal shown
            if done - shown >= 0.01:
                shown = done
                tell({"progress": round(done, 3)})

        try:
            scores = score_windows(
                self.predictor, path, info, None, None, BATCH_SIZE, on_progress, stop
            )
        except Stopped:
            return
        segments = [
            {
                "start": round(segment.start, 3),
                "end": round(segment.end, 3),
                "class": segment.label,
                "confidence": round(segment.confidence, 6),
            }
            for segment in find_segments(scores, self.predictor.classes, None)
        ]
        tell({
            "duration": round(scores.duration, 3),
            "segments": segments,
            "seconds": round(time.monotonic() - start, 3),
        })  # fmt: skip


FPS = 25.0
"""Taken for a file that does not say."""


def playing_time(info: VideoInfo) -> float:
    """Seconds."""
    return info.frames / (info.fps or FPS)
