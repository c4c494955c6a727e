"""``--micro-batch-size auto``: the largest micro-batch whose training step fits into memory."""

import time
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Sequence
from math import inf

import torch
from accelerate import Accelerator

from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.config.training import Config
from slowfast_dist.distributed.accelerator import local_processes
from slowfast_dist.distributed.collectives import barrier, gather_rows
from slowfast_dist.model.slowfast import SlowFast, live_batchnorms
from slowfast_dist.system import memory
from slowfast_dist.training.optim import values_per_parameter
from slowfast_dist.training.sanity import gradients

GPU_MEMORY_SHARE = 0.92
"""Share of what a process may have of its GPU that a step may take. The rest is for what a trial
does not see: NCCL's buffers, the workspaces of convolutions over an epoch's short last batch, and
gaps between blocks."""

CPU_MEMORY_SHARE = 0.8
"""Share of the memory free for a process that a step may take. More is kept back than on a GPU, as
the loaders' processes live there too, and as too much ends the process without an error."""

MAX_TRIAL_SECONDS = 60.0
"""Seconds that all trials on a CPU may take together, where one of slowfast_r50 takes seconds a
clip. What would take longer is predicted from the smaller ones (`_CpuTrials`)."""

ADDRESS_SPACE_FACTOR = 2.0
"""How many times an expected need counts below a ``ulimit -v``: libraries take address space that
they do not touch, and without any may crash (SIGSEGV in a backward pass) in place of raising an
error. 4 clips that took 207 MB of RAM did not fit into 390 MB."""


def largest_micro_batch(
    network: SlowFast, config: Config, accelerator: Accelerator, most: int | None = None
) -> tuple[int, str]:
    """The largest micro-batch that fits on every process, and a line that says so to the user.

    Collective, for a ``network`` on its device, outside any wrapper, before training. It is a
    divisor of the global batch, and small enough that each process has one; or, where ``most`` is
    given, at most that: a resumed run's, which stays if it fits, whatever the number of processes.

    Each process by itself tries forward and backward on clips of the size that ``config`` gives,
    beside the memory that gradients and the optimizer will need; then all hear whether one failed.
    Weights, gradients, BatchNorm statistics, modes and random states stay what they are, to the
    bit. Raises RunError on every process if not even 1 fits.
    """
    device = accelerator.device.type
    if device not in ("cpu", "cuda"):
        raise UserError(f"--micro-batch-size auto: give a number on the device {device}")
    kind = _GpuTrials if device == "cuda" else _CpuTrials
    trials: _Trials = kind(network, config, accelerator)
    barrier(accelerator)  # no trial takes memory before every process has seen what is free
    sizes = micro_batch_sizes(config.global_batch_size, accelerator.num_processes, most)
    refusals: dict[int, str] = {}

    def fits_everywhere(size: int) -> bool:
        fits = trials.fits(size)
        barrier(accelerator)  # trials may differ by more than the group's timeout
        answer = torch.tensor([[fits, trials.available]], dtype=torch.float64)
        answers = gather_rows(accelerator, answer).tolist()
        refused = [(free, rank) for rank, (fitted, free) in enumerate(answers) if not fitted]
        if refused:
            free, rank = min(refused)
            where = f" on process {rank}" if accelerator.num_processes > 1 else ""
            whole = f"the {free / 2**30:.3g} GiB of {trials.what}{where}"
            refusals[size] = f"{trials.share:.0%} of {whole}"
        return not refused

    best = _largest_that_fits(sizes, fits_everywhere)
    if best is None:
        raise RunError(
            f"--micro-batch-size auto: one video at a time needs more than {refusals[1]}: lower "
            f"--data.crop-size ({config.data.crop_size}) or --data.num-frames "
            f"({config.data.num_frames}), or choose a smaller --model.name"
        )
    if refusals:
        reason = f"{min(refusals)} needs more than {refusals[min(refusals)]}"
    elif most is not None:
        reason = "as in the checkpoint" if best == most else f"the checkpoint's was {most}"
    elif best == config.global_batch_size:
        reason = "the whole global batch"
    else:
        reason = f"the largest that gives each of {accelerator.num_processes} processes one"
    line = f"micro-batch size auto: {best} ({reason})"
    if network.norm == "local" and any(live_batchnorms(network)):
        line += "; with BatchNorm statistics of each micro-batch the result depends on it"
    return best, line


def micro_batch_sizes(global_batch: int, processes: int, most: int | None = None) -> list[int]:
    """The divisors of the global batch from 1 up: at most ``most``, else a process's share of it.
    With larger ones than a share, rounded up, processes would have nothing to do."""
    limit = -(-global_batch // processes) if most is None else most
    return [size for size in range(1, min(limit, global_batch) + 1) if global_batch % size == 0]


def _largest_that_fits(sizes: Sequence[int], fits: Callable[[int], bool]) -> int | None:
    """The largest of ascending ``sizes`` for which ``fits``; where one does not, no larger one may.

    From the smallest on, each at least twice the one before, so that none tried is much too large
    while little is known; then halving what is left between.
    """
    good, bad = -1, len(sizes)
    while good < bad - 1:
        index = (good + bad) // 2
        if bad == len(sizes):
            twice = bisect_left(sizes, 2 * sizes[good]) if good >= 0 else 0
            index = min(twice, len(sizes) - 1)
        if fits(sizes[index]):
            good = index
        else:
            bad = index
    return sizes[good] if good >= 0 else None


class _Trials(ABC):
    """What a process tries by itself: nothing here waits for another one."""

    share: float
    what: str
    """What `available` is of, for the user."""
    available: float
    """Bytes that this process may have, or may still take; a step may need `share` of them."""

    def __init__(self, network: SlowFast, config: Config, accelerator: Accelerator) -> None:
        self.network, self.config, self.accelerator = network, config, accelerator
        self.trainable = [p for p in network.parameters() if p.requires_grad]
        # Gradients, which DistributedDataParallel keeps in its buckets, and the optimizer's.
        self.extra = self.trainable * (1 + values_per_parameter(config.optimizer))

    @abstractmethod
    def fits(self, size: int) -> bool:
        """Whether a training step with ``size`` videos at once fits on this process."""

    def step(self, size: int, crop: int) -> None:
        """Forward and backward; on a CPU the frames are written to, so that they are in memory."""
        shape = (size, self.config.data.num_frames, 3, crop, crop)
        device = self.accelerator.device
        frames = torch.full(shape, 128, dtype=torch.uint8, device=device)
        labels = torch.zeros(size, dtype=torch.long, device=device)
        gradients(self.network, self.trainable, frames, labels, self.accelerator.autocast)


class _GpuTrials(_Trials):
    """On a GPU what does not fit raises an error, so that it can be tried."""

    share, what = GPU_MEMORY_SHARE, "GPU memory"

    def __init__(self, network: SlowFast, config: Config, accelerator: Accelerator) -> None:
        super().__init__(network, config, accelerator)
        torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info()
        allowed = torch.cuda.get_per_process_memory_fraction() * total
        # Others may be on this GPU as well; what is neither free nor torch's stays theirs.
        self.available = min(allowed, free + torch.cuda.memory_reserved())

    def fits(self, size: int) -> bool:
        peak = _bytes_taken(lambda: self._peak(size))
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return peak <= self.share * self.available

    def _peak(self, size: int) -> int:
        """Bytes reserved at most, in the second of two steps. In the first one cuDNN tries its
        algorithms (``benchmark``), some with far more memory than the one that it keeps."""
        held = [torch.empty_like(parameter) for parameter in self.extra]
        for _ in range(2):
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self.step(size, self.config.data.crop_size)
            torch.cuda.synchronize()
        del held
        return torch.cuda.max_memory_reserved()


class _CpuTrials(_Trials):
    """On a CPU what does not fit gets the process killed, so that it is predicted before.

    A need with a fixed part and one proportional to the pixels, or the greater of several such, is
    for n times the pixels at most n times as much. So a size is not tried if, by this measure of
    the largest one tried, it could be too large. Before 1, which has none before it, 1/16 and 1/4
    of its pixels are tried, and the line through these two decides.
    """

    share, what = CPU_MEMORY_SHARE, "free memory"

    def __init__(self, network: SlowFast, config: Config, accelerator: Accelerator) -> None:
        super().__init__(network, config, accelerator)
        memory.give_back_free_memory()
        self.start = memory.memory_now()
        self.available = memory.available_memory(local_processes())
        held = sum(parameter.numel() * parameter.element_size() for parameter in self.extra)
        self.budget = self.share * self.available - held
        unlimited = memory.address_space_left() == inf
        self.need_factor = 1.0 if unlimited else ADDRESS_SPACE_FACTOR
        self.measured: dict[int, tuple[float, float]] = {}
        """Pixels of a frame of all videos -> the most bytes taken, and seconds."""

    def fits(self, size: int) -> bool:
        crop = self.config.data.crop_size
        # Of 48 pixels two by two are left at the network's end, and BatchNorm needs more than one.
        probes = (crop // 4, crop // 2) if size == 1 and crop // 4 >= 48 else ()
        no_step_fits = self.budget < 64 << 20  # bytes: no model takes less
        if no_step_fits or not all(self._try(1, probe) for probe in probes):
            return False
        need, seconds = self._expected(size, size * crop**2)
        if need * self.need_factor > self.budget:
            return False
        seconds += sum(spent for _, spent in self.measured.values())
        return seconds > MAX_TRIAL_SECONDS or self._try(size, crop)

    def _expected(self, size: int, pixels: int) -> tuple[float, float]:
        """The bytes and the seconds that ``size`` videos should take."""
        below = sorted(tried for tried in self.measured if tried < pixels)
        if not below:
            return 0.0, 0.0
        near = below[-1]
        need, seconds = self.measured[near]
        expected = need * pixels / near
        if size == 1:
            far = below[-2]
            expected = need + (need - self.measured[far][0]) / (near - far) * (pixels - near)
        return expected, seconds * pixels / near

    def _try(self, size: int, crop: int) -> bool:
        def peak() -> float:
            with memory.address_space_kept_back(self.available - self.budget):
                return memory.peak_growth(lambda: self.step(size, crop), self.start)

        started = time.perf_counter()
        need = _bytes_taken(peak)
        memory.give_back_free_memory()
        if need < inf:
            self.measured[size * crop**2] = need, time.perf_counter() - started
        return need <= self.budget


def _bytes_taken(measure: Callable[[], float]) -> float:
    """What ``measure`` returns; infinitely many where memory ran out in it."""
    try:
        return measure()
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        return inf


def _is_out_of_memory(error: Exception) -> bool:
    """Also where a library below torch says so in its own words, as oneDNN and cuDNN. oneDNN
    remembers what it could not create, so that trials of that size fail ever after."""
    words = (
        "can't allocate memory", "out of memory", "bad_alloc", "could not create a primitive",
        "could not create a memory object", "status_alloc_failed", "unable to find an engine",
    )  # fmt: skip
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
    )
