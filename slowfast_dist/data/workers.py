"""The processes in which a loader reads: how many, how they start, and what is said of their end.

On Linux they are forked from this process's template, on other systems started anew ("spawn"). The
environment variable SLOWFAST_DIST_START_METHOD takes one of multiprocessing's own ways in its
place: fork, forkserver or spawn.
"""

import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from slowfast_dist.config.errors import UserError, WorkerError
from slowfast_dist.data.samples.batch import Batch, collate
from slowfast_dist.system import signals
from slowfast_dist.system.cgroups import memory_limit, out_of_memory_kills
from slowfast_dist.system.child import how_it_ended
from slowfast_dist.system.cpus import available_cpus, cpu_limit_note
from slowfast_dist.system.files import share_socket_folder
from slowfast_dist.system.memory import available_memory
from slowfast_dist.system.text import size
from slowfast_dist.system.workers import template
from slowfast_dist.system.workers.context import Process, TemplateContext
from slowfast_dist.system.workers.queues import Queue
from slowfast_dist.video.guarded_reader import DECODE_SECONDS

START_METHOD = "SLOWFAST_DIST_START_METHOD"
"""The environment variable that names another start method."""

MAX_WORKERS = 8
"""Workers of a loader that `auto` starts at most: each takes memory for the batches that wait."""

WORKER_BYTES = 150e6
"""Bytes of memory that a worker and its decoding process take beside their batches: 80 MB were
measured with short clips of 256 pixels, 150 with 1080p."""

PREFETCH = 2
"""Batches that wait for the model of each worker, where memory allows; torch's default."""

MEMORY_SHARE = 0.25
"""The share of the free memory that workers and their batches may take: the rest is the model's,
which takes several times as much as its input."""

MOST_SECONDS = 500.0
"""Seconds after which a batch is given up at the latest. It is less than the other processes wait
(distributed.SLOW_PROCESS_SECONDS), so that the one which is stuck says so."""

STALL_SECONDS = 60.0
"""Seconds for all that a worker does beside decoding: to start, and to hand a batch over."""

LOOK_SECONDS = 1.0
"""Seconds from one look at the workers to the next while a batch is waited for."""


# --- how many ------------------------------------------------------------------------------------

@dataclass(frozen=True)
class WorkerPlan:
    """``workers`` of a loader, each with ``prefetch`` batches; ``notes``: what limited them."""

    workers: int
    prefetch: int = PREFETCH
    notes: tuple[str, ...] = ()


def plan_workers(
    requested: int | str, local_processes: int, batch_bytes: int, loaders: int = 1
) -> WorkerPlan:
    """For one of ``local_processes`` on this host, with ``loaders`` at once; ``batch_bytes``: those
    of the frames of one batch.

    auto shares the CPUs out, at least 1 and at most 8, and takes fewer workers where so many do not
    fit into MEMORY_SHARE of the free memory; fewer prefetched batches before that are taken in any
    case. Both follow a container's limits.
    """
    workers, notes = decoding_workers(requested, local_processes), []
    if requested == "auto" and (note := cpu_limit_note()):
        notes.append(f"{_workers(workers)} as {note}")
    free = available_memory(local_processes)

    def needed(workers: int, prefetch: int) -> float:
        return loaders * workers * (WORKER_BYTES + (prefetch + 1) * batch_bytes)

    prefetch = PREFETCH
    if needed(workers, prefetch) > MEMORY_SHARE * free:
        prefetch = 1
    planned = workers
    while requested == "auto" and workers > 1 and needed(workers, prefetch) > MEMORY_SHARE * free:
        workers -= 1
    if workers and prefetch < PREFETCH:
        limit = memory_limit()
        whose = f" of the container's {size(limit)}" if limit is not None else ""
        fewer = f" in place of {planned}" if workers < planned else ""
        notes.append(
            f"{_workers(workers)}{fewer}, with {prefetch} prefetched batch each, as "
            f"{size(int(free))}{whose} of memory are free and each worker needs "
            f"{size(int(needed(1, prefetch) / loaders))}"
        )
    return WorkerPlan(workers, prefetch, tuple(notes))


def _workers(count: int) -> str:
    return f"{count} worker{'s' * (count != 1)}"


def decoding_workers(requested: int | str, local_processes: int) -> int:
    """DataLoader workers of one process; auto shares the host's CPUs out, at least 1, at most 8."""
    if isinstance(requested, int):
        return requested
    cpus = available_cpus() // local_processes
    if os.environ.get("SLURM_STEP_NUM_TASKS") == os.environ.get("WORLD_SIZE", "1"):
        # A task of SLURM's may be bound to its own CPUs already.
        cpus = max(cpus, min(int(os.environ.get("SLURM_CPUS_PER_TASK", "0")), available_cpus()))
    return max(1, min(MAX_WORKERS, cpus - 1))


# --- how they start ------------------------------------------------------------------------------

template.preloaded = __name__


def prepare_workers(requested: int | str = "auto") -> None:
    """Start the process from which workers will be forked, unless none are ``requested``: early, at
    best while this process still has one thread."""
    if requested != 0 and worker_context() is _TEMPLATE:
        template.start_template()


_TEMPLATE = TemplateContext()


def worker_context() -> BaseContext:
    """How a loader's workers start. Raises UserError for an unknown start method."""
    chosen = os.environ.get(START_METHOD)
    if not chosen:
        return _TEMPLATE if sys.platform == "linux" else multiprocessing.get_context("spawn")
    known = multiprocessing.get_all_start_methods()
    if chosen not in known:
        raise UserError(f"{START_METHOD} {chosen}: give one of {', '.join(known)}, or none")
    context: BaseContext = multiprocessing.get_context(chosen)
    return context


def clip_loader(
    clips: Dataset[Any], batches: Sampler[Any], batch_size: int, plan: WorkerPlan, pin: bool,
    collate_fn: Callable[..., Any] = collate,
) -> DataLoader[Any]:  # fmt: skip
    """A loader whose workers, if there are any, stay from one epoch to the next."""
    if not plan.workers:
        return DataLoader(clips, batch_sampler=batches, collate_fn=collate_fn, pin_memory=pin)
    context = worker_context()
    if context is not _TEMPLATE:
        share_socket_folder()
    return _WatchedLoader(
        clips,
        batch_sampler=batches,
        num_workers=plan.workers,
        collate_fn=collate_fn,
        pin_memory=pin,
        persistent_workers=True,
        prefetch_factor=plan.prefetch,
        timeout=batch_seconds(batch_size),
        worker_init_fn=_start_worker,
        multiprocessing_context=context,
    )


def require_shared_memory(plan: WorkerPlan, batch_bytes: int, loaders: int = 1) -> None:
    """Raise UserError where torch's own way of sharing memory, which the start methods of
    multiprocessing use, does not fit into /dev/shm. The template's workers need none of it."""
    if worker_context() is _TEMPLATE or sys.platform != "linux":
        return
    needed = loaders * plan.workers * (plan.prefetch + 1) * batch_bytes
    try:
        free = shutil.disk_usage("/dev/shm").free
    except OSError:
        return
    if needed > free:
        raise UserError(
            f"{START_METHOD} {os.environ[START_METHOD]}: {_workers(plan.workers)} share up to "
            f"{size(needed)} of batches in /dev/shm, where {size(free)} are free: unset it, start "
            "the container with a larger --shm-size, or give --data.num-workers 0"
        )


def batch_seconds(batch_size: int) -> float:
    """After which a loader gives its workers up.

    Videos that hang do not take that long: the guard's limit ends each of them. Every clip of a
    batch may meet two and then be decoded in as much time; that still more of its replacements
    hang, where --data.max-bad-fraction lets so few go, is the storage's fault. What remains is a
    worker that is stopped or stuck outside the decoder.
    """
    return min(STALL_SECONDS + batch_size * 3 * DECODE_SECONDS, MOST_SECONDS)


def _start_worker(_: int) -> None:
    """In a worker, before it reads."""
    if isinstance(multiprocessing.current_process(), Process):
        return  # the template's serve and end as they should
    owner = multiprocessing.parent_process()
    assert owner is not None and owner.pid is not None
    if os.getppid() == owner.pid:
        signals.serve_parent(owner.pid)
        return
    # Of multiprocessing's forkserver, which lives as long as any worker does: the kernel tells
    # nothing of the owner's end, but a pipe does.
    signals.ignore_stops()
    threading.Thread(target=_end_with, args=(owner.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


# --- what they send ------------------------------------------------------------------------------


def _reduce_tensor(tensor: Tensor) -> tuple[Any, ...]:
    """By the bytes in which it lies, in whatever order."""
    storage = np.asarray(torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage()))
    layout = str(tensor.dtype).removeprefix("torch."), tensor.size(), tensor.stride()
    return _tensor_of, (storage, *layout, tensor.storage_offset())


def _tensor_of(
    storage: Any, dtype: str, shape: tuple[int, ...], stride: tuple[int, ...], offset: int
) -> Tensor:
    bytes_of = torch.from_numpy(storage).untyped_storage()
    return torch.empty(0, dtype=getattr(torch, dtype)).set_(bytes_of, offset, shape, stride)


Queue.reducers[Tensor] = _reduce_tensor


# --- how they end --------------------------------------------------------------------------------


class _WatchedLoader(DataLoader[Batch]):
    """Says at once, and why, that a worker ended: torch waits for its batch until the time is over.
    """

    def _get_iterator(self) -> Any:
        self.check_worker_number_rationality()
        return _WatchedIterator(self)


class _WatchedIterator(_MultiProcessingDataLoaderIter):
    def __init__(self, loader: DataLoader[Any]) -> None:
        self._killed_before = out_of_memory_kills()
        try:
            super().__init__(loader)
        except BaseException:
            # One did not start: no loader has this iterator, by which the others could be ended.
            if not getattr(self, "_worker_pids_set", True):
                for worker in self._workers:
                    worker.kill()
                self._shutdown = True
            raise

    def _try_get_data(self, timeout: float = LOOK_SECONDS) -> Any:
        waited = 0.0
        while True:
            part, begun = min(LOOK_SECONDS, timeout - waited), time.monotonic()
            workers = [w for w, works in zip(self._workers, self._workers_status, strict=True)
                       if works]  # fmt: skip
            try:
                found = super()._try_get_data(part)
            except RuntimeError as error:
                if ended := [worker for worker in workers if not worker.is_alive()]:
                    raise WorkerError(self._why(ended[0])) from error
                raise
            if found[0]:
                return found
            waited += min(part, time.monotonic() - begun)  # no more where we were stopped meanwhile
            if waited >= timeout:
                raise WorkerError(
                    f"a loader's process is stuck: no batch in {timeout:.0f} s (a video's storage "
                    "that does not answer?)"
                )

    def _process_data(self, data: Any, *others: Any) -> Any:
        if isinstance(data, ExceptionWrapper):
            cause = str(data.exc_msg).strip().splitlines()[-1]
            if issubclass(data.exc_type, WorkerError):  # of its own decoding process
                raise WorkerError(cause.partition(": ")[2])
            if issubclass(data.exc_type, (OSError, MemoryError)) or "allocate memory" in cause:
                raise WorkerError(f"a loader's process failed: {cause}")
        return super()._process_data(data, *others)

    def _why(self, worker: Any) -> str:
        error = worker.start_error if isinstance(worker, Process) else None
        if error is not None:
            return f"a loader's process could not start: {error}"
        code = worker.exitcode
        how = how_it_ended(code)
        if code == -signal.SIGKILL:
            limit = memory_limit()
            if out_of_memory_kills() > self._killed_before:
                how += f": out of the memory that its container has ({size(limit or 0)})"
            else:
                how += ": by a person, or by the kernel as memory ran out (its log tells)"
            how += ": fewer --data.num-workers or a smaller --micro-batch-size take less"
        elif code == -signal.SIGBUS:
            if isinstance(worker, Process):  # its batches count to the container's memory
                lacked, more = "no memory", "memory limit"
            else:
                lacked, more = "no space in /dev/shm", "--shm-size (Docker)"
            how += (
                f": {lacked} was left, or a file was cut while it was read: a larger {more}, or "
                "--data.num-workers 0"
            )
        return f"a loader's process was ended: {how}"


def end_workers(*loaders: DataLoader[Any]) -> None:
    """End the loaders' processes at once, whatever they do: nothing is read any more.

    By themselves they would end their batch first, and one that is stuck would never end.
    """
    if not hasattr(signal, "SIGCHLD"):
        return
    # torch's handler takes a worker that was killed for a fault, and raises wherever we are. It is
    # set by the first thread alone, which alone may alter it.
    is_first = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if is_first else None
    try:
        iterators = [loader._iterator for loader in loaders]
        ours = [one for one in iterators if isinstance(one, _MultiProcessingDataLoaderIter)]
        for worker in (worker for iterator in ours for worker in iterator._workers):
            worker.kill()
        for iterator in ours:
            iterator._shutdown_workers()  # or torch would go on asking how they are
        for loader in loaders:
            loader._iterator = None
    finally:
        if is_first:
            signal.signal(signal.SIGCHLD, handler)
