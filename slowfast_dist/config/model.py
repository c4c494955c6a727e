"""The network and what it starts from: the settings under --model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from slowfast_dist.config import fields
from slowfast_dist.config.checks import require


@dataclass(frozen=True)
class ModelConfig:
    name: fields.ModelName = "slowfast_r50"
    """Architecture; slowfast_tiny is narrow, for CPUs, and has no published weights."""
    pretrained: fields.Pretrained | bool = "kinetics400"
    """Start from the weights that were published of this data set (torch.hub's cache, else its
    download): Kinetics-400 has them of every name but slowfast_tiny, Something-Something v2 and
    Charades of slowfast_r50. true and false: kinetics400 and none."""
    weights: Path | None = None
    """Start from this file: a hub checkpoint, a best_model_weights.pth or a bare state_dict; or
    from a run's best model: its folder, or its models/."""
    head: Literal["auto", "new", "keep"] = "auto"
    """The head of the weights. auto: classes of the same name keep their rows, others get new ones;
    all are new where the weights' names are not known. keep: all rows as they are, also of classes
    that were renamed since."""
    probe: bool = False
    """Start the head as a linear probe: a logistic regression on what the loaded backbone makes of
    the training clips, looked at once before training; in place of new or kept rows."""
    dropout: fields.BelowOne = 0.5
    """Dropout before the head."""
    freeze: fields.FrozenStages = "none"
    """What does not train: none, backbone (all but the head), or the first K of 5 stages.
    Stage 1 is the stem. auto: by the number of training clips a class, and none from scratch."""
    norm: Literal["auto", "local", "sync", "frozen"] = "auto"
    """BatchNorm statistics: local (each micro-batch), sync (across GPUs), frozen (the loaded ones).
    auto: frozen with a pretrained backbone, else local."""
    compile: bool = False
    """Compile the model with torch.compile, for GPUs; on a CPU it takes minutes for no gain."""
    checkpoint_activations: bool = False
    """Forget activations in the forward pass and compute them again in the backward pass: less
    memory, more time."""

    def __post_init__(self) -> None:
        if isinstance(self.pretrained, bool):
            word = "kinetics400" if self.pretrained else "none"
            object.__setattr__(self, "pretrained", word)

    @property
    def published(self) -> fields.DataSet | None:
        """The data set of `pretrained`; None where it is none."""
        return None if self.pretrained == "none" else cast(fields.DataSet, self.pretrained)

    def check(self) -> None:
        """Raise UserError where both of two exclude each other."""
        compiles = self.compile and self.checkpoint_activations
        remedy = "with --model.compile the compiler decides what is computed again: leave one of "
        kept = self.probe and self.head == "keep"
        line = "--model.head keep keeps the head of the weights: leave one of the two out"
        require(not kept, "model.probe", "true", line)
        require(not compiles, "model.checkpoint-activations", "true", f"{remedy}the two off")
