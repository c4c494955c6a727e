"""A models/ folder as a training leaves it, but with random weights: what takes no training."""

from pathlib import Path

import torch

from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.training import EvaluationConfig
from slowfast_dist.model.description import NetworkDescription
from slowfast_dist.model.slowfast import SlowFast
from slowfast_dist.runs.models.saving import describe_best, save_best

CLIP = DataConfig(num_frames=8, sampling_rate=1, short_side=(40, 40), crop_size=32)


def write_model(
    folder: Path,
    classes: tuple[str, ...],
    views: tuple[int, int] = (1, 1),
    head: float = 30.0,
    data: DataConfig = CLIP,
    network: NetworkDescription | str = "slowfast_tiny",
) -> Path:
    """``views``: clips and crops of its validation; ``head``: scale of the last layer's random
    weights, which as they are make all classes about as likely; ``data``: of its clips."""
    torch.manual_seed(0)
    model = SlowFast(network, len(classes), 0.5).eval()
    with torch.no_grad():
        model.blocks[6].proj.weight.mul_(head)
    description = describe_best(model, classes, data, EvaluationConfig(*views))
    folder.mkdir(parents=True, exist_ok=True)
    save_best(folder, model.state_dict(), model, description | {"epoch": 1, "metrics": {}})
    return folder
