"""What all processes do together: barriers, results of the main process, gathered rows."""

import hashlib
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn

from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.distributed.rendezvous import seal, sealed_store
from slowfast_dist.distributed.secret import SealedStore
from slowfast_dist.system import messages
from slowfast_dist.system.files import disk_faults_as_run_errors
from slowfast_dist.system.signals import StopRequested

T = TypeVar("T")

POLL_SECONDS = 0.05
"""Seconds from one look at the group's store to the next: short beside any step, and one request
costs it microseconds."""

_calls = 0
_group: tuple[SealedStore, object] | None = None
"""The store through which the last call went, and the process group that it is of."""


@overload
def run_on_main(accelerator: Accelerator, work: Callable[[], T]) -> T: ...


@overload
def run_on_main(
    accelerator: Accelerator, work: Callable[[], T], *, share: Literal[False]
) -> T | None: ...


def run_on_main(accelerator: Accelerator, work: Callable[[], T], *, share: bool = True) -> Any:
    """Run ``work`` on the main process and return its result on every process.

    The result is plain data, as `messages` has it.

    Without ``share`` the result stays on the main process, and the others get None. They wait on
    the group's store, not inside a collective, so ``work`` may take longer than the group's
    timeout. A UserError, RunError or StopRequested of ``work`` is raised on every process. All
    processes must call this in the same order.
    """
    global _calls
    if accelerator.num_processes == 1:
        with disk_faults_as_run_errors():
            return work()
    _calls += 1
    name, store = f"run_on_main/{_calls}", _store(accelerator)
    if accelerator.is_main_process:
        try:
            with disk_faults_as_run_errors():
                result = work()
        except BaseException as error:
            kinds = (UserError, RunError, StopRequested)
            kind = next((kind for kind in kinds if isinstance(error, kind)), None)
            text = str(error) if kind else f"the main process failed: {error!r}"
            store.set(name, (kind or RunError)(text))
            raise
        content = messages.encode(result if share else None)
        # The store closes the connection at values above 8 MiB, and a million videos are 70.
        if len(content) <= 1 << 20:
            store.set(name, {"result": content})
        else:
            store.set(name, {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})
            _broadcast(accelerator, bytearray(content))
        return result
    while not store.has(name):
        time.sleep(POLL_SECONDS)
    said = store.get(name)
    if isinstance(said, Exception):
        raise said
    if "result" in said:
        return messages.decode(said["result"])
    received = _broadcast(accelerator, bytearray(said["bytes"]))
    if hashlib.sha256(received).hexdigest() != said["sha256"]:
        raise RunError("what the main process sent arrived changed: see the network between hosts")
    return messages.decode(received)


def _store(accelerator: Accelerator) -> SealedStore:
    """Of the group that was made here; of one that a caller made, its store and a new secret."""
    global _group
    store, world = sealed_store(), dist.group.WORLD
    if store is None or (_group is not None and _group[0] is store and _group[1] is not world):
        rank, world_size = accelerator.process_index, accelerator.num_processes
        store = seal(dist.distributed_c10d._get_default_store(), rank, world_size)
    _group = store, world
    return store


def _broadcast(accelerator: Accelerator, content: bytearray) -> memoryview:
    """Collective: the main process's ``content``, which has the same size everywhere."""
    # NCCL sends nothing but what is on the device.
    buffer = torch.frombuffer(content, dtype=torch.uint8).to(accelerator.device)
    dist.broadcast(buffer, 0)
    return buffer.cpu().numpy().data


def barrier(accelerator: Accelerator) -> None:
    """Collective: wait for all processes, however long they take, without the group's timeout."""
    global _calls
    if accelerator.num_processes == 1:
        return
    _calls += 1
    rank, others = accelerator.process_index, range(1, accelerator.num_processes)
    name, store = f"barrier/{_calls}", _store(accelerator)
    if rank:
        store.set(f"{name}/{rank}", None)
    names = [name] if rank else [f"{name}/{other}" for other in others]
    while not all(map(store.has, names)):
        time.sleep(POLL_SECONDS)
    if not rank:
        store.set(name, None)


def any_process(accelerator: Accelerator, here: bool) -> bool:
    """Collective: whether ``here`` is true on any process."""
    return bool(accelerator.reduce(torch.tensor(int(here), device=accelerator.device)).item())


def share_weights(accelerator: Accelerator, module: nn.Module) -> None:
    """Collective: give every process the main one's parameters and buffers. ``module`` is the same
    architecture everywhere, on the accelerator's device and in plain memory order."""
    if accelerator.num_processes > 1:
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0)


def gather_rows(accelerator: Accelerator, rows: Tensor) -> Tensor:
    """Concatenate tensors (n_r, ...) of all processes r; the n_r may differ, or be 0. The trailing
    dimensions and the type must be the same everywhere."""
    if accelerator.num_processes == 1:
        return rows
    rows = rows.to(accelerator.device)  # NCCL gathers nothing else
    count = torch.tensor([len(rows)], device=accelerator.device)
    counts = accelerator.gather(count).tolist()
    padded = rows.new_zeros((max(counts), *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = accelerator.gather(padded).split(max(counts)) if max(counts) else [rows]
    return torch.cat([part[:n] for part, n in zip(parts, counts, strict=False)])


def on_each_host(accelerator: Accelerator, work: Callable[[], T]) -> T:
    """Collective: run ``work`` on the first process of each host, and return its result, plain
    data, on all of that host. A UserError of any is raised on every process."""
    here = _host()
    hosts = gather_list(accelerator, [here])
    first = hosts.index(here)
    found: list[Any] = [None]
    if first == accelerator.process_index:
        try:
            found = [work()]
        except UserError as error:
            found = [error]
    answers: list[Any] = gather_list(accelerator, found)
    for answer in answers:
        if isinstance(answer, UserError):
            raise answer
    result: T = answers[first]
    return result


def _host() -> str:
    """What processes have in common that can reach each other by their numbers."""
    parts = [socket.gethostname()]
    for look in (BOOT.read_text, lambda: os.readlink("/proc/self/ns/pid")):
        with suppress(OSError):
            parts.append(str(look()))
    return "/".join(parts)


BOOT = Path("/proc/sys/kernel/random/boot_id")
"""A name of this start of this machine (Linux)."""


def gather_list(accelerator: Accelerator, items: list[T]) -> list[T]:
    """Collective: the items of all processes, in their order; plain data, as `messages` has it."""
    if accelerator.num_processes == 1:
        return items
    content = torch.frombuffer(bytearray(messages.encode(items)), dtype=torch.uint8)
    sizes = gather_rows(accelerator, torch.tensor([len(content)])).tolist()
    parts = gather_rows(accelerator, content).cpu().split(sizes)
    return [item for part in parts for item in messages.decode(part.numpy().data)]
