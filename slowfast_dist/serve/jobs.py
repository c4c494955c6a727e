"""One thread that scores the uploaded videos, one after another, and the places before it."""

import asyncio
import contextlib
import threading
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slowfast_dist.data.video import DecodeError
from slowfast_dist.host_memory import give_back_free_memory
from slowfast_dist.serve.refusal import Refusal
from slowfast_dist.serve.upload import Upload

PLACES = 8
"""Videos at once on their way here, waiting or worked on: so many temporary files there are at
most."""

Line = dict[str, Any]
Work = Callable[[Path, Callable[[Line], None], Callable[[], bool]], None]
"""Score the file at a path; tell what is found, in JSON's types; break off when asked to."""

STARTED, DONE, GONE = "started", "done", "gone"
Event = str | Line | Refusal


class Job:
    """A video that waits or is worked on; ``events`` tell how it goes, the last one is DONE, a
    Refusal, or GONE."""

    def __init__(self, upload: Upload) -> None:
        self.upload = upload
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.dropped = threading.Event()
        self._loop = asyncio.get_running_loop()

    def tell(self, event: Event) -> None:
        """From any thread."""
        self.in_loop(self.events.put_nowait, event)

    def in_loop(self, call: Callable[[Any], object], argument: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the server has ended
            self._loop.call_soon_threadsafe(call, argument)


class Jobs:
    """All methods but `end` are of the event loop's thread."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._places = PLACES
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._ending = False
        self._news = threading.Condition()
        # A daemon, as what it computes cannot be interrupted; and one thread for good, as the
        # processes that decode for it end with the thread that made them.
        self._thread = threading.Thread(target=self._run, name="scoring", daemon=True)
        self._thread.start()

    def open(self) -> Upload:
        """A place and a file for a video; give it back with `close`, unless it goes to `start`.

        Raises Refusal where all places are taken.
        """
        if not self._places:
            raise Refusal(429, f"{PLACES} videos are on their way or waiting: try again soon")
        upload = Upload()
        self._places -= 1
        return upload

    def close(self, upload: Upload) -> None:
        upload.close()
        self._places += 1

    def start(self, upload: Upload) -> Job:
        """Let it be scored when its turn comes; end with `drop`."""
        job = Job(upload)
        with self._news:
            self._waiting.append(job)
            self._news.notify()
        return job

    def ahead(self, job: Job) -> int:
        """Videos that come before it."""
        with self._news:
            if job not in self._waiting:
                return 0
            return self._waiting.index(job) + (self._running is not None)

    def drop(self, job: Job) -> None:
        """Nobody waits for it any more: it is not begun, or broken off; or it was done already."""
        job.dropped.set()
        with self._news:
            if job not in self._waiting:
                return  # the thread closes it: while it is read, its descriptor must stay
            self._waiting.remove(job)
        self.close(job.upload)

    def end(self, patience: float) -> None:
        """Take no more, delete what is there, and give the thread so many seconds to end."""
        with self._news:
            self._ending = True
            left = [*self._waiting, *([self._running] if self._running else [])]
            self._waiting.clear()
            self._news.notify()
        for job in left:
            job.dropped.set()
        self._thread.join(patience)
        for job in left:
            job.upload.close()

    # --- in the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._news:
                self._running = None
                self._news.wait_for(lambda: self._waiting or self._ending)
                if self._ending:
                    return
                job = self._running = self._waiting.popleft()
            last = self._score(job)
            give_back_free_memory()
            # Closed in the loop, which counts the places; only now, as the decoders open it by its
            # descriptor.
            job.in_loop(self.close, job.upload)
            job.tell(last)

    def _score(self, job: Job) -> Event:
        """Returns how it ended."""
        job.tell(STARTED)
        try:
            self._work(job.upload.path, job.tell, job.dropped.is_set)
        except DecodeError as error:
            return Refusal(422, f"cannot be read: {error.reason}")
        except Refusal as refusal:
            return refusal
        except Exception as error:
            traceback.print_exc()
            return Refusal(500, f"the server failed ({type(error).__name__}): see its terminal")
        return DONE
