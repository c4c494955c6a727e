"""The port of a run's first process: who shows the run's token is let in, all others are strangers.

Nothing that a stranger says is parsed, nor answered, and strangers hold no place for long.
"""

import hmac
import json
import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

BACKLOG = 4096
"""Connections that wait to be accepted: all processes of a large run, and strangers among them."""

MOST_STRANGERS = 16
"""Connections that have not shown the token yet, at once: a process of the run shows it as it
connects, so this many are never waiting without a reason. One more takes the oldest's place."""

STRANGER_SECONDS = 10.0
"""Seconds that a connection has for the token, which is sent with the first packet."""

RETRY_SECONDS = 0.2
"""Seconds from one try to be let in to the next."""


@dataclass(eq=False)
class _Stranger:
    """The other end of a connection that has not shown the token."""

    connection: socket.socket
    since: float = field(default_factory=time.monotonic)
    unread: bytes = b""


class Door:
    """Listens on ``address`` ("" is all); ``let_in`` takes the connections that show the token,
    which processes of the run send first.

    ``selector`` is the caller's: what it finds ready with this object as its data is for `serve`.
    """

    def __init__(
        self, address: str, selector: selectors.BaseSelector,
        let_in: Callable[[socket.socket], object], token: bytes,
    ) -> None:  # fmt: skip
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, 0), family=family, backlog=BACKLOG)
        self._listener.setblocking(False)
        self._selector, self._let_in = selector, let_in
        self._token = token
        self.port: int = self._listener.getsockname()[1]
        self.strangers: list[_Stranger] = []
        selector.register(self._listener, selectors.EVENT_READ, self)

    def serve(self, ready: object) -> None:
        """The listener or one of the strangers has something to read."""
        if ready is self._listener:
            self._accept()
            return
        for stranger in self.strangers:  # not there if it was sent away for one before it
            if stranger.connection is ready:
                self._hear(stranger)
                return

    def send_late_ones_away(self, now: float) -> None:
        for stranger in self.strangers[:]:
            if now - stranger.since > STRANGER_SECONDS:
                self._send_away(stranger)

    def close(self) -> None:
        """Close what is open; for a process that was forked from the one that listens."""
        for connection in (self._listener, *(other.connection for other in self.strangers)):
            with suppress(OSError):
                connection.close()

    def _accept(self) -> None:
        with suppress(OSError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            if len(self.strangers) == MOST_STRANGERS:
                self._send_away(self.strangers[0])
            stranger = _Stranger(connection)
            self.strangers.append(stranger)
            self._selector.register(connection, selectors.EVENT_READ, self)
            self._hear(stranger)  # one of the run has sent all by now, and never waits for a place

    def _hear(self, stranger: _Stranger) -> None:
        """Nothing is looked at before all bytes of a token are there: an answer to a part of it
        would tell whether that part is right."""
        token = self._token
        try:
            said = stranger.connection.recv(len(token) - len(stranger.unread))
        except BlockingIOError:
            return
        except OSError:
            said = b""
        stranger.unread += said
        if said and len(stranger.unread) < len(token):
            return
        if not hmac.compare_digest(stranger.unread, token):
            return self._send_away(stranger)
        self._forget(stranger)
        self._let_in(stranger.connection)

    def _forget(self, stranger: _Stranger) -> None:
        self.strangers.remove(stranger)
        self._selector.unregister(stranger.connection)

    def _send_away(self, stranger: _Stranger) -> None:
        self._forget(stranger)
        stranger.connection.close()


def knock(
    address: str, port: int, token: bytes, introduction: dict[str, object], timeout: float
) -> socket.socket:
    """A connection to a `Door`, which has been told the ``introduction`` behind the token, in a
    line. Tries for ``timeout`` seconds. Raises OSError."""
    line = token + json.dumps(introduction).encode() + b"\n"
    until = time.monotonic() + timeout
    while True:
        connection = socket.create_connection((address, port), timeout)
        late = time.monotonic() > until
        try:
            connection.sendall(line)
            # Not let in where more strangers came at that moment than there are places.
            if connection.recv(1, socket.MSG_PEEK) or late:
                return connection
        except TimeoutError:
            return connection  # the other end is silent, which the caller notices
        except ConnectionError:
            if late:
                raise
        connection.close()
        time.sleep(RETRY_SECONDS)
