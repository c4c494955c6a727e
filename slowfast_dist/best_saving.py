"""The best epoch so far: whether a new one beats it, and what models/ then holds."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

from torch import Tensor

from slowfast_dist.best_facts import data_facts, result_facts, training_facts
from slowfast_dist.best_model import DESCRIPTION, describe_best
from slowfast_dist.checkpoint import portable, save_best
from slowfast_dist.config import Config
from slowfast_dist.data.loaders import VideoSet
from slowfast_dist.evaluation import Scores
from slowfast_dist.model import SlowFast, rebuild
from slowfast_dist.model_card import CARD, card_body, write_card
from slowfast_dist.run_folder import RunFolder
from slowfast_dist.text import operand
from slowfast_dist.tracking import write_predictions


class BestSoFar:
    """``memory`` is JSON for the checkpoint: metric, mode, value, epoch and step; None before any
    epoch was the best."""

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        videos: VideoSet,
        environment: dict[str, Any],
        memory: dict[str, Any] | None,
    ) -> None:
        """``memory``: what a checkpoint kept; it counts if its model is still in models/ and it was
        judged as it is now."""
        self.config, self.folder, self.videos = config, folder, videos
        self.environment = environment
        self._card_was_kept = False
        now = (config.checkpoint.monitor, config.checkpoint.mode)
        here = (folder.models / DESCRIPTION).exists()
        known = memory and here and (memory["monitor"], memory["mode"]) == now
        self.memory = memory if known else None

    def is_beaten_by(self, row: Mapping[str, Any]) -> bool:
        """Whether an epoch's row of metrics.jsonl is better; with a loss that is no number never,
        whatever the monitored metric makes of such outputs."""
        value = row.get(self.config.checkpoint.monitor)
        if value is None or not isfinite(value) or not isfinite(row.get("val/loss", 0.0)):
            return False
        if self.memory is None:
            return True
        if self.config.checkpoint.mode == "min":
            return value < self.memory["value"]
        return value > self.memory["value"]

    def save(self, row: Mapping[str, Any], scores: Scores | None, network: SlowFast) -> None:
        """Write the files of models/, and predictions/val_best.csv where there are ``scores``."""
        monitor = self.config.checkpoint.monitor
        self.memory = {
            "monitor": monitor,
            "mode": self.config.checkpoint.mode,
            "value": row[monitor],
            "epoch": row["epoch"],
            "global_step": row["global_step"],
        }
        metrics = {name: row[name] for name in row if name.startswith(("train/", "val/"))}
        description = {
            **describe_best(network, self.videos.classes, self.config.data, self.config.evaluation),
            **self.memory,
            "metrics": metrics,
            "data": data_facts(self.config.data, self.videos),
            "training": training_facts(self.config, network.norm, self.environment),
        }
        if scores is not None:
            description |= result_facts(scores.labels, scores.logits, self.videos.classes)
        state: dict[str, Tensor] = portable(network.state_dict())
        full = rebuild(description["model"])
        full.load_state_dict(state)
        save_best(self.folder.models, state, full, description)
        self._write_card()
        if scores is not None:
            names = [self.videos.val[video].name for video in scores.videos]
            write_predictions(
                self.folder.predictions, names, scores.labels, scores.logits, self.videos.classes
            )

    def _write_card(self) -> None:
        if write_card(self.folder.models) or self._card_was_kept:
            return
        self._card_was_kept = True
        print(
            f"{self.folder.shown / 'models' / CARD} was changed by hand and is kept; 'model-card "
            f"{operand(self.folder.shown)} --overwrite' writes a new one"
        )

    def card(self) -> str:
        """The text of the model card, without what only the hub reads."""
        return card_body(self.folder.models)
