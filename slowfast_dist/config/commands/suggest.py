"""The settings of ``suggest``: field names are the flags, the text below is their help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Interval

from slowfast_dist.config import fields


@dataclass(frozen=True)
class Suggest:
    """Choose the videos to label next: those of which a model is unsure, and that are unlike each
    other, in a list for review.

    RUN is a run's folder, or its models folder alone. An INPUT is a video, a folder (of numbered
    images, or all videos below it), or a glob in quotes. What the run's split.csv names is left
    out, as it has a label.
    """

    count: fields.Positive = 20
    """Videos, or windows, to choose."""
    windows: bool = False
    """Choose windows of long videos, in place of whole ones; of those that overlap only one."""
    window: fields.PositiveFloat | None = None
    """As --window of predict, with --windows."""
    stride: fields.PositiveFloat | None = None
    """As --stride of predict, with --windows."""
    output: Path = Path("suggested.csv")
    """The list to write, in the order in which they were chosen: path, label (empty), start, end,
    suggested, probability and reason."""
    overwrite: bool = False
    """Replace the output where it exists."""
    seed: Annotated[int, Interval(ge=0, le=fields.MOST_SEED)] = 0
    """Of the draw among those that are unsure: the same seed chooses the same."""
    mixed_precision: fields.OwnPrecision = "auto"
    temporal_views: fields.TemporalViews | None = None
    """Clips of each video, spread evenly over it; none: as the run's validation."""
    spatial_crops: fields.RunsCrops = None
    batch_size: fields.Positive = 8
    """Clips computed at once."""
    num_workers: fields.FileWorkers = "auto"
    image_fps: fields.RunsImageRate = None
    crop_box: fields.RunsCropBox = None
    wandb_mode: fields.LateWandb = "auto"
    json: fields.JsonResults = False
