"""How the processes of a run find each other: a store that all share, and the heartbeat.

On one host the store is a file in a folder of the user's own, and the heartbeat listens on loopback
alone. On several it is torch's, which would listen on every address, so the first process makes it
on a socket that is bound before; only where the launcher holds one already (torchrun's agent does,
by default) that one is used. Whoever reaches it may write into it, but is not believed.
"""

import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from itertools import chain
from pathlib import Path
from typing import Any, cast

import psutil
from torch.distributed import FileStore, PrefixStore, TCPStore  # type: ignore[attr-defined]

from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.distributed.heartbeat import Heartbeat
from slowfast_dist.distributed.meeting import close_meeting, find_meeting, open_meeting, user_folder
from slowfast_dist.distributed.secret import WAYS, SealedStore, offer_secret, take_secret
from slowfast_dist.system import signals

LOOPBACK = "127.0.0.1"
"""The address at which only processes of this host reach each other."""

POLL_SECONDS = 0.05
"""Seconds from one look for another process to the next: short beside their imports."""

STOP_SECONDS = 60.0
"""Seconds that one that was asked to stop waits for others, on slower hosts: a launcher also asks
where one died (cli/start.py sees that on its own host)."""

_joined = 0
_sealed: SealedStore | None = None


@dataclass(frozen=True)
class _Meeting:
    """Where the processes meet: ``store``, which all reach; ``folder``, which all of this user see;
    ``listens_at`` and ``reached_at``: the addresses of process 0, its own and the others' words."""

    store: Any
    folder: Path
    listens_at: str
    reached_at: str


def join(timeout: float, shared_folder: Path) -> tuple[Any, Heartbeat]:
    """Find the other processes; returns the store that all share, and this process's heartbeat.

    RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT are the launcher's; ``timeout``
    in seconds. Several hosts share the run's secret through a file in ``shared_folder``. Raises
    UserError where those cannot be, RunError where a process does not come.
    """
    global _joined, _sealed
    _joined += 1
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    one_host = os.environ.get("LOCAL_WORLD_SIZE") == str(world_size)
    deadline = _Deadline(max(timeout, 300.0))  # on a cluster processes import at unlike speeds
    launch = ""
    if one_host and sys.platform != "win32":
        launch = _launch(restarts)
        meeting = _meet_in_folder(rank, launch, deadline)
    else:
        meeting = _meet_at_port(rank, one_host, shared_folder, deadline)
    meeting.store.set_timeout(timedelta(seconds=timeout))
    shared = PrefixStore(f"slowfast_dist/{restarts}/{_joined}", meeting.store)
    secret_file: Path | None = None
    if rank == 0:
        sealed, secret_file = offer_secret(shared, meeting.folder)
    else:
        sealed = _take_secret(shared, deadline)
    try:
        heartbeat = _meet(sealed, rank, world_size, timeout, meeting, deadline)
    finally:
        if secret_file is not None:
            secret_file.unlink(missing_ok=True)
    if rank == 0 and launch:
        close_meeting(launch)
    _sealed = sealed
    return shared, heartbeat


def _meet(
    sealed: SealedStore, rank: int, world_size: int, timeout: float, meeting: _Meeting,
    deadline: "_Deadline",
) -> Heartbeat:  # fmt: skip
    """Start the heartbeat, and wait until all processes have."""
    heartbeat = Heartbeat(rank, world_size, timeout, sealed.token("heartbeat"))
    if rank == 0:
        sealed.set("heartbeat", heartbeat.listen(meeting.listens_at, meeting.reached_at))
    else:
        where = sealed.get("heartbeat")
        try:
            heartbeat.connect(where)
        except OSError as error:
            place = json.loads(where)
            raise RunError(
                f"process 0 is not reached at {place['address']}, port {place['port']} "
                f"({error.strerror or error}): hosts must reach each other on all ports, not on "
                "MASTER_PORT alone"
            ) from None
    heartbeat.start()
    sealed.set(f"joined/{rank}", None)
    names = [f"joined/{other}" for other in range(world_size)]
    deadline.wait(
        lambda: sealed.store.check(names) and all(map(sealed.has, names)),
        lambda: f"process {[sealed.has(name) for name in names].index(False)}",
    )
    return heartbeat


def sealed_store() -> SealedStore | None:
    """Through which the processes of this group tell each other things, once they have met."""
    return _sealed


def seal(store: Any, rank: int, world_size: int) -> SealedStore:
    """Collective: as `join`, in a process group that a caller of the library made on ``store``."""
    global _sealed
    shared, deadline = PrefixStore("slowfast_dist", store), _Deadline(300.0)
    names = [f"joined/{other}" for other in range(world_size)]
    if rank:
        sealed = _take_secret(shared, deadline)
    else:
        sealed, file = offer_secret(shared, Path())
        sealed.set("heartbeat", None)
    sealed.set(f"joined/{rank}", None)
    if rank == 0:
        try:
            deadline.wait(lambda: all(map(sealed.has, names)), lambda: "a process")
        finally:
            if file is not None:
                file.unlink(missing_ok=True)
    _sealed = sealed
    return sealed


def _launch(restarts: str) -> str:
    """A name of this start that all its processes on this host know, and no other start has."""
    port, job = int(os.environ["MASTER_PORT"]), os.environ.get("TORCHELASTIC_RUN_ID")
    digest = hashlib.sha256(repr((job, restarts, _joined)).encode()).hexdigest()
    return f"{port}-{digest[:16]}"


def _meet_in_folder(rank: int, launch: str, deadline: "_Deadline") -> _Meeting:
    """On one host: nothing listens for it, and other users do not reach it."""
    _talk_through(LOOPBACK)
    if rank == 0:
        folder = open_meeting(launch)
    else:
        deadline.where = f"it uses the same TMPDIR ({user_folder()} here)"
        deadline.wait(lambda: find_meeting(launch) is not None, lambda: "process 0")
        folder = cast(Path, find_meeting(launch))
    return _Meeting(FileStore(str(folder / "store")), folder, LOOPBACK, LOOPBACK)


def _meet_at_port(
    rank: int, one_host: bool, shared_folder: Path, deadline: "_Deadline"
) -> _Meeting:
    """On several hosts: process 0 listens on MASTER_PORT, where not the launcher does."""
    by_agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    named = os.environ["MASTER_ADDR"]
    first = LOOPBACK if one_host and not by_agent else _resolve(named)
    own = LOOPBACK if one_host else _address_towards(first)
    # Debian lets a host know its own name as a loopback address, which no other host reaches.
    hidden = not one_host and ip_address(own).is_loopback and named not in ("localhost", first)
    _talk_through(_address_outwards() if hidden else own)
    port = int(os.environ["MASTER_PORT"])
    listener = _listen("" if hidden else own, port) if rank == 0 and not by_agent else None
    if listener is None:
        deadline.wait(lambda: _answers(first, port), lambda: "process 0")
    store = TCPStore(
        first, port, is_master=listener is not None, master_listen_fd=listener,
        wait_for_workers=False,
    )  # fmt: skip
    return _Meeting(store, shared_folder, "" if hidden else own, named if hidden else own)


def _take_secret(shared: Any, deadline: "_Deadline") -> SealedStore:
    """Wait for process 0, whose words are believed where it knows the same secret."""
    found: list[SealedStore] = []

    def ready() -> bool:
        found[:] = [one for one in [take_secret(shared)] if one is not None]
        return bool(found) and found[0].has("heartbeat")

    def name() -> str:
        return "process 0" if found else f"process 0, whose secret is not seen here ({WAYS}),"

    deadline.wait(ready, name)
    return found[0]


class _Deadline:
    """Waits for other processes: long, but short once this one was asked to stop."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.until = seconds, time.monotonic() + seconds
        self.where = f"it reaches MASTER_ADDR {os.environ.get('MASTER_ADDR')}"
        """What to look at where a process does not come, in an error's words."""

    def wait(self, ready: Callable[[], bool], name: Callable[[], str]) -> None:
        """Until ``ready``; raises RunError, naming the process ``name``, when it takes too long."""
        while not ready():
            if signals.received() is not None and self.seconds != STOP_SECONDS:
                self.seconds = STOP_SECONDS
                self.until = min(self.until, time.monotonic() + STOP_SECONDS)
            if time.monotonic() > self.until:
                raise RunError(
                    f"{name()} did not join within {self.seconds:.0f} s: see what it printed, and "
                    f"whether {self.where}"
                )
            time.sleep(POLL_SECONDS)


def _resolve(host: str) -> str:
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise UserError(
            f"MASTER_ADDR {host}: {error.strerror}: give process 0's host as the others know it"
        ) from None


def _address_towards(other: str) -> str:
    """This host's address on the way to another one; its own, where ``other`` is this host."""
    family = socket.AF_INET6 if ":" in other else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((other, 9))  # of a datagram socket: it sends nothing
        except OSError as error:
            raise RunError(f"MASTER_ADDR {other} cannot be reached: {error.strerror}") from None
        return str(probe.getsockname()[0])


def _address_outwards() -> str:
    """This host's address on its default route, else any that is not loopback."""
    with suppress(RunError):
        return _address_towards("192.0.2.1")  # RFC 5737: no host has it
    addresses = chain.from_iterable(psutil.net_if_addrs().values())
    usable = (ip_address(a.address) for a in addresses if a.family == socket.AF_INET)
    return next((str(address) for address in usable if not address.is_loopback), LOOPBACK)


def _talk_through(address: str) -> None:
    """Let gloo, and on one host NCCL, use the interface of ``address``. gloo would take the one of
    the host's name, which on Debian is a loopback address that no other host reaches."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(entry.address == address for entry in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
            if address == LOOPBACK:
                os.environ.setdefault("NCCL_SOCKET_IFNAME", name)


def _listen(address: str, port: int) -> int:
    """A listening socket's descriptor, which the store then owns."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=4096).detach()
    except OSError as error:
        raise UserError(
            f"MASTER_PORT {port}: cannot listen on {address} ({error.strerror}): give another one"
        ) from None


def _answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=5).close()
    except OSError:
        return False
    return True
