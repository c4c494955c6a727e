"""Logits for every video of a loader, each video once, its views' probabilities averaged."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from slowfast_dist.data.samples.batch import Batch, Failure
from slowfast_dist.data.samples.evaluation import EvaluationClips
from slowfast_dist.distributed.collectives import (
    any_process,
    barrier,
    gather_list,
    gather_rows,
    run_on_main,
    share_weights,
)
from slowfast_dist.metrics.task import Task, task_of
from slowfast_dist.model.folding import folded
from slowfast_dist.model.slowfast import SlowFast, rebuild
from slowfast_dist.runs.best_model import BestModel, load_best
from slowfast_dist.system import signals
from slowfast_dist.system.log import logger
from slowfast_dist.system.memory import give_back_free_memory
from slowfast_dist.system.progress import Progress

MOST_FEATURE_BYTES = 100_000_000
"""Bytes of the features of all views at most, which every process holds twice while it gathers
them: 21,701 views of slowfast_r50, more than the 19,900 videos of Kinetics-400's validation."""


@dataclass(frozen=True)
class Scores:
    """The scored videos in the order of the dataset, the same on every process.

    ``videos`` int64 (N,): their indices; ``labels`` int64 (N,), or bool (N, K) of several a clip;
    ``logits`` float64 (N, K), the network's where a video has one view, else those of which the
    task makes the mean of its views' probabilities, and NaN where a logit of any view is not
    finite; ``unreadable``: the videos that are missing, once each, with the reason. ``features``
    float16 (N, F): where they were asked for what goes into the last linear layer, of length 1, the
    mean over the views.
    """

    videos: NDArray[np.int64]
    labels: NDArray[Any]
    logits: NDArray[np.float64]
    unreadable: list[Failure]
    features: NDArray[np.float16] | None = None

    def metrics(self, task: Task) -> dict[str, float]:
        """The val/ part of a row of metrics.jsonl, without that prefix."""
        counts = {"videos": len(self.videos), "unreadable": len(self.unreadable)}
        return task.metrics(self.logits, self.labels) | counts


@dataclass(frozen=True)
class OtherNetwork:
    """What computes in place of torch: ``answers``, logits (B, ``num_classes``) of uint8 clips
    (B, T, H, W, 3)."""

    answers: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    num_classes: int


def evaluate(
    title: str, network: SlowFast | OtherNetwork, loader: DataLoader[Batch],
    accelerator: Accelerator, flip: bool = False, swaps: NDArray[np.int64] | None = None,
    features: bool = False,
) -> Scores | None:  # fmt: skip
    """Score the videos of ``loader``, which reads EvaluationClips, with the unwrapped ``network``.

    ``title`` is that of the progress shown; ``flip``: each view is scored mirrored, too, and is the
    mean of both; ``swaps`` (K,): the class that each becomes in a mirror, None: itself;
    ``features``: whether those of torch's network are wanted, too, of the same passes.
    Collective at the end only, so processes may have unequal numbers of batches. Asserts that every
    view of every readable video was scored exactly once over all processes. None where a process
    was asked to stop meanwhile.
    """
    clips = cast(EvaluationClips, loader.dataset)
    silent = not (accelerator.is_main_process and logger.isEnabledFor(logging.INFO))
    torchs = network if isinstance(network, SlowFast) else None
    was_training = torchs is not None and torchs.training
    if torchs is not None:
        torchs.eval()
    logits: list[Tensor] = [torch.empty(0, network.num_classes, device=accelerator.device)]
    rows: list[Tensor] = [torch.empty(0, 3, dtype=torch.int64, device=accelerator.device)]
    assert torchs is not None or not features
    width = torchs.head.proj.in_features if torchs is not None and features else 0
    units: list[Tensor] = [torch.empty(0, width, dtype=torch.float16, device=accelerator.device)]
    failures: list[Failure] = []
    progress = Progress(title, len(loader), silent=silent)
    with progress, torch.inference_mode(), accelerator.autocast():
        if isinstance(network, SlowFast):
            scorer: Callable[[Tensor], Tensor] = folded(network)
        else:
            scorer = _as_scorer(network.answers, accelerator.device)
        for host_batch in progress.over(loader, accelerator.num_processes):
            if signals.received() is not None:
                break
            failures.extend(host_batch.failures)
            if not len(host_batch):
                continue
            batch = host_batch.to(accelerator.device)
            found, near = _answer(scorer, batch.frames, features)
            if flip:
                mirrored, of_mirror = _answer(scorer, batch.frames.flip(-1), features)
                near = (near + of_mirror) / 2
                if swaps is not None:
                    mirrored = mirrored[:, torch.from_numpy(swaps).to(mirrored.device)]
                found = _mean(found, mirrored, clips)
            logits.append(found)
            if features:
                units.append(near)
            labels = batch.labels if batch.labels.dim() == 1 else batch.labels.sum(dim=1)
            rows.append(torch.stack([batch.videos, batch.views, labels], dim=1))
    if torchs is not None:
        torchs.train(was_training)
    barrier(accelerator)
    if any_process(accelerator, signals.received() is not None):
        return None
    all_logits = gather_rows(accelerator, torch.cat(logits)).cpu().double().numpy()
    all_rows = gather_rows(accelerator, torch.cat(rows)).cpu().numpy()
    all_units = gather_rows(accelerator, torch.cat(units)).cpu().numpy() if features else None
    # Of several views the first says why.
    failed = {failure.video: failure for failure in reversed(gather_list(accelerator, failures))}
    return _score(all_rows, all_logits, failed, clips, all_units)


def holds_features(network: SlowFast, clips: EvaluationClips) -> bool:
    """Whether features of all views are few enough for MOST_FEATURE_BYTES."""
    width: int = network.head.proj.in_features
    return len(clips) * width * torch.float16.itemsize <= MOST_FEATURE_BYTES


def _answer(
    scorer: Callable[[Tensor], Tensor], frames: Tensor, features: bool
) -> tuple[Tensor, Tensor]:
    """Logits float32 (B, K), and features float16 (B, F), of length 1, so that float16 holds any;
    (0,) where they are not wanted."""
    if not features:
        return scorer(frames).float(), torch.empty(0)
    assert isinstance(scorer, SlowFast)
    logits, found = scorer.logits_and_features(frames)
    return logits.float(), torch.nn.functional.normalize(found, dim=1).half()


def _mean(one: Tensor, other: Tensor, clips: EvaluationClips) -> Tensor:
    """Logits (B, K) of the mean of both's probabilities; of a clip with a logit that is not finite
    NaN."""
    views = torch.stack([one, other], dim=1).cpu().double().numpy()
    views[~np.isfinite(views).all(axis=(1, 2))] = np.nan
    task = task_of("ce" if clips.videos.sets is None else "bce")
    return torch.from_numpy(task.average_views(views)).to(one)


def _as_scorer(
    answers: Callable[[NDArray[np.uint8]], NDArray[np.float32]], device: torch.device
) -> Callable[[Tensor], Tensor]:
    def scorer(frames: Tensor) -> Tensor:
        clips = frames.permute(0, 1, 3, 4, 2).cpu().numpy()
        return torch.from_numpy(answers(clips)).to(device)

    return scorer


def _score(
    rows: NDArray[np.int64], logits: NDArray[np.float64], failed: dict[int, Failure],
    clips: EvaluationClips, units: NDArray[np.float16] | None,
) -> Scores:  # fmt: skip
    """``rows`` int64 (R, 3): video, view, label, or of several how many it has; ``logits`` (R, K),
    ``units`` (R, F). A video needs all its views."""
    views, several = clips.views, clips.videos.sets is not None
    readable = ~np.isin(rows[:, 0], list(failed))
    rows, logits = rows[readable], logits[readable]
    order = np.lexsort((rows[:, 1], rows[:, 0]))
    rows, logits = rows[order], logits[order]
    scored = [video for video in range(len(clips.videos)) if video not in failed]
    expected = np.repeat(np.array(scored, dtype=np.int64), views)
    assert np.array_equal(rows[:, 0], expected), "a video was not scored exactly once"
    assert np.array_equal(rows[:, 1], np.tile(np.arange(views), len(scored)))
    logits[~np.isfinite(logits).all(axis=1)] = np.nan
    task = task_of("bce" if several else "ce")
    averaged = task.average_views(logits.reshape(len(scored), views, logits.shape[1]))
    if units is not None:
        units = units[readable][order].reshape(len(scored), views, units.shape[1])
        units = units.mean(axis=1, dtype=np.float32).astype(np.float16)
    unreadable = [failed[video] for video in sorted(failed)]
    videos, labels = rows[::views, 0], clips.videos.targets(rows[::views, 0])
    told = labels.sum(axis=1) if several else labels
    assert np.array_equal(told, rows[::views, 2]), "a video came with another one's label"
    return Scores(videos, labels, averaged, unreadable, units)


def load_everywhere(run: Path, accelerator: Accelerator) -> tuple[BestModel, SlowFast]:
    """The best model as the main process read it, as a run may be writing a new one; its network is
    on the accelerator's device. Collective. Raises as `load_best`."""
    loaded: list[SlowFast] = []

    def read() -> BestModel:
        best, network = load_best(run)
        loaded.append(network)
        return best

    best = run_on_main(accelerator, read)
    network = loaded[0] if loaded else rebuild(best.model)
    network.to(accelerator.device)
    share_weights(accelerator, network)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    give_back_free_memory()  # of the file that was read, and of the other layout
    return best, network
