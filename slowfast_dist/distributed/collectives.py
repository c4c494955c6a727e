"""What all processes do together: barriers, results of the main process, gathered rows."""

import pickle
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.distributed.accelerator import T
from slowfast_dist.system.signals import StopRequested

POLL_SECONDS = 0.05

STORE_BYTES = 1 << 20
"""What goes through the group's store, which closes the connection at values of more than 8 MiB; a
million videos are 70."""

_calls = 0


def on_main(accelerator: Accelerator, work: Callable[[], T]) -> T:
    """Run ``work`` on the main process and return its (picklable) result on every process.

    The others wait on the group's store, not inside a collective, so ``work`` may take longer
    than the group's timeout. A UserError, RunError or StopRequested of ``work`` is raised on every
    process. All processes must call this in the same order.
    """
    return _run_on_main(accelerator, work, share=True)


def only_main(accelerator: Accelerator, work: Callable[[], T]) -> T | None:
    """As `on_main`, but the result stays on the main process; the others get None."""
    return _run_on_main(accelerator, work, share=False)


def _run_on_main(accelerator: Accelerator, work: Callable[[], T], share: bool) -> Any:
    global _calls
    if accelerator.num_processes == 1:
        return _without_disk_errors(work)
    _calls += 1
    key = f"slowfast_dist/on_main/{_calls}"
    store = dist.distributed_c10d._get_default_store()
    if accelerator.is_main_process:
        try:
            result = _without_disk_errors(work)
        except (UserError, RunError, StopRequested) as error:
            _post(store, key, (None, error))
            raise
        except BaseException as error:
            _post(store, key, (None, RunError(f"the main process failed: {error!r}")))
            raise
        content = pickle.dumps(result if share else None)
        if len(content) <= STORE_BYTES:
            _post(store, key, (content, None))
        else:
            _post(store, key, (len(content), None))
            _broadcast(accelerator, bytearray(content))
        return result
    while not store.check([key]):
        time.sleep(POLL_SECONDS)
    shared, problem = pickle.loads(store.get(key))
    if problem is not None:
        raise problem
    return pickle.loads(
        _broadcast(accelerator, bytearray(shared)) if isinstance(shared, int) else shared
    )


def _broadcast(accelerator: Accelerator, content: bytearray) -> memoryview:
    """Collective: the main process's ``content``, which has the same size everywhere."""
    buffer = torch.frombuffer(content, dtype=torch.uint8)
    buffer = buffer.to(accelerator.device)  # NCCL sends nothing else
    dist.broadcast(buffer, 0)
    return buffer.cpu().numpy().data


def _without_disk_errors(work: Callable[[], T]) -> T:
    """What the disk refuses is no bug of ours."""
    try:
        return work()
    except OSError as error:
        raise _disk_error(error) from error


def _disk_error(error: OSError) -> RunError:
    if isinstance(error, BrokenPipeError) and error.filename is None:
        return RunError("standard output was closed (| head?); trainings go on with --resume auto")
    return RunError(f"{error.filename or 'a file'}: {error.strerror or error}")


def meet(accelerator: Accelerator) -> None:
    """Collective: wait for all processes, however long they take, without the group's timeout."""
    global _calls
    if accelerator.num_processes == 1:
        return
    _calls += 1
    key = f"slowfast_dist/meet/{_calls}"
    store = dist.distributed_c10d._get_default_store()
    store.add(key, 1)
    while store.add(key, 0) < accelerator.num_processes:
        time.sleep(POLL_SECONDS)


def _post(store: Any, key: str, value: object) -> None:
    store.set(key, pickle.dumps(value))


def any_process(accelerator: Accelerator, here: bool) -> bool:
    """Collective: whether ``here`` is true on any process."""
    return bool(accelerator.reduce(torch.tensor(int(here), device=accelerator.device)).item())


def share_weights(accelerator: Accelerator, module: nn.Module) -> None:
    """Collective: give every process the main one's parameters and buffers.

    ``module`` is the same architecture everywhere, on the accelerator's device and in plain memory
    order.
    """
    if accelerator.num_processes > 1:
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0)


def gather_rows(accelerator: Accelerator, rows: Tensor) -> Tensor:
    """Concatenate tensors (n_r, ...) of all processes r; the n_r may differ, or be 0.

    The trailing dimensions and the type must be the same everywhere.
    """
    if accelerator.num_processes == 1:
        return rows
    rows = rows.to(accelerator.device)  # NCCL gathers nothing else
    count = torch.tensor([len(rows)], device=accelerator.device)
    counts = accelerator.gather(count).tolist()
    longest = max(counts)
    padded = rows.new_zeros((longest, *rows.shape[1:]))
    padded[: len(rows)] = rows
    gathered = accelerator.gather(padded.contiguous())
    parts = [gathered[r * longest : r * longest + n] for r, n in enumerate(counts)]
    return torch.cat(parts)


def gather_list(accelerator: Accelerator, items: list[T]) -> list[T]:
    """The items of all processes, in the order of the processes."""
    return items if accelerator.num_processes == 1 else gather_object(items)
