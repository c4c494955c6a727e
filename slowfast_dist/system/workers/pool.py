"""Several children that answer questions about files: one that hangs or crashes costs its file."""

import time
from collections.abc import Callable, Generator, Iterable
from itertools import islice
from math import inf
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from slowfast_dist.system.child import CRASHES, HANGS, Channel, Child, function_of, name_of


def map_in_children(
    answer: Callable[..., Any], paths: Iterable[Path], workers: int,
    limit: Callable[[Path], float], about: Callable[[Path], dict[str, Any]] | None = None,
    **arguments: Any,
) -> Generator[tuple[Path, Any], None, None]:  # fmt: skip
    """Each path with ``answer(path, **about(path), **arguments)``, in any order, by up to
    ``workers`` children.

    ``answer`` is a function of a module; the arguments and what it returns are JSON values. Those
    of ``about`` are sent with their path, the others once to each child.
    ``paths`` are taken as there is a child for them, so that there need not be a list. ``limit``:
    seconds that an answer is waited for, not counting what the caller does between two; a child
    that takes longer is killed. Where one was killed or died the answer is a ``str``.
    Closing the generator ends the children.
    Raises RuntimeError if the children do not even start.
    """
    following = iter(paths)
    pool: list[_Worker] = []
    try:
        while True:
            idle = [worker for worker in pool if worker.path is None]
            given = list(islice(following, max(1, workers) - len(pool) + len(idle)))
            for _ in given[len(idle) :]:
                idle.append(_Worker(answer, arguments))
                pool.append(idle[-1])  # at once, so that it ends also where the next cannot start
            for worker, path in zip(idle, given, strict=False):
                worker.ask(path, limit(path), about(path) if about else {})
            busy = [worker for worker in pool if worker.path is not None]
            if not busy:
                return
            for worker in _ready_or_late(busy):
                found = worker.take(limit)
                if worker.ended:
                    pool.remove(worker)
                yield found
    finally:
        for worker in pool:
            worker.end()


def _ready_or_late(busy: "list[_Worker]") -> "list[_Worker]":
    """Wait for the first answer, a second at most, and count the time against all: while this
    process is stopped (Ctrl-Z) only one such wait runs out, and no file is blamed for the pause."""
    part = max(0.0, min(1.0, *(worker.seconds_left for worker in busy)))
    begun = time.monotonic()
    answered = wait([worker.channel.reader.fileno() for worker in busy], part)
    waited = min(part, time.monotonic() - begun)
    for worker in busy:
        worker.answered = worker.channel.reader.fileno() in answered
        worker.seconds_left -= waited
    return [worker for worker in busy if worker.answered or worker.seconds_left <= 0]


class _Worker(Child):
    """One child, and the path that it has been given."""

    def __init__(self, answer: Callable[..., Any], arguments: dict[str, Any]) -> None:
        self._name = name_of(answer)
        super().__init__(serve, {"answer": self._name, "arguments": arguments})
        self.path: Path | None = None
        self.seconds_left = inf
        """Of waiting for its answer."""
        self.answered = self.ended = self._ready = False

    def ask(self, path: Path, seconds: float, about: dict[str, Any]) -> None:
        if not self._ready:
            first = self.channel.receive()
            if first is None or "ready" not in first.header:
                why = "" if first is None else f"\n{first.header['bug']}"
                raise RuntimeError(f"a process does not start: {self._name}{why}")
            self._ready = True
        self.path, self.seconds_left = path, seconds
        self.send({"path": str(path), "about": about})

    def take(self, limit: Callable[[Path], float]) -> tuple[Path, Any]:
        """The path with its answer, or with why there is none: the child then is ended."""
        path, self.path = self.path, None
        assert path is not None
        message = self.channel.receive() if self.answered else None
        if message is not None and "answer" in message.header:
            return path, message.header["answer"]
        if self.seconds_left <= 0:
            self.end()
            return path, f"{HANGS}: given up after {limit(path):.0f} s"
        code = self.end(5.0)  # seconds to end by itself, or its code would be that of being killed
        return path, f"{CRASHES} (process ended with {code})"

    def end(self, patience: float = 0.0) -> int:
        self.ended = True
        code = super().end(patience)
        self.channel.reader.close()
        return code


def serve(channel: Channel, request: dict[str, Any]) -> None:
    """What a child of `map_in_children` runs."""
    answer = function_of(request["answer"])
    channel.send({"ready": True})
    while (message := channel.receive()) is not None:
        path, about = Path(message.header["path"]), message.header["about"]
        channel.send({"answer": answer(path, **about, **request["arguments"])})
