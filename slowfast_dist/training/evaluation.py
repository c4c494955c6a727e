"""Logits for every video of a loader, each video once, its views' probabilities averaged."""

import logging
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from slowfast_dist.data.dataset import Batch, EvaluationClips, Failure
from slowfast_dist.distributed.collectives import any_process, barrier, gather_list, gather_rows
from slowfast_dist.metrics.scores import average_views, logit_metrics
from slowfast_dist.model.folding import folded
from slowfast_dist.model.slowfast import SlowFast
from slowfast_dist.system import signals
from slowfast_dist.system.log import logger
from slowfast_dist.system.progress import Progress


@dataclass(frozen=True)
class Scores:
    """The scored videos in the order of the dataset, the same on every process.

    ``videos`` int64 (N,): their indices; ``labels`` int64 (N,); ``logits`` float64 (N, K), the
    network's where a video has one view, else log-probabilities, of which the softmax is the mean
    of its views' probabilities, and NaN where a logit of any view is not finite; ``unreadable``:
    the videos that are missing, once each, with the reason.
    """

    videos: NDArray[np.int64]
    labels: NDArray[np.int64]
    logits: NDArray[np.float64]
    unreadable: list[Failure]

    def metrics(self) -> dict[str, float]:
        """The val/ part of a row of metrics.jsonl, without that prefix."""
        counts = {"videos": len(self.videos), "unreadable": len(self.unreadable)}
        return logit_metrics(self.labels, self.logits) | counts


def evaluate(
    title: str, network: SlowFast, loader: DataLoader[Batch], accelerator: Accelerator
) -> Scores | None:
    """Score the videos of ``loader``, which reads EvaluationClips, with the unwrapped ``network``.

    ``title`` is that of the progress shown. Collective at the end only, so processes may have
    unequal numbers of batches. Asserts that every view of every readable video was scored exactly
    once over all processes. None where a process was asked to stop meanwhile.
    """
    clips = cast(EvaluationClips, loader.dataset)
    silent = not (accelerator.is_main_process and logger.isEnabledFor(logging.INFO))
    was_training = network.training
    network.eval()
    logits: list[Tensor] = [torch.empty(0, network.num_classes, device=accelerator.device)]
    rows: list[Tensor] = [torch.empty(0, 3, dtype=torch.int64, device=accelerator.device)]
    failures: list[Failure] = []
    progress = Progress(title, len(loader), silent=silent)
    with progress, torch.inference_mode(), accelerator.autocast():
        scorer = folded(network)
        for host_batch in progress.over(loader, accelerator.num_processes):
            if signals.received() is not None:
                break
            failures.extend(host_batch.failures)
            if not len(host_batch):
                continue
            batch = host_batch.to(accelerator.device)
            logits.append(scorer(batch.frames).float())
            rows.append(torch.stack([batch.videos, batch.views, batch.labels], dim=1))
    network.train(was_training)
    barrier(accelerator)
    if any_process(accelerator, signals.received() is not None):
        return None
    all_logits = gather_rows(accelerator, torch.cat(logits)).cpu().double().numpy()
    all_rows = gather_rows(accelerator, torch.cat(rows)).cpu().numpy()
    # Of several views the first says why.
    failed = {failure.video: failure for failure in reversed(gather_list(accelerator, failures))}
    return _score(all_rows, all_logits, failed, clips)


def _score(
    rows: NDArray[np.int64], logits: NDArray[np.float64], failed: dict[int, Failure],
    clips: EvaluationClips,
) -> Scores:  # fmt: skip
    """``rows`` int64 (R, 3): video, view, label; ``logits`` (R, K). A video needs all its views."""
    views = clips.views
    readable = ~np.isin(rows[:, 0], list(failed))
    rows, logits = rows[readable], logits[readable]
    order = np.lexsort((rows[:, 1], rows[:, 0]))
    rows, logits = rows[order], logits[order]
    scored = [video for video in range(len(clips.videos)) if video not in failed]
    expected = np.repeat(np.array(scored, dtype=np.int64), views)
    assert np.array_equal(rows[:, 0], expected), "a video was not scored exactly once"
    assert np.array_equal(rows[:, 1], np.tile(np.arange(views), len(scored)))
    logits[~np.isfinite(logits).all(axis=1)] = np.nan
    averaged = average_views(logits.reshape(len(scored), views, logits.shape[1]))
    unreadable = [failed[video] for video in sorted(failed)]
    return Scores(rows[::views, 0], rows[::views, 2], averaged, unreadable)
