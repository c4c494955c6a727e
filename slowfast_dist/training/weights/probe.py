"""The head's start as a linear probe: logistic regression on what a loaded backbone sees."""

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn

from slowfast_dist.config.errors import UserError
from slowfast_dist.config.model import ModelConfig
from slowfast_dist.config.training import Config
from slowfast_dist.data.listing.split import group_codes
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.loaders import make_evaluation_loader
from slowfast_dist.data.samples.batch import batch_bytes
from slowfast_dist.data.samples.evaluation import EvaluationClips
from slowfast_dist.data.videos.video_set import VideoSet
from slowfast_dist.data.workers import end_workers, plan_workers
from slowfast_dist.distributed.accelerator import local_processes
from slowfast_dist.distributed.collectives import run_on_main
from slowfast_dist.metrics.features.probe import FOLDS, fit_probe
from slowfast_dist.model.slowfast import SlowFast, starts_pretrained
from slowfast_dist.system.log import logger
from slowfast_dist.system.signals import StopRequested
from slowfast_dist.training.evaluation import Scores, evaluate

MOST_CLIPS = 5000
"""Training clips that are looked at; of more a draw. A head learns from so many by itself, and the
regression would take longer than an epoch."""


def require_backbone(config: ModelConfig) -> None:
    """Raise UserError for a probe of a backbone that starts from scratch."""
    if config.probe and not starts_pretrained(config):
        raise UserError(
            f"--model.probe true: {config.name} starts from scratch, so there is no backbone to "
            "look through: give --model.weights, or leave it out"
        )


def start_head(
    config: Config, accelerator: Accelerator, videos: VideoSet, network: SlowFast
) -> None:
    """Collective: fit the probe to one clip, as validation cuts it, of each training video, and
    take it for the head; says how many it gets right. Raises StopRequested where a process was
    asked to stop, and UserError where there are not two classes to be told apart.
    """
    table = videos.train
    if len(table) > MOST_CLIPS:
        drawn = np.random.default_rng([config.seed, 3]).permutation(len(table))[:MOST_CLIPS]
        table = table.select(np.sort(drawn))
    scores = _features(config, accelerator, table, network)
    labels, weight, bias, line = run_on_main(accelerator, lambda: _fitted(config, table, scores))
    proj = network.head.proj
    with torch.no_grad():
        # A class without a clip keeps its new row.
        rows = torch.from_numpy(np.array(labels)).to(proj.weight.device)
        proj.weight[rows] = torch.from_numpy(np.array(weight)).to(proj.weight)
        proj.bias[rows] = torch.from_numpy(np.array(bias)).to(proj.bias)
    logger.info(line)


def _features(
    config: Config, accelerator: Accelerator, table: VideoTable, network: SlowFast
) -> Scores:
    """As an evaluation's, with the head's input (N, D) in place of logits."""
    size = config.micro_batch_size
    assert size != "auto"  # by now a number was chosen
    clips = EvaluationClips(table, config.data)
    plan = plan_workers(
        config.data.num_workers, local_processes(), batch_bytes(config.data, size), loaders=3
    )
    rank, world_size = accelerator.process_index, accelerator.num_processes
    pin = accelerator.device.type == "cuda"
    loader = make_evaluation_loader(clips, size, plan, rank, world_size, pin)
    proj, classes = network.head.proj, network.num_classes
    network.head.proj, network.num_classes = nn.Identity(), proj.in_features
    try:
        scores = evaluate("linear probe", network, loader, accelerator)
    finally:
        network.head.proj, network.num_classes = proj, classes
        end_workers(loader)
    if scores is None:
        raise StopRequested
    return scores


def _fitted(
    config: Config, table: VideoTable, scores: Scores
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], str]:
    """Classes, weight and bias of the probe, and what to tell of it."""
    sound = np.isfinite(scores.logits).all(axis=1)
    rows, features, labels = scores.videos[sound], scores.logits[sound], scores.labels[sound]
    if len(np.unique(labels)) < 2:
        raise UserError(
            "--model.probe true: fewer than two classes have a training video that can be read, "
            "with finite features: leave it out"
        )
    groups = group_codes(table)
    if groups is None and table.segments is not None:
        groups = np.asarray(table.segments.files, np.int64)
    weights = None if table.weights is None else np.asarray(table.weights, np.float64)[rows]
    balanced = config.loss.class_weights == "balanced" or config.loss.logit_adjustment > 0
    balanced |= config.data.class_sampling == "balanced"
    found = fit_probe(
        features, labels, None if groups is None else groups[rows], weights, balanced, config.seed
    )
    told = "too few clips to say how well it does"
    if found.accuracy is not None:
        told = f"{found.accuracy:.1%} of {len(labels)} training clips right, each by a probe of "
        told += f"other {'clips' if groups is None else 'groups'} ({FOLDS} folds)"
    line = f"head: starts as a linear probe (C {found.strength:g}): {told}"
    return found.labels, found.weight, found.bias, line
