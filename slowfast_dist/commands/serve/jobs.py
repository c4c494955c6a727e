"""The queue of uploaded videos, and the one thread that scores them, one after another."""

import asyncio
import contextlib
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from starlette.exceptions import HTTPException

from slowfast_dist.commands.predict.output import as_json, seconds_of, top
from slowfast_dist.commands.predict.videos import (
    predict_segments,
    predict_video,
    probe_video,
)
from slowfast_dist.commands.serve.upload import Upload
from slowfast_dist.config.errors import WorkerError
from slowfast_dist.inference.predictor import Predictor
from slowfast_dist.inference.seen import SeenVideos
from slowfast_dist.inference.windows import Stopped
from slowfast_dist.system.log import logger
from slowfast_dist.system.memory import give_back_free_memory
from slowfast_dist.video.container import DecodeError

MAX_UPLOADS = 8
"""Videos that are being uploaded, wait or are scored at one time: a ninth is refused. So many
temporary files, each of --max-megabytes, there are at most."""

MAX_OF_ADDRESS = 4
"""Of them those of one address, where strangers come: half, so that nobody has all places."""

TOP = 5
"""Classes in an answer, the most probable first: as many as `predict` prints."""

BATCH_SIZE = 4
"""Clips scored at once: between two batches the work can be stopped, and on a laptop's CPU a batch
of four takes about a second."""

ASSUMED_FPS = 25.0
"""Frames a second of a file that does not say, to estimate its length: European television's."""

PROGRESS_STEP = 0.01
"""Fraction of the work after which progress is sent again: the page's bar has no finer one."""

Event = dict[str, Any] | HTTPException | None
"""A part of the answer, or {"progress": 0 to 1}; at the end None where it is complete, else why
there is none."""


class Job:
    """A video that waits or is scored; ``events`` say how it goes, from its turn on."""

    def __init__(self, upload: Upload) -> None:
        self.upload = upload
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.dropped = threading.Event()
        self.future: Future[Event]
        self._loop = asyncio.get_running_loop()

    def send(self, event: Event) -> None:
        """From any thread."""
        self.call_in_loop(self.events.put_nowait, event)

    def call_in_loop(self, call: Callable[[Any], object], argument: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the server has ended
            self._loop.call_soon_threadsafe(call, argument)


class JobQueue:
    """All methods but `shutdown` are called in the event loop's thread."""

    def __init__(self, predictor: Predictor, max_seconds: float) -> None:
        """``max_seconds``: longer videos are refused."""
        self._predictor, self._max_seconds = predictor, max_seconds
        self._places: dict[Upload, str | None] = {}
        """Those on their way, waiting or scored, and whose they are."""
        self._jobs: list[Job] = []
        """Those that are scored or wait, the oldest first."""
        # One thread for good, as the processes that decode for it end with the thread that made
        # them.
        self._executor = ThreadPoolExecutor(1, "scoring")

    @property
    def free(self) -> int:
        """Videos that may come now."""
        return MAX_UPLOADS - len(self._places)

    def check_share(self, whose: str) -> None:
        """Raise HTTPException (429) where one address has as many places as it may."""
        if list(self._places.values()).count(whose) >= MAX_OF_ADDRESS:
            text = f"{MAX_OF_ADDRESS} videos of your address are on their way or waiting"
            raise HTTPException(429, f"{text}: try again soon", {"Retry-After": "10"})

    def open(self, whose: str | None = None) -> Upload:
        """A file for a video; give it back with `close`, unless it goes to `start`.

        Raises HTTPException (429) where there are MAX_UPLOADS already.
        """
        if not self.free:
            text = f"{MAX_UPLOADS} videos are on their way or waiting: try again soon"
            raise HTTPException(429, text, {"Retry-After": "10"})
        upload = Upload()
        self._places[upload] = whose
        return upload

    def close(self, upload: Upload) -> None:
        """Delete its file; a second time does nothing."""
        upload.close()
        self._places.pop(upload, None)

    def start(self, upload: Upload) -> Job:
        """Let it be scored when its turn comes; end with `drop`."""
        job = Job(upload)
        self._jobs.append(job)
        job.future = self._executor.submit(self._score, job)
        # While the file is read, its descriptor must stay: only the end of the work closes it.
        job.future.add_done_callback(lambda _: job.call_in_loop(self._finish, job))
        return job

    def ahead(self, job: Job) -> int:
        """How many videos come before it."""
        return self._jobs.index(job) if job in self._jobs else 0

    def drop(self, job: Job) -> None:
        """Nobody waits for it any more: it is not begun, or stopped; or it was done already."""
        job.dropped.set()
        job.future.cancel()

    def fail_all(self, error: HTTPException) -> None:
        """Let every job end with the error for those who wait for it."""
        for job in self._jobs:
            job.events.put_nowait(error)

    def _finish(self, job: Job) -> None:
        self._jobs.remove(job)
        self.close(job.upload)
        if not job.future.cancelled():
            job.events.put_nowait(job.future.result())

    def shutdown(self, timeout: float) -> None:
        """Delete all files, once the event loop has ended; ``timeout``: seconds that the work at
        hand has to notice."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        for job in self._jobs:
            job.dropped.set()
        wait([job.future for job in self._jobs if not job.future.cancelled()], timeout)
        for job in self._jobs:
            job.upload.close()

    def _score(self, job: Job) -> Event:
        """In the thread; returns the last event."""
        job.send({"progress": 0.0})
        try:
            _score_video(self._predictor, self._max_seconds, job)
        except DecodeError as error:
            return HTTPException(422, f"cannot be read: {error.reason}")
        except HTTPException as error:
            return error
        except Stopped:
            pass
        except WorkerError as error:
            logger.warning(str(error), extra={"stderr": True})
            return HTTPException(503, f"the server cannot read videos now: {error}")
        except Exception as error:
            traceback.print_exc()
            text = f"the server failed ({type(error).__name__}): see its terminal"
            return HTTPException(500, text)
        finally:
            give_back_free_memory()
        return None


def _score_video(predictor: Predictor, max_seconds: float, job: Job) -> None:
    """Send parts of the answer as they are known, and {"progress": 0 to 1}: the most probable
    classes, then the segments.

    Raises DecodeError for a video that cannot be read, HTTPException (422) for one that is longer
    than ``max_seconds``, Stopped once the job is dropped.
    """
    start, path, stop = time.monotonic(), job.upload.path, job.dropped.is_set
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
    remedy = "the segments tell what happens when in all of it"
    if predictor.best.task.several:
        remedy = "give it in parts"
    seen = SeenVideos(predictor, remedy=remedy)
    seen.add("the video", info)
    notes = seen.notes()
    said = predictor.labels(probabilities)
    told = {"duration": round(duration, 3), "top": classes, **({"notes": notes} if notes else {})}
    if said is not None:  # of several labels there are no segments without gaps
        spent = round(time.monotonic() - start, 3)
        job.send({**told, "predictions": as_json(said, 6), "segments": [], "seconds": spent})
        return
    job.send({**told, "prediction": predictor.label(*best[0])})
    shown = 0.0

    def on_progress(done: float) -> None:
        nonlocal shown
        if done - shown >= PROGRESS_STEP:
            shown = done
            job.send({"progress": round(done, 3)})

    segments = predict_segments(
        predictor, path, info=info, batch_size=BATCH_SIZE, on_progress=on_progress, stop=stop
    )
    job.send({
        "duration": round(segments[-1].end, 3),
        "segments": [segment.as_json(digits=6) for segment in segments],
        "seconds": round(time.monotonic() - start, 3),
    })  # fmt: skip
