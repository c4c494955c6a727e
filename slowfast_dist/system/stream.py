"""A child that sends what it finds as it finds it, handed on by a thread of this process."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from slowfast_dist.system.child import Child, Message, Work, how_it_ended


@dataclass(frozen=True)
class Ended:
    """The process sends no more; ``how`` it ended, for people ("signal SIGSEGV")."""

    how: str


class StreamProcess:
    """Runs ``work`` in a `Child`; a thread hands each of its messages to ``deliver`` as it comes,
    and at last an `Ended`.

    A ``deliver`` that does not return holds the process back: no more than a pipe's worth waits.
    """

    def __init__(
        self, work: Work, request: Mapping[str, Any], deliver: Callable[[Message | Ended], None]
    ) -> None:
        self._child = Child(work, request)
        self.send = self._child.send
        self._deliver = deliver
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it, if it still runs."""
        self._child.end()

    def __enter__(self) -> "StreamProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        with self._child.channel.reader:
            while (message := self._child.channel.receive()) is not None:
                self._deliver(message)
        self._deliver(Ended(how_it_ended(self._child.wait())))
