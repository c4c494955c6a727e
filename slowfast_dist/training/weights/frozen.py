"""``--model.freeze auto``: how much of a loaded backbone stands still, by the number of clips."""

from dataclasses import replace
from typing import Literal

from slowfast_dist.config.model import ModelConfig
from slowfast_dist.data.videos.video_set import VideoSet
from slowfast_dist.model.slowfast import STAGES, starts_pretrained
from slowfast_dist.runs.checkpoint import Checkpoint
from slowfast_dist.runs.reading import mapping
from slowfast_dist.system.log import logger

Frozen = int | Literal["none", "backbone"]

STEPS: tuple[tuple[int, Frozen], ...] = ((10, "backbone"), (50, 4), (200, 2))
"""Training clips a class below which that much is frozen; of more nothing. The order is that of
published practice: a linear classifier for few, deeper layers for more, all for many (the notes on
transfer learning of Stanford's CS231n), as the first layers are the most general ones (Yosinski et
al. 2014, How transferable are features in deep neural networks?). The numbers are not measured."""


def with_freeze(
    config: ModelConfig, videos: VideoSet, checkpoint: Checkpoint | None
) -> ModelConfig:
    """``config`` with what auto stands for, which is said with its reason: as the run of
    ``checkpoint`` began, if there is one."""
    if config.freeze != "auto":
        return config
    if checkpoint is not None:
        settings = mapping(mapping(checkpoint.state).get("config"))
        return replace(config, freeze=mapping(settings.get("model")).get("freeze", "none"))
    if not starts_pretrained(config):
        logger.info("--model.freeze auto: none, as the network starts from scratch")
        return replace(config, freeze="none")
    clips, classes = int(videos.train_counts().sum()), len(videos.classes)
    each = clips / classes
    frozen: Frozen = "none"
    why = f"at least {STEPS[-1][0]}"
    for limit, much in reversed(STEPS):
        if each < limit:
            frozen, why = much, f"below {limit}"
    what = f"{frozen} of {STAGES} stages" if isinstance(frozen, int) else frozen
    logger.info(
        f"--model.freeze auto: {what}, as {clips} training clips of {classes} classes are "
        f"{each:.0f} a class, {why}"
    )
    return replace(config, freeze=frozen)
