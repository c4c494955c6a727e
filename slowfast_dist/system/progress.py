"""What a person watches: a bar or a plain line during an epoch, a small table at its end.

Transient text (bar, line) goes to standard error, the tables to standard output.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, Self, TextIO, TypeVar

from slowfast_dist.system.memory import memory_now
from slowfast_dist.system.text import clean, clock

LINE_SECONDS = 30.0
"""Seconds from one plain line to the next, where standard error is no terminal: a log of a day of
training then has a few thousand lines."""



def is_terminal(stream: TextIO) -> bool:
    """Whether a bar can be drawn: tqdm draws nothing on 0 columns or fewer than 3 rows."""
    try:
        return stream.isatty() and min(os.get_terminal_size(stream.fileno())) > 2
    except (OSError, ValueError):  # closed, or not backed by a file
        return False


Batch = TypeVar("Batch", bound=Sized)
Answer = TypeVar("Answer")


class Progress:
    """One pass over ``total`` steps, measured, and shown unless ``silent``.

    Use as ``with Progress(...) as progress``, fetch batches under ``progress.waiting()`` and call
    ``progress.update`` after each step. ``loss`` is called only when something is printed, as it
    makes the GPU finish its work first. ``memory`` gives bytes; without it, this process's resident
    memory. ``start`` steps were done before, by the run that this one resumes.
    """

    def __init__(
        self, title: str, total: int, *, start: int = 0, loss: Callable[[], float] | None = None,
        memory: Callable[[], float] | None = None, silent: bool = False,
        line_seconds: float = LINE_SECONDS, stream: TextIO | None = None,
    ) -> None:  # fmt: skip
        self.title, self.total, self.done = title, total, start
        self.clips = 0
        self.waited = 0.0
        self.first_wait: float | None = None
        """Seconds for the first batch, for which the loaders' processes may have to start."""
        self.ended: float | None = None
        self._start, self._loss, self._memory = start, loss, memory
        self._silent, self._line_seconds = silent, line_seconds
        self._stream = sys.stderr if stream is None else stream
        self._bar: Any = None

    def __enter__(self) -> Self:
        self.started = self._shown = time.perf_counter()
        if not self._silent and is_terminal(self._stream):
            from tqdm import tqdm

            self._bar = tqdm(
                desc=self.title, total=self.total, initial=self.done, unit="step",
                file=self._stream, dynamic_ncols=True, leave=False, miniters=1,
                mininterval=1.0,  # seconds: each refresh asks the GPU for the loss, which waits
                bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]",
            )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = time.perf_counter()
        if self._bar is not None:
            self._bar.close()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time in this block as waiting for data."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - begin
            self.waited += seconds
            self.first_wait = seconds if self.first_wait is None else self.first_wait

    def update(self, clips: int, steps: int = 1) -> None:
        """``steps`` more steps are done, in which all processes together took ``clips`` clips."""
        self.done += steps
        self.clips += clips
        if self._silent:
            return
        if self._bar is not None:
            if self._bar.update(steps):
                self._bar.set_postfix_str(self._facts())
            return
        now = time.perf_counter()
        if now - self._shown >= self._line_seconds:
            self._shown = now
            line = f"{self.title} step {self.done}/{self.total} {self._facts()}"
            left = clock(self.seconds_left, padded=True)
            print(f"{line} ETA {left}", file=self._stream, flush=True)

    def over(self, batches: Iterable[Batch], processes: int) -> Iterator[Batch]:
        """The batches, each of them a step; the ``processes`` have equal shares, or nearly."""
        for batch in batches:
            yield batch
            self.update(len(batch) * processes)

    @property
    def seconds(self) -> float:
        """Seconds since the start, or of the whole pass once it is over."""
        return (self.ended or time.perf_counter()) - self.started

    @property
    def clips_per_second(self) -> float:
        """Clips of all processes a second, data-wait included."""
        return self.clips / max(self.seconds, 1e-9)

    @property
    def data_wait_fraction(self) -> float:
        """Share of the time, in [0, 1], in which this process waited for data."""
        return min(self.waited / max(self.seconds, 1e-9), 1.0)

    @property
    def seconds_left(self) -> float:
        """Seconds to the end of this pass at the mean rate so far; NaN before the first step."""
        here = self.done - self._start
        return self.seconds / here * (self.total - self.done) if here else float("nan")

    def _facts(self) -> str:
        loss = "" if self._loss is None else f"loss {self._loss():.3f} "
        memory = self._memory() if self._memory else memory_now()
        return (
            f"{loss}{self.clips_per_second:.1f} clips/s "
            f"data-wait {self.data_wait_fraction:.0%} memory {memory / 1e9:.1f} GB"
        )


def note(text: str) -> None:
    """A line on standard error, also while a progress bar is there."""
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        tqdm.write(clean(text), file=sys.stderr)
    else:  # there is none, and the library need not be imported
        print(clean(text), file=sys.stderr)


def over_files(answers: Iterator[Answer], total: int, title: str) -> Iterator[Answer]:
    """The answers about ``total`` videos as they come, with progress on standard error: a bar on a
    terminal, elsewhere a line every 30 s."""
    if is_terminal(sys.stderr):
        from tqdm import tqdm

        yield from tqdm(answers, title, total, unit="video", dynamic_ncols=True, leave=False)
        return
    started = shown = time.monotonic()
    for done, answer in enumerate(answers, 1):
        now = time.monotonic()
        if now - shown >= LINE_SECONDS:
            shown = now
            left = clock((now - started) / done * (total - done), padded=True)
            print(f"{title}: {done} of {total} ETA {left}", file=sys.stderr, flush=True)
        yield answer
