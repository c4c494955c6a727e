"""The server's socket, its connections and its end: uvicorn, with bounds on what it waits for."""

import asyncio
import errno
import logging
import signal
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import HANDLED_SIGNALS

from slowfast_dist.config.errors import UserError
from slowfast_dist.web.access import SECURITY_HEADERS, client_key

MAX_CONNECTIONS = 128
"""Open connections at one time; one more is closed at once. Far below the 1024 files that a process
may usually open, and far above what the page of a few people needs. (uvicorn's limit_concurrency
answers 503 to requests, but holds any number of connections.)"""

MAX_CONNECTIONS_OF_ADDRESS = 32
"""Of them those of one address, where strangers come: a browser opens 6 to a server."""

REQUEST_SECONDS = 10.0
"""Seconds in which a connection must bring a request's headers, and, once that was answered, the
rest of a body that was not wanted: a browser sends both at once, a slow line within a second or
two."""

GRACE_SECONDS = 1
"""Seconds in which answers that are under way at the end must be out: they are one line each."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0: any free one. Raises UserError where it cannot."""
    try:
        kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=kind, backlog=MAX_CONNECTIONS)
    except (OSError, UnicodeError) as error:
        reason, number = getattr(error, "strerror", None) or str(error), getattr(error, "errno", 0)
        text = f"--host {host} --port {port}: {reason}: give others"
        if isinstance(error, socket.gaierror | UnicodeError):
            text = f"--host {host}: no address of this machine ({reason}): give 127.0.0.1"
        elif number == errno.EADDRINUSE:
            text = f"--port {port}: another program listens there: give another one, or 0 for any"
        elif number in (errno.EACCES, errno.EPERM):
            text = f"--port {port}: not permitted ({reason}): give one from 1024 on"
        elif number == errno.EADDRNOTAVAIL:
            text = f"--host {host}: no address of this machine: give 127.0.0.1"
    raise UserError(text)


def serve(
    app: Any,
    listener: socket.socket,
    on_start: Callable[[], None],
    on_end: Callable[[], None],
    share: bool = False,
) -> None:
    """Answer requests until SIGINT or SIGTERM comes. ``share``: strangers of several addresses
    come, among whom the connections are shared out.

    ``on_start`` is called when they are answered from now on, ``on_end`` in the event loop when the
    signal has come.
    """
    # What people send is not the server's fault: of it nothing is said.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    config = uvicorn.Config(
        app, http=_SharedProtocol if share else _Protocol, ws="none", loop="asyncio",
        lifespan="off", interface="asgi3",
        log_config=None, access_log=False, proxy_headers=False, server_header=False,
        headers=list(SECURITY_HEADERS.items()), backlog=MAX_CONNECTIONS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )  # fmt: skip
    server = _Server(config, on_start, on_end)
    # uvicorn puts these handlers back at its end, and then raises the signal once more: so that
    # does nothing, and one that comes before the start is not lost.
    for number in HANDLED_SIGNALS:
        signal.signal(number, server.handle_exit)
    server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """With callbacks: uvicorn's own (lifespan) come before it answers, and after it has waited for
    the answers under way."""

    def __init__(
        self, config: uvicorn.Config, on_start: Callable[[], None], on_end: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._on_start, self._on_end = on_start, on_end

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_end()
        await super().shutdown(sockets)


class _Protocol(H11Protocol):
    """uvicorn waits for ever for headers, and for the rest of a body that nobody wants: its own
    timeout_keep_alive counts after an answer only, until the next byte."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        self._restart_timer()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._restart_timer()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._restart_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._cancel_timer()

    def _restart_timer(self) -> None:
        """Whether it is the client's turn, and since when."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._cancel_timer()
        elif self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _SharedProtocol(_Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        whose = client_key({"client": self.client})
        of_address = (
            client_key({"client": one.client})
            for one in self.connections
            if isinstance(one, _SharedProtocol)
        )
        if sum(key == whose for key in of_address) > MAX_CONNECTIONS_OF_ADDRESS:
            transport.abort()
