"""Watch a live source: score the newest window again and again, and print a line each time."""

import json
import os
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from slowfast_dist.commands.predict.frame_buffer import FrameBuffer, Window
from slowfast_dist.commands.predict.output import NONE_SAID, Ranked, as_json, top
from slowfast_dist.config.commands.predict import Predict
from slowfast_dist.config.errors import RunError
from slowfast_dist.inference.drawing.text import printable
from slowfast_dist.inference.windows import NOT_A_NUMBER, default_window
from slowfast_dist.metrics.cells import SEPARATOR
from slowfast_dist.system.progress import note
from slowfast_dist.video.live import END, live_frames
from slowfast_dist.video.pictures import PictureCounts

if TYPE_CHECKING:
    from slowfast_dist.inference.predictor import Predictor

START_SECONDS = 60.0
"""Seconds in which the process that reads must have started, before --timeout counts: on a busy
machine the imports alone take ten."""

POLL_SECONDS = 0.1
"""Longest wait for a frame before the limits (--seconds, --timeout) are checked again."""


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
    newest = FrameBuffer(data, default_window(best, command.window))
    printer = _LinePrinter(predictor, name, command)
    with live_frames(address, data, crops, command.timeout, newest.add):
        stop = due = float("inf")
        while newest.end is None and (now := time.monotonic()) < stop:
            _raise_if_silent(newest, name, command.timeout)
            if newest.begun and stop == float("inf") and command.seconds is not None:
                stop = now + command.seconds
            if newest.full and due == float("inf"):
                due = now
            if newest.full and newest.unseen and now >= due:
                due = now + printer.print(newest)
            else:
                later = due if newest.full and now < due else now + POLL_SECONDS
                newest.wait(min(stop, later, now + POLL_SECONDS) - now)
        ended = newest.end
        if newest.unseen and (printer.lines == 0 or ended == {END: True}):
            printer.print(newest)  # of what is shorter than a window, and the end
        if ended is not None:
            _raise_if_failed(ended, newest.begun, name, command.timeout)


class _LinePrinter:
    """Prints the lines about one source on standard output."""

    def __init__(self, predictor: "Predictor", name: str, command: Predict) -> None:
        self._predictor, self._name, self._command = predictor, name, command
        self._first: float | None = None
        self.lines = 0

    def print(self, newest: FrameBuffer) -> float:
        """Score the newest window and print a line; returns in how many seconds the next is due."""
        if self.lines == 0 and newest.pictures is not None:
            counts = PictureCounts.of_one(newest.pictures)
            for line in self._predictor.best.picture_notes(counts):
                note(f"{self._name}: {line}")
            for line in self._predictor.best.region_notes("--crop-box X Y W H shows one"):
                note(f"{self._name}: {line}")
        window = newest.take()
        assert window is not None
        if self.lines == 0:
            for note_line in self._predictor.best.rate_notes(
                np.array([window.rate]), lambda _: self._name
            ):
                note(note_line)
        predictor = self._predictor
        chances = predictor.calibrated(predictor.probabilities(window.clips).mean(axis=0))
        if not np.isfinite(chances).all():
            raise RunError(f"{self._name}: {NOT_A_NUMBER}")
        lag = time.monotonic() - window.last.arrived + window.last.late
        ranked = top(chances, self._predictor.classes, self._command.top_k)
        said = self._predictor.labels(chances)
        label = self._predictor.label(*ranked[0])
        if self._command.json:
            line = self._json(window, label, ranked, said, lag)
        elif said is None:
            line = _text(window, label, ranked[0][1], lag)
        else:
            line = _text(window, *in_one(said), lag)
        try:
            print(line, flush=True)
        except BrokenPipeError:  # as of "| head"
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(0) from None
        self.lines += 1
        stride = self._command.stride
        return (window.last.time - window.start) / 2 if stride is None else stride

    def _json(
        self, window: Window, label: str, ranked: Ranked, said: Ranked | None, lag: float
    ) -> str:
        """``said``: of several labels those that are said to be there, else None."""
        told: dict[str, Any] = {
            "prediction": label, "confidence": round(ranked[0][1], 6),
        } if said is None else {"predictions": as_json(said, 6)}  # fmt: skip
        self._first = window.start if self._first is None else self._first
        facts: dict[str, Any] = {
            "source": self._name,
            "clock": datetime.now().astimezone().isoformat(timespec="milliseconds"),
            "time": round(window.last.time - self._first, 3),
            **told, "top": as_json(ranked, 6),
            "dropped": window.dropped, "lag": round(lag, 3),
        }  # fmt: skip
        return json.dumps(facts, ensure_ascii=False)


def in_one(said: Ranked) -> tuple[str, float]:
    """Several labels as one, as sure as the least sure of them."""
    label = SEPARATOR.join(name for name, _ in said) or NONE_SAID
    return label, min((value for _, value in said), default=0.0)


def _text(window: Window, label: str, chance: float, lag: float) -> str:
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


def _raise_if_silent(newest: FrameBuffer, name: str, timeout: float) -> None:
    if not newest.ready and newest.silence > START_SECONDS:
        raise RunError(f"{name}: the process that reads it does not start")
    if newest.ready and newest.silence > timeout:
        raise _silent(newest.begun, name, timeout)


def _silent(begun: bool, name: str, timeout: float) -> RunError:
    what = "fell silent" if begun else "sent no picture"
    return RunError(f"{name}: {what} for {timeout:g} s: given up (--timeout)")


def _raise_if_failed(end: dict[str, Any], begun: bool, name: str, timeout: float) -> None:
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
