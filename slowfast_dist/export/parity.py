"""How near an exported file comes to the network that it was made from, and how fast it is."""

import copy
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from slowfast_dist.metrics import predicted, softmax
from slowfast_dist.model import SlowFast

Compute = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Logits float32 (B, K) of uint8 clips (B, T, H, W, 3)."""

LARGE_BATCH = 3
"""Clips given at once, beside one by one: more say no more, and take memory."""

MOST_SECONDS = 30.0
"""No further clip is begun after this: a large model on a slow CPU is not to take minutes."""

FEWEST_SECONDS = 0.5
"""For which clips go round: a small model's time is worth more than a few samples."""


@dataclass(frozen=True)
class Parity:
    """Against eager float32, over ``clips`` clips, one by one and ``batch`` of them at once.

    ``logits``, ``probabilities``: the largest absolute difference; ``same``: clips of the same most
    probable class.
    """

    clips: int
    batch: int
    logits: float
    probabilities: float
    same: int

    def within(self, tolerance: float) -> bool:
        """Whether no difference is above it; NaN is."""
        return self.logits <= tolerance and self.probabilities <= tolerance


@dataclass(frozen=True)
class Speed:
    """Median milliseconds a clip, one at a time, all in turn, on the CPU with ``threads`` threads.

    ``eager`` float32 as the network is, ``channels_last`` the same in channels_last_3d.
    """

    threads: int
    eager: float
    channels_last: float
    exported: float

    @property
    def ratio(self) -> float:
        """Exported over the faster of the eager ones."""
        return self.exported / min(self.eager, self.channels_last)


def compare(
    network: SlowFast, exported: Compute, clips: NDArray[np.uint8], seconds: float = MOST_SECONDS
) -> tuple[Parity, Speed]:
    """Run ``network``, on the CPU and in evaluation mode, and ``exported`` on uint8 clips
    (N, T, H, W, 3), N at least 1; on fewer where all would take more than ``seconds``."""
    last = copy.deepcopy(network).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    computes = (_eager(network), _eager(last), exported)
    for compute in computes:  # the first time is not like others: memory is taken, kernels are made
        compute(clips[:1])
    begin = time.perf_counter()
    times: list[list[float]] = [[], [], []]
    expected: list[NDArray[np.float32]] = []
    found: list[NDArray[np.float32]] = []
    for row in itertools.count():
        passed = time.perf_counter() - begin
        if passed > (FEWEST_SECONDS if row >= len(clips) else seconds) and row > 0:
            break
        outputs = []
        for compute, taken in zip(computes, times, strict=True):
            start = time.perf_counter()
            outputs.append(compute(clips[row % len(clips), None]))
            taken.append(time.perf_counter() - start)
        if row < len(clips):
            expected.append(outputs[0])
            found.append(outputs[2])
    batch = min(LARGE_BATCH, len(expected))
    parity = _parity(
        np.concatenate([*expected, *expected[:batch]]),
        np.concatenate([*found, exported(clips[:batch])]),
        len(expected),
    )
    eager, channels_last, own = (1000 * median(taken) for taken in times)
    return parity, Speed(torch.get_num_threads(), eager, channels_last, own)


def _parity(expected: NDArray[np.float32], found: NDArray[np.float32], clips: int) -> Parity:
    """Rows: the clips one by one, then those that were given at once."""
    same = predicted(expected) == predicted(found)
    batch = len(expected) - clips
    same[:batch] &= same[clips:]
    return Parity(
        clips,
        batch,
        float(np.abs(expected - found).max()),
        float(np.abs(softmax(expected) - softmax(found)).max()),
        int(same[:clips].sum()),
    )


def _eager(network: SlowFast) -> Compute:
    def compute(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return network(torch.from_numpy(clips).permute(0, 1, 4, 2, 3)).numpy()

    return compute
