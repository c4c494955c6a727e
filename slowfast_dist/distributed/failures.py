"""How a process ends when another one is lost, and the faults that are shown as one line."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.distributed import heartbeat
from slowfast_dist.system.files import disk_faults_as_run_errors

if TYPE_CHECKING:
    from accelerate import Accelerator


def shutdown(accelerator: "Accelerator") -> None:
    """Collective: the end of a run; none ends while another still asks it for a result."""
    from slowfast_dist.distributed.accelerator import close_group

    accelerator.wait_for_everyone()
    if (own := heartbeat.current()) is not None:
        own.shutdown()
    close_group()


def on_peer_loss(work: Callable[[], object] | None) -> None:
    """Do ``work``, or nothing, before this process is ended as another one died or fell silent."""
    if (own := heartbeat.current()) is not None:
        own.on_peer_loss = work


@contextmanager
def faults_as_run_errors() -> Iterator[None]:
    """One line for what ends runs most often through no bug: RunError in its place."""
    try:
        with disk_faults_as_run_errors():
            yield
    except (UserError, RunError):
        raise
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise RunError(
            "BatchNorm needs more than one value: raise --micro-batch-size, --data.crop-size or "
            "--data.num-frames, or take --model.norm frozen"
        ) from error
    except RuntimeError as error:
        if (torch := sys.modules.get("torch")) is None:  # what computes may need none
            raise
        if isinstance(error, torch.OutOfMemoryError):
            raise RunError(
                f"out of GPU memory ({str(error).splitlines()[0]}): lower --micro-batch-size (or "
                "give auto), which leaves the result as it is, or --data.crop-size or "
                "--data.num-frames"
            ) from error
        if isinstance(error, torch.distributed.DistError) or "gloo" in str(error):
            if heartbeat.current() is not None:
                # The heartbeat sees the break of the connection at nearly the same time, ends this
                # process, and knows better than torch which one was lost.
                time.sleep(5.0)
            raise RunError(f"lost another process: {str(error).splitlines()[0]}") from error
        raise
