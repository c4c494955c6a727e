"""The server's socket, its connections and its end: uvicorn, with bounds on what it waits for."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from slowfast_dist.config.errors import UserError

MOST_CONNECTIONS = 128
"""Far below the files that a process may open; one more is closed at once."""

REQUEST_SECONDS = 10.0
"""In which a connection must bring a request's headers, and, once that was answered, the rest of a
body that was not wanted."""

GRACE_SECONDS = 1
"""In which answers that are under way at the end must be out."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0: any free one. Raises UserError where it cannot."""
    try:
        kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=kind, backlog=MOST_CONNECTIONS)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, socket.gaierror | UnicodeError):
            raise UserError(
                f"--host {host}: no address of this machine ({reason}): give 127.0.0.1"
            ) from None
        problem = error.errno if isinstance(error, OSError) else None
        raise UserError(_why_not(host, port, problem, reason)) from None


def _why_not(host: str, port: int, problem: int | None, reason: str) -> str:
    import errno

    if problem == errno.EADDRINUSE:
        return f"--port {port}: another program listens there: give another one, or 0 for any"
    if problem in (errno.EACCES, errno.EPERM):
        return f"--port {port}: not permitted ({reason}): give one from 1024 on"
    if problem == errno.EADDRNOTAVAIL:
        return f"--host {host}: no address of this machine: give 127.0.0.1"
    return f"--host {host} --port {port}: {reason}: give others"


def serve(
    app: Any, listener: socket.socket, on_start: Callable[[], None], on_end: Callable[[], None]
) -> None:
    """Answer requests until SIGINT or SIGTERM comes.

    ``on_start`` is called when they are answered from now on, ``on_end`` in the event loop when the
    signal has come.
    """
    # What people send is not the server's fault: of it nothing is said.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=MOST_CONNECTIONS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    _Server(config, on_start, on_end).run(sockets=[listener])


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, on_start: Callable[[], None], on_end: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._on_start, self._on_end = on_start, on_end
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._on_start()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but a signal that ended the server well does nothing more afterwards."""
        wanted = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._on_end)


class _Protocol(H11Protocol):
    """uvicorn waits for ever for headers, and for the rest of a body that nobody wants."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget()

    def _watch(self) -> None:
        """Whether it is the client's turn, and since when."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget()
        elif self._patience is None and not self.transport.is_closing():
            self._patience = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _forget(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
