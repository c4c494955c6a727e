"""Predictors whose network is a few lines of a test: real clips in, logits out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.training import EvaluationConfig
from slowfast_dist.inference.metadata import Network
from slowfast_dist.inference.predictor import Predictor
from slowfast_dist.runs.best_model import BestModel

CLASSES = ("dark", "light")
MOTIONS = ("moves left", "moves right", "turns clockwise")
"""Classes of the small real model in the tests of predict."""

SMALL = DataConfig(
    num_frames=8, sampling_rate=2, sampling="dense", short_side=(36, 36), crop_size=32
)


def brightness(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits (B, 2) of dark and light: sure of either, in doubt at middle grey."""
    mean = clips.mean(axis=(1, 2, 3, 4), dtype=np.float32)
    return np.asarray(np.stack([127.5 - mean, mean - 127.5], axis=1) / 20, np.float32)


def predictor(
    network: Network = brightness,
    data: DataConfig = SMALL,
    crops: int = 1,
    classes: tuple[str, ...] = CLASSES,
) -> Predictor:
    best = BestModel(Path("run"), classes, {}, data, EvaluationConfig(1, crops), 1)
    return Predictor(best, network)


UNIFORM = replace(SMALL, sampling="uniform")
