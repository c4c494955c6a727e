"""A models/ folder as a training leaves it, but with random weights: what takes no training."""

from pathlib import Path

import torch

from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.model import ModelConfig
from slowfast_dist.config.training import EvaluationConfig
from slowfast_dist.model.slowfast import build_model
from slowfast_dist.runs.best_model import describe_best, save_best

CLIP = DataConfig(num_frames=8, sampling_rate=1, short_side=(40, 40), crop_size=32)


def write_model(
    folder: Path,
    classes: tuple[str, ...],
    views: tuple[int, int] = (1, 1),
    head: float = 30.0,
    data: DataConfig = CLIP,
) -> Path:
    """``views``: clips and crops of its validation; ``head``: scale of the last layer's random
    weights, which as they are make all classes about as likely; ``data``: of its clips."""
    torch.manual_seed(0)
    config = ModelConfig("slowfast_tiny", pretrained=False)
    network = build_model(config, len(classes))[0].eval()
    with torch.no_grad():
        network.blocks[6].proj.weight.mul_(head)
    description = describe_best(network, classes, data, EvaluationConfig(*views))
    folder.mkdir(parents=True, exist_ok=True)
    save_best(folder, network.state_dict(), network, description | {"epoch": 1, "metrics": {}})
    return folder
