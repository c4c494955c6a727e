"""What happens in a live source now: the newest window, again and again."""

import json
import os
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from slowfast_dist.commands.predict.lettering import printable
from slowfast_dist.commands.predict.videos import NOT_A_NUMBER
from slowfast_dist.commands.predict.windows import UNIFORM_SECONDS, usual_window
from slowfast_dist.config.commands import Predict
from slowfast_dist.config.errors import RunError
from slowfast_dist.config.training import DataConfig
from slowfast_dist.data.clips import dense_indices, uniform_indices
from slowfast_dist.system.child import Message
from slowfast_dist.system.stream import Ended
from slowfast_dist.video.live import END, live_frames
from slowfast_dist.video.reader import Frames

if TYPE_CHECKING:
    from slowfast_dist.inference.predictor import Predictor

START_SECONDS = 60.0
"""In which the process that reads must have started, before --timeout counts."""

POLL_SECONDS = 0.1


def watch(predictor: "Predictor", address: str, command: Predict) -> None:
    """Say what a camera (its number) or an address shows, a line each time, until it ends.

    Each line is about the newest window, and comes --stride seconds (none: half a window) after the
    one before, or as soon after that as the model is done: frames are dropped rather than kept
    waiting. Raises UserError for a camera that is not there; RunError for a source that does not
    open, fails, or is silent for --timeout seconds, and for a model whose output is no number.
    """
    name = safe_name(address)
    best = predictor.best
    data, crops = best.data, best.evaluation.spatial_crops
    shape = (crops, data.num_frames, data.crop_size, data.crop_size, 3)
    predictor.probabilities(np.zeros(shape, np.uint8))  # the first time takes longest
    newest = NewestFrames(data, usual_window(best, command.window))
    told = _Told(predictor, name, command)
    with live_frames(address, data, crops, command.timeout, newest.add):
        stop = due = float("inf")
        while newest.end is None and (now := time.monotonic()) < stop:
            _refuse_silence(newest, name, command.timeout)
            if newest.begun and stop == float("inf") and command.seconds is not None:
                stop = now + command.seconds
            if newest.full and due == float("inf"):
                due = now
            if newest.full and newest.unseen and now >= due:
                due = now + told.tell(newest)
            else:
                later = due if newest.full and now < due else now + POLL_SECONDS
                newest.wait(min(stop, later, now + POLL_SECONDS) - now)
        ended = newest.end
        if newest.unseen and (told.lines == 0 or ended == {END: True}):
            told.tell(newest)  # of what is shorter than a window, and the end
        if ended is not None:
            _explain(ended, newest.begun, name, command.timeout)


# The newest window of a live source: a bounded buffer between what reads and what scores.


@dataclass(frozen=True)
class Moment:
    """One frame: its own ``time`` and when it ``arrived`` (of time.monotonic), seconds; ``late``
    as in `live_source`; ``number``: how many came before it; ``views`` (crops, size, size, 3)."""

    time: float
    arrived: float
    late: float
    number: int
    views: Frames


@dataclass(frozen=True)
class Window:
    """``clips`` uint8 (crops, T, size, size, 3); ``start`` (seconds of the source) of its first
    frame; its ``last`` frame; frames ``dropped`` so far."""

    clips: Frames
    start: float
    last: Moment
    dropped: int


class NewestFrames:
    """The newest window of a source, however many frames a second it sends: bounded.

    One thread adds, another one takes. Frames that no window covers that was taken, or that were
    left undecoded, count as dropped.
    """

    def __init__(self, data: DataConfig, window: float | None) -> None:
        self._data = data
        self._dense = data.sampling == "dense" and window is None
        self._clip = (data.num_frames - 1) * data.sampling_rate + 1
        self._seconds = UNIFORM_SECONDS if window is None else window
        self._frames: deque[Moment] = deque()
        self._changed = threading.Condition()
        self._received = self._covered = self._skipped = 0
        self._dropped = 0
        self.silence = 0.0
        """Seconds waited in vain since something came; none while this process is stopped."""
        self.ready = self.begun = self.full = False
        """Whether the process runs, a frame has come, and a whole window of them."""
        self.end: dict[str, Any] | None = None
        """The header with which the source ended; {"ended": how} where its process did."""

    def add(self, message: Message | Ended) -> None:
        """What `live_frames` delivers."""
        with self._changed:
            self.silence = 0.0
            if isinstance(message, Ended):
                self.end = self.end or {"ended": message.how}
            elif message.data is None:
                if "ready" in message.header:
                    self.ready = True
                else:
                    self.end = message.header
            else:
                self._add_frame(message.header, message.data)
            self._changed.notify_all()

    def _add_frame(self, header: dict[str, Any], views: Frames) -> None:
        self._dropped += header["skipped"] - self._skipped
        self._skipped = header["skipped"]
        frame = Moment(header["time"], header["arrived"], header["late"], self._received, views)
        self._received += 1
        self.begun = True
        frames = self._frames
        if frames and not 0 <= frame.time - frames[-1].time <= JUMP_SECONDS + self._seconds:
            while frames:
                self._leave_out()
            self.full = False
        # Of many frames a second, or a long window, no more than so many are held.
        least = self._seconds / (DENSITY * self._data.num_frames)
        if not self._dense and len(frames) > 1 and frame.time - frames[-2].time < least:
            frames.pop()
        frames.append(frame)
        while self._is_past(frames[0], frame):
            self._leave_out()
        self.full = self.full or self._is_whole()

    def _is_past(self, oldest: Moment, newest: Moment) -> bool:
        if self._dense:
            return len(self._frames) > self._clip
        return oldest.time <= newest.time - self._seconds

    def _is_whole(self) -> bool:
        count, span = len(self._frames), self._frames[-1].time - self._frames[0].time
        if self._dense:
            return count == self._clip
        return count > 1 and span * count / (count - 1) >= 0.999 * self._seconds

    def _leave_out(self) -> None:
        """The oldest, and those that were not held between it and the next."""
        self._frames.popleft()
        following = self._frames[0].number if self._frames else self._received
        self._dropped += max(0, following - self._covered)
        self._covered = max(self._covered, following)

    @property
    def unseen(self) -> bool:
        """Whether a frame came after the window that was taken last."""
        return self._received > self._covered

    def wait(self, seconds: float) -> None:
        """For something to change."""
        with self._changed:
            if self.end is None and not self._changed.wait(seconds := max(0.0, seconds)):
                self.silence += seconds

    def take(self) -> Window | None:
        """The newest window, or what there is of it; None where there is no frame yet."""
        with self._changed:
            if not self._frames:
                return None
            held = list(self._frames)
            self._covered = self._received
            dropped = self._dropped
        places = self._places(len(held))
        clips = np.stack([held[place].views for place in places], axis=1)
        return Window(clips, held[0].time, held[-1], dropped)

    def _places(self, count: int) -> list[int]:
        number = self._data.num_frames
        if not self._dense:
            return uniform_indices(count, number).tolist()
        return dense_indices(count, number, self._data.sampling_rate, 1.0).tolist()


class _Told:
    """The lines about one source, on standard output."""

    def __init__(self, predictor: "Predictor", name: str, command: Predict) -> None:
        self._predictor, self._name, self._command = predictor, name, command
        self._first: float | None = None
        self.lines = 0

    def tell(self, newest: NewestFrames) -> float:
        """Score the newest window and print a line; returns in how many seconds the next is due."""
        window = newest.take()
        assert window is not None
        chances = self._predictor.probabilities(window.clips).mean(axis=0)
        if not np.isfinite(chances).all():
            raise RunError(f"{self._name}: {NOT_A_NUMBER}")
        lag = time.monotonic() - window.last.arrived + window.last.late
        order = np.argsort(-chances, kind="stable")[: self._command.top_k].tolist()
        top = [(self._predictor.classes[place], float(chances[place])) for place in order]
        line = self._json(window, top, lag) if self._command.json else _text(window, top, lag)
        try:
            print(line, flush=True)
        except BrokenPipeError:  # as of "| head"
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(0) from None
        self.lines += 1
        stride = self._command.stride
        return (window.last.time - window.start) / 2 if stride is None else stride

    def _json(self, window: Window, top: list[tuple[str, float]], lag: float) -> str:
        self._first = window.start if self._first is None else self._first
        facts: dict[str, Any] = {
            "source": self._name,
            "clock": datetime.now().astimezone().isoformat(timespec="milliseconds"),
            "time": round(window.last.time - self._first, 3),
            "prediction": top[0][0],
            "confidence": round(top[0][1], 6),
            "top": [{"class": label, "probability": round(chance, 6)} for label, chance in top],
            "dropped": window.dropped,
            "lag": round(lag, 3),
        }
        return json.dumps(facts, ensure_ascii=False)


def _text(window: Window, top: list[tuple[str, float]], lag: float) -> str:
    label, chance = top[0]
    numbers = f"{chance:6.1%}  dropped {window.dropped}  lag {lag:.2f} s"
    return f"{datetime.now():%H:%M:%S}  {printable(label):<24}  {numbers}"


def safe_name(address: str) -> str:
    """The address without what may be a secret: user, password, and what follows a question
    mark."""
    if address.isdecimal():
        return f"camera {address}"
    try:
        parts = urlsplit(address)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:  # brackets that do not match, say
        return printable(address.partition(":")[0] + "://…")
    return printable(f"{parts.scheme}://{host}{parts.path}")


def _refuse_silence(newest: NewestFrames, name: str, timeout: float) -> None:
    limit = timeout if newest.ready else START_SECONDS
    if newest.silence > limit:
        if not newest.ready:
            raise RunError(f"{name}: the process that reads it does not start")
        raise _silent(newest.begun, name, timeout)


def _silent(begun: bool, name: str, timeout: float) -> RunError:
    what = "fell silent" if begun else "sent no picture"
    return RunError(f"{name}: {what} for {timeout:g} s: given up (--timeout)")


def _explain(end: dict[str, Any], begun: bool, name: str, timeout: float) -> None:
    """Raise RunError unless the source ended as one does."""
    if "bug" in end:
        raise AssertionError(f"a bug, met while reading {name}:\n{end['bug']}")
    if end.get("failed") == "":
        raise _silent(begun, name, timeout)
    if "failed" in end:
        raise RunError(f"{name}: {end['failed']}")
    if "ended" in end:
        raise RunError(f"{name}: crashes what reads it ({end['ended']})")
    if not begun:
        raise RunError(f"{name}: ended before a picture came")


DENSITY = 4
"""Frames held for each that a clip spread over a window takes."""

JUMP_SECONDS = 5.0
"""A source whose clock jumps by so much, or goes back, begins anew."""
