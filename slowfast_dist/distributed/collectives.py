"""What all processes do together: barriers, results of the main process, gathered rows."""

import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar, overload

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.system.files import reason_of
from slowfast_dist.system.signals import StopRequested

T = TypeVar("T")

POLL_SECONDS = 0.05
"""Seconds from one look at the group's store to the next: short beside any step, and one request
costs it microseconds."""

_calls = 0


@overload
def run_on_main(accelerator: Accelerator, work: Callable[[], T]) -> T: ...


@overload
def run_on_main(
    accelerator: Accelerator, work: Callable[[], T], *, share: Literal[False]
) -> T | None: ...


def run_on_main(accelerator: Accelerator, work: Callable[[], T], *, share: bool = True) -> Any:
    """Run ``work`` on the main process and return its (picklable) result on every process.

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
    key = f"slowfast_dist/run_on_main/{_calls}"
    store: Any = dist.distributed_c10d._get_default_store()
    if accelerator.is_main_process:
        try:
            with disk_faults_as_run_errors():
                result = work()
        except BaseException as error:
            known = isinstance(error, (UserError, RunError, StopRequested))
            problem = error if known else RunError(f"the main process failed: {error!r}")
            store.set(key, pickle.dumps((None, problem)))
            raise
        content = pickle.dumps(result if share else None)
        # The store closes the connection at values above 8 MiB, and a million videos are 70.
        small = len(content) <= 1 << 20
        store.set(key, pickle.dumps((content if small else len(content), None)))
        if not small:
            _broadcast(accelerator, bytearray(content))
        return result
    while not store.check([key]):
        time.sleep(POLL_SECONDS)
    shared, problem = pickle.loads(store.get(key))
    if problem is not None:
        raise problem
    if isinstance(shared, int):
        shared = _broadcast(accelerator, bytearray(shared))
    return pickle.loads(shared)


def _broadcast(accelerator: Accelerator, content: bytearray) -> memoryview:
    """Collective: the main process's ``content``, which has the same size everywhere."""
    # NCCL sends nothing but what is on the device.
    buffer = torch.frombuffer(content, dtype=torch.uint8).to(accelerator.device)
    dist.broadcast(buffer, 0)
    return buffer.cpu().numpy().data


@contextmanager
def disk_faults_as_run_errors() -> Iterator[None]:
    """What the disk refuses is no bug of ours: RunError in place of OSError."""
    try:
        yield
    except OSError as error:
        if isinstance(error, BrokenPipeError) and error.filename is None:
            raise  # of standard output: nobody reads it any more
        raise RunError(f"{error.filename or 'a file'}: {reason_of(error)}") from error


def barrier(accelerator: Accelerator) -> None:
    """Collective: wait for all processes, however long they take, without the group's timeout."""
    global _calls
    if accelerator.num_processes == 1:
        return
    _calls += 1
    key = f"slowfast_dist/barrier/{_calls}"
    store = dist.distributed_c10d._get_default_store()
    store.add(key, 1)
    while store.add(key, 0) < accelerator.num_processes:
        time.sleep(POLL_SECONDS)


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


def gather_list(accelerator: Accelerator, items: list[T]) -> list[T]:
    """The items of all processes, in the order of the processes."""
    return items if accelerator.num_processes == 1 else gather_object(items)
