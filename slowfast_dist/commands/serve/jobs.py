"""One thread that scores the uploaded videos, one after another, and the places before it."""

import asyncio
import contextlib
import os
import sys
import tempfile
import threading
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import IO, Any

from slowfast_dist.commands.serve.access import ClientGone, Refusal
from slowfast_dist.system.memory import give_back_free_memory
from slowfast_dist.video.container import DecodeError

PLACES = 8
"""Videos at once on their way here, waiting or worked on: so many temporary files there are at
most."""

Line = dict[str, Any]
Work = Callable[[Path, Callable[[Line], None], Callable[[], bool]], None]
"""Score the file at a path; tell what is found, in JSON's types; break off when asked to."""

STARTED, DONE, GONE = "started", "done", "gone"
Event = str | Line | Refusal


# An uploaded video on its way to a temporary file: bounded in size and time, never left behind.


class Upload:
    """A temporary file for one video, gone with `close` or with this process, however that ends.

    On Linux it has no name from the start, so that not even ``kill -9`` leaves it; the processes
    that decode it open it through this process's descriptor, which must stay open meanwhile.
    Elsewhere it has a name in the temporary folder, and ``kill -9`` leaves it there.
    Raises Refusal where no file can be made.
    """

    def __init__(self) -> None:
        self._named: Path | None = None
        self.size = 0
        with _disk_faults():
            self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self.path = Path(f"/proc/{os.getpid()}/fd/{self._file.fileno()}")
        if sys.platform != "linux" or not os.access(self.path, os.R_OK):
            self._file.close()
            with _disk_faults():
                handle, name = tempfile.mkstemp(prefix="slowfast_dist-")
            self._file, self.path = os.fdopen(handle, "wb"), Path(name)
            self._named = self.path

    def write(self, data: bytes) -> None:
        with _disk_faults():
            self._file.write(data)
        self.size += len(data)

    def finish(self) -> bytes:
        """What was written is in the file from now on; returns its first HEAD_BYTES."""
        with _disk_faults():
            self._file.flush()
            with open(self.path, "rb", buffering=0) as file:
                return file.read(HEAD_BYTES)

    def close(self) -> None:
        """Delete it; a second time does nothing."""
        with contextlib.suppress(OSError):  # what was not written yet does not fit on the disk
            self._file.close()
        if self._named is not None:
            self._named.unlink(missing_ok=True)


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


SILENCE_SECONDS = 15.0
"""Without a byte, after which an upload is given up."""

SLOWEST_BYTES = 32_000
"""Bytes a second, on average, below which it is given up, too: each upload holds a place."""

HEAD_BYTES = 4096
"""Of a file, that tell whether it is a video."""

Receive = Callable[[], Awaitable[Any]]


@contextlib.contextmanager
def _disk_faults() -> Any:
    try:
        yield
    except OSError as error:
        raise Refusal(507, f"the server cannot keep the video: {error.strerror}") from error


def check_headers(headers: Mapping[str, str], max_bytes: int) -> None:
    """Raise Refusal for an upload whose headers already tell that it will not be taken."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        raise Refusal(
            415, "a form: send the video itself as the body, as curl --data-binary @FILE "
            "-H 'Content-Type: application/octet-stream' does",
        )  # fmt: skip
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, "a body that is compressed: send the video as it is")
    if int(headers.get("content-length", "0")) > max_bytes:  # digits: the HTTP parser saw to it
        raise too_large(max_bytes)


def too_large(max_bytes: int) -> Refusal:
    return Refusal(413, f"larger than the {max_bytes / 1e6:g} MB taken here: give a smaller video")


async def receive_upload(receive: Receive, upload: Upload, max_bytes: int) -> None:
    """Stream the body of a request into ``upload``, and see that it may be a video.

    Raises Refusal for one that is too large, whatever its headers promised, too slow, empty, or no
    video; ClientGone where it breaks off.
    """
    clock = asyncio.get_running_loop().time
    start, more = clock(), True
    while more:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                message = await receive()
        except TimeoutError:
            line = f"nothing came for {SILENCE_SECONDS:g} s: the upload was given up"
            raise Refusal(408, line) from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        body, more = message.get("body", b""), message.get("more_body", False)
        if upload.size + len(body) > max_bytes:
            raise too_large(max_bytes)
        upload.write(body)
        passed = clock() - start
        if more and passed > SILENCE_SECONDS and upload.size < passed * SLOWEST_BYTES:
            raise Refusal(408, f"slower than {SLOWEST_BYTES / 1000:g} kB/s: given up")
    if not upload.size:
        raise Refusal(400, "the file is empty: choose a video")
    if not is_video_format(upload.finish()):
        raise Refusal(
            415, "not a video: give one as mp4, mov, mkv, webm, avi, MPEG, flv, wmv, ogv or gif"
        )


_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"moof", b"sidx"}
_BEGINNINGS = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"\x00\x00\x01",  # MPEG program and elementary streams
    b"\x00\x00\x00\x01",  # H.264 and HEVC streams
    b"FLV\x01", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", b"OggS", b"GIF8", b"DKIF",
)  # fmt: skip


def is_video_format(head: bytes) -> bool:
    """Whether a file that begins so is in one of the formats that hold videos.

    This comes before FFmpeg sees the file: among what it opens besides are playlists and session
    descriptions, which would make it read other files, or the network, at a stranger's wish.
    """
    if head[4:8] in _BOXES or head.startswith(_BEGINNINGS):
        return True
    if head.startswith(b"RIFF") and head[8:11] == b"AVI":
        return True
    # MPEG-TS: packets of 188 bytes, or 192 with a time before each
    return head[:1] + head[188:189] == b"GG" or head[4:5] + head[196:197] == b"GG"
