"""``serve``: from the command line to a server that answers."""

import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from slowfast_dist.commands.predict.output import top
from slowfast_dist.commands.predict.videos import predict_segments, predict_video, probe_video
from slowfast_dist.commands.predict.windows import Stopped
from slowfast_dist.commands.serve.access import Refusal
from slowfast_dist.config.commands import Serve
from slowfast_dist.config.errors import UserError
from slowfast_dist.inference.predictor import Predictor
from slowfast_dist.video.reader import VideoInfo

END_SECONDS = 0.3
"""For the work at hand to notice that the server ends."""


def run_serve(run: Path, command: Serve) -> NoReturn:
    """Serve the page until Ctrl-C or SIGTERM, which end this process with exit code 0.

    Raises UserError where the run has no best model, the port is taken, or the extra is missing.
    """
    try:
        from slowfast_dist.commands.serve.app import Predict, make_app
        from slowfast_dist.commands.serve.server import listen, serve
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("slowfast_dist"):
            raise
        raise UserError(
            f"serve: the package {error.name} is missing: pip install '.[demo]'"
        ) from None
    listener = listen(command.host, command.port)  # before the model is loaded, which takes longer
    from slowfast_dist.commands.serve.jobs import Jobs
    from slowfast_dist.inference.predictor import open_predictor

    predictor = open_predictor(run, command.backend, command.mixed_precision)
    best = predictor.best
    folder = best.folder.resolve()
    facts: dict[str, Any] = {
        "run": folder.parent.name if folder.name == "models" else folder.name,
        "model": best.model["name"],
        "classes": list(best.classes),
        "top": TOP,
        "max_bytes": int(command.max_megabytes * 1e6),
        "max_seconds": command.max_seconds,
        "time_limit": command.time_limit,
    }
    jobs = Jobs(Scoring(predictor, command.max_seconds))
    predict = Predict(jobs, facts["max_bytes"], command.time_limit)
    app = make_app(jobs, predict, facts, command.host)
    serve(app, listener, lambda: _say(command.host, listener), predict.end)
    jobs.end(END_SECONDS)
    # At once: a batch that is computed cannot be interrupted, and Python takes seconds to take
    # torch apart. What has no name on the disk the kernel deletes, and it ends the decoders.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _say(host: str, listener: socket.socket) -> None:
    from slowfast_dist.commands.serve.access import is_loopback, is_wildcard

    port = listener.getsockname()[1]
    if not is_loopback(host):
        print(
            f"warning: --host {host}: there is no login: whoever reaches port {port} may use this",
            file=sys.stderr, flush=True,
        )  # fmt: skip
    name = "localhost" if is_wildcard(host) else f"[{host}]" if ":" in host else host
    print(f"open http://{name}:{port}/ in a browser (Ctrl-C ends this)", flush=True)


# What the server finds out about one video.


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
        info = probe_video(path)
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
            found = predict_segments(
                self.predictor, path, None, None, None, info, BATCH_SIZE, on_progress, stop
            )
        except Stopped:
            return
        segments = [
            {
                "start": round(segment.start, 3),
                "end": round(segment.end, 3),
                "class": segment.label,
                "confidence": round(segment.probability, 6),
            }
            for segment in found
        ]
        tell({
            "duration": round(found[-1].end, 3),
            "segments": segments,
            "seconds": round(time.monotonic() - start, 3),
        })  # fmt: skip


FPS = 25.0
"""Taken for a file that does not say."""


def playing_time(info: VideoInfo) -> float:
    """Seconds."""
    return info.frames / (info.fps or FPS)
