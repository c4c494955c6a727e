"""The settings of ``adopt``: field names are the flags, the text below is their help."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Adopt:
    """Make a run of weights that another program trained, for evaluate, predict, export and serve.

    FILE is a checkpoint of PySlowFast (.pyth, .pkl), MMAction2 (.pth), pytorchvideo, Lightning or
    the original script; what it is shows in the names of its tensors, and nothing in it is run.
    """

    classes: Path | None = None
    """Names of the classes in the order of the training: a text file with a name a line, or JSON,
    as best_model.json; none: the file tells them."""
    output: Path | None = None
    """The folder of the run to make."""
    config: Path | None = None
    """Configuration that the weights were trained with, PySlowFast's .yaml or MMAction2's .py, read
    and never executed. Without FILE: print the flags of a training that does the same."""
