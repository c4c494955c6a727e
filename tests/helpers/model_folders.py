"""models/ of a tiny network that was not trained, with all that a training tells of its best."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.model import ModelConfig
from slowfast_dist.config.training import Config, EvaluationConfig
from slowfast_dist.data.listing.video_table import VideoRecord
from slowfast_dist.data.videos.video_set import VideoSet
from slowfast_dist.metrics.scores import logit_metrics
from slowfast_dist.model.slowfast import SlowFast
from slowfast_dist.runs.best_model import DESCRIPTION, WEIGHTS
from slowfast_dist.runs.models.saving import describe_best, save_best
from slowfast_dist.system.files import file_sha256
from slowfast_dist.training.best.facts import data_facts, result_facts, training_facts
from slowfast_dist.video.reader import VideoInfo
from tests.helpers.video_tables import table_of

ENVIRONMENT = {
    "device": "cpu", "mixed_precision": "no", "processes": 1, "git_commit": "0123456789abcdef",
    "versions": {"slowfast_dist": "0.1.0", "torch": "2.13.0"},
}  # fmt: skip


def labels_and_logits(classes: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """int64 (count,) and float64 (count, classes), right more often than not."""
    rng = np.random.default_rng(0)
    labels = np.arange(count, dtype=np.int64) % classes
    logits = rng.normal(size=(count, classes))
    logits[np.arange(count), labels] += 1.5
    return labels, logits


def description(classes: tuple[str, ...], config: Config, count: int = 40) -> dict[str, Any]:
    """best_model.json as a training writes it."""
    network = SlowFast("slowfast_tiny", len(classes), 0.0)
    root = config.data.root or Path("/home/somebody/clips")
    labels, logits = labels_and_logits(len(classes), count)
    table = table_of(
        [VideoRecord(root / f"{n}.mp4", f"{n}.mp4", int(k), f"{n}.mp4")
         for n, k in enumerate(labels)],
        [VideoInfo(30, 15.0, 64, 64, 0, "h264", True)] * count,
    )  # fmt: skip
    drawn = config.data.root is not None
    videos = VideoSet(classes, table, table, (), drawn, (), drawn)
    metrics = logit_metrics(labels, logits) | {"videos": count, "unreadable": 0}
    return {
        **describe_best(network, classes, config.data, config.evaluation),
        "monitor": "val/loss", "mode": "min", "value": metrics["loss"], "epoch": 7,
        "global_step": 70,
        "metrics": {f"val/{name}": value for name, value in metrics.items()},
        "data": data_facts(config.data, videos),
        "training": training_facts(config, "local", ENVIRONMENT),
        **result_facts(labels, logits, classes),
    }  # fmt: skip


def replace_weights(models: Path, state: dict[str, torch.Tensor]) -> None:
    """Other weights, as if best_model.json had been written for them."""
    torch.save(state, models / WEIGHTS)
    facts = json.loads((models / DESCRIPTION).read_text(encoding="utf-8"))
    facts["weights_sha256"] = file_sha256(models / WEIGHTS)
    (models / DESCRIPTION).write_text(json.dumps(facts), encoding="utf-8")


def small_config(root: Path) -> Config:
    """Clips of 8 frames at 32 x 32 px."""
    data = DataConfig(root=root, num_frames=8, sampling_rate=1, crop_size=32, short_side=(32, 32))
    model = ModelConfig("slowfast_tiny", pretrained=False, dropout=0.0)
    return Config(data=data, model=model, evaluation=EvaluationConfig())


def save_models(models: Path, classes: tuple[str, ...], config: Config) -> dict[str, Any]:
    """The files of models/ but for the card; returns best_model.json."""
    torch.manual_seed(0)
    network = SlowFast("slowfast_tiny", len(classes), 0.0).eval()
    facts = description(classes, config)
    save_best(models, network.state_dict(), network, facts)
    return dict(json.loads((models / "best_model.json").read_text(encoding="utf-8")))
