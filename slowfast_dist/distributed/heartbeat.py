"""Signs of life between the processes of a run: none goes on, or waits, without the others.

Every process keeps a TCP connection to the first one and says each second that it lives. The
kernel closes the connection of a process that dies, so the others know at once; one that is
stopped or cut off falls silent. Either ends all processes, whatever they wait for: a collective
would wait for its own time limit, and some never return. Two more things go this way because they
must not wait for a step: an error that one process met, which the first one prints once before
all end, and a request to stop, which all then know of.

No torch here. A thread reads the connections; it ends its process with os._exit, as the main
thread may hang in native code.
"""

import json
import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from slowfast_dist.distributed.door import Door, knock
from slowfast_dist.system import signals

BEAT_SECONDS = 1.0
"""Seconds from one sign of life to the next: many fit into any time limit that a user sets, and
they cost nothing."""

POLL_SECONDS = 0.2
"""Seconds that the thread waits for messages before it looks at the clock and at requests to stop,
so that both are late by no more than this."""

OWN_FAILURE_SECONDS = 1.0
"""Seconds that another process's error waits to be printed: an error that all processes meet is the
first one's to print."""

READ_BYTES = 1 << 16
"""Bytes read from a connection at once."""

LONGEST_LINE = 1 << 20
"""Bytes that a message of another process may have: the longest is an error's text."""

@dataclass(eq=False)
class _Peer:
    """The other end of a connection: another process of this run. ``rank`` is -1 until it has said
    who it is."""

    connection: socket.socket
    rank: int = -1
    host: str = ""
    last_seen: float = field(default_factory=time.monotonic)
    unread: bytes = b""
    finished: bool = False

    def __str__(self) -> str:
        return f"process {self.rank} on {self.host}"


class Heartbeat:
    """This process's part. ``start`` begins it; ``shutdown`` or ``fail`` end it."""

    def __init__(self, rank: int, world_size: int, timeout: float, token: bytes) -> None:
        """``timeout``: seconds without a sign of life after which a process counts as lost;
        ``token``: what all processes of the run know, and nobody else."""
        self._token = token
        self.rank, self.world_size, self.timeout = rank, world_size, timeout
        self.on_peer_loss: Callable[[], object] | None = None
        """Called before this process is ended because of another one."""
        self._peers: list[_Peer] = []
        self._door: Door | None = None
        self._lock = threading.Lock()
        self._shut_down = False
        self._failed = False
        """Whether the main thread of the first process has said why the run ends."""
        self._stop_sent = False
        self._failures: list[tuple[float, _Peer, dict[str, Any]]] = []
        self._selector = selectors.DefaultSelector()

    def listen(self, address: str, reached_at: str | None = None) -> str:
        """On the first process: open a port on ``address`` and return what `connect` needs. "" is
        all addresses; ``reached_at`` is then the one that the others know."""
        self._door = door = Door(address, self._selector, self._let_in, self._token)
        return json.dumps({"address": reached_at or address, "port": door.port})

    def connect(self, where: str) -> None:
        """On another process: connect to where the first one listens. Raises OSError."""
        place = json.loads(where)
        introduction = {"rank": self.rank, "host": socket.gethostname()}
        connection = knock(
            place["address"], place["port"], self._token, introduction, self.timeout
        )
        self._add(_Peer(connection, rank=0, host=place["address"]))

    def start(self) -> None:
        global _current
        _current = self
        os.register_at_fork(after_in_child=self._close)  # a loader's process must not keep it open
        threading.Thread(target=self._watch, name="heartbeat", daemon=True).start()

    def shutdown(self) -> None:
        """This process needs the others no longer, nor they it: from here on all may end."""
        self._shut_down = True
        with self._lock:
            self._send_all(bye=True)

    def fail(self, message: str, code: int) -> None:
        """End all processes with exit code ``code``, after printing ``message`` once. Returns on
        the first process, which is to end itself then; elsewhere only if nobody could be told."""
        with self._lock:  # never free again once the thread is ending this process
            if self.rank == 0:
                self._failed = True
                _print(f"error: {message}")
                self._send_all(end=code)
                return
            self._send_all(failed=message, code=code)
        # Then the first one's order to end comes at once, where that can still send it.
        time.sleep(OWN_FAILURE_SECONDS + 5.0)
        _print(f"error: process {self.rank}: {message}")

    def _add(self, peer: _Peer) -> None:
        peer.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.connection.settimeout(self.timeout)
        with self._lock:
            self._peers.append(peer)
            self._selector.register(peer.connection, selectors.EVENT_READ, peer)

    def _send(self, peer: _Peer, **message: Any) -> None:
        with suppress(OSError):  # that it is gone is what reading tells
            peer.connection.sendall(json.dumps(message).encode() + b"\n")

    def _send_all(self, **message: Any) -> None:
        """To be called with the lock held."""
        for peer in self._peers:
            self._send(peer, **message)

    def _close(self) -> None:
        if self._door is not None:
            self._door.close()
        for peer in self._peers:
            with suppress(OSError):
                peer.connection.close()

    def _watch(self) -> None:
        """The thread, whose end would leave this process without signs of life of the others."""
        try:
            self._turn_forever()
        except BaseException as error:
            _print(f"error: the heartbeat of process {self.rank} failed: {error!r}")
            if self.on_peer_loss is not None:
                with suppress(Exception):
                    self.on_peer_loss()
            os._exit(1)

    def _turn_forever(self) -> None:
        """Read, beat, and end this process when another is lost."""
        next_beat = now = time.monotonic()
        while True:
            before = now  # of the whole turn: it may be stopped anywhere
            ready = self._selector.select(POLL_SECONDS)
            now = time.monotonic()
            if now - before > 3 * BEAT_SECONDS:  # we were stopped ourselves, perhaps all were
                for peer in self._peers:
                    peer.last_seen = now
            for key, _ in ready:
                if isinstance(key.data, Door):
                    key.data.serve(key.fileobj)
                else:
                    self._read(key.data, now)
            if self._door is not None:
                self._door.send_late_ones_away(now)
            if now >= next_beat:
                next_beat = now + min(BEAT_SECONDS, self.timeout / 5)
                with self._lock:
                    for peer in self._peers:
                        if not peer.finished:
                            self._send(peer)
            self._share_stop()
            self._check_peers(now)

    def _let_in(self, connection: socket.socket) -> None:
        """The first sign of life tells the other end that it was."""
        peer = _Peer(connection)
        self._add(peer)
        with self._lock:
            self._send(peer)

    def _read(self, peer: _Peer, now: float) -> None:
        try:
            content = peer.connection.recv(READ_BYTES)
        except OSError:
            content = b""
        if not content:
            return self._drop(peer)
        peer.last_seen = now
        *lines, peer.unread = (peer.unread + content).split(b"\n")
        for line in lines:
            self._handle(peer, json.loads(line))
        if len(peer.unread) > LONGEST_LINE:
            raise ValueError(f"a message of {peer} is longer than {LONGEST_LINE} bytes")

    def _drop(self, peer: _Peer) -> None:
        with self._lock:
            self._peers.remove(peer)
            self._selector.unregister(peer.connection)
            peer.connection.close()
        if peer.rank >= 0 and not peer.finished and not self._shut_down and not self._failures:
            self._end(f"{peer} died (its connection closed)", 1, peer)

    def _handle(self, peer: _Peer, message: dict[str, Any]) -> None:
        if "rank" in message:
            peer.rank, peer.host = message["rank"], message["host"]
        if "bye" in message:
            peer.finished = True
        if "stop" in message:
            signals.request(message["stop"])
        if "end" in message:
            self._end("", message["end"], peer)
        if "failed" in message:
            self._failures.append((time.monotonic(), peer, message))

    def _share_stop(self) -> None:
        name = signals.received()
        if name is not None and not self._stop_sent:
            self._stop_sent = True
            with self._lock:
                self._send_all(stop=name)

    def _check_peers(self, now: float) -> None:
        for since, peer, message in self._failures:
            if now - since > OWN_FAILURE_SECONDS:
                self._end(f"{peer}: {message['failed']}", message["code"], peer)
        if self._shut_down or self._failures:
            return
        for peer in self._peers:
            if not peer.finished and now - peer.last_seen > self.timeout:
                silent = f"{peer} gave no sign of life for {self.timeout:g} s: stopped, or not to "
                self._end(f"{silent}be reached (--distributed.timeout)", 1, peer)

    def _end(self, message: str, code: int, peer: _Peer) -> None:
        """End this process, and from the first one all, because of ``peer``."""
        with self._lock:
            if self._failed:  # the main thread has said why and is ending
                return
            self._failed = True
            # Where the first one is lost, one of each host speaks, and the second.
            local = os.environ.get("SLURM_LOCALID", os.environ.get("LOCAL_RANK"))
            if message and (self.rank < 2 or local == "0"):
                _print(f"error: {message}")
            if self.rank == 0:
                self._send_all(end=code)
            if self.on_peer_loss is not None:
                with suppress(Exception):
                    self.on_peer_loss()
            with suppress(Exception):
                sys.stdout.flush()
            os._exit(code)


_current: Heartbeat | None = None


def current() -> Heartbeat | None:
    """That of this process, from its start to the end of the process."""
    return _current


def _print(line: str) -> None:
    with suppress(OSError):
        os.write(2, f"{line}\n".encode())
