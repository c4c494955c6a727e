"""The settings of ``embed``: field names are the flags, the text below is their help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from slowfast_dist.config import fields
from slowfast_dist.config.fields import as_training


@dataclass(frozen=True)
class Embed:
    """Write the features of videos, what goes into a model's last linear layer, into a file.

    RUN is a run's folder, its models folder alone, or published weights (kinetics400:slowfast_r50).
    An INPUT is a video, a folder (of numbered images, or all videos below it, by class folders or
    not), a glob in quotes, or, alone, an annotation file, of which each row is embedded.
    """

    output: Path = Path("features.npy")
    """The file to write, by its ending. .npy: float32 (N, F), with a .csv of the rows beside it.
    .parquet (needs pip install '.[embed]') and .csv: path, start, end, label and group, then a
    column a feature."""
    overwrite: bool = False
    """Replace the output where it exists."""
    windows: bool = False
    """A row for each window of a long video, in place of one for the video."""
    window: fields.PositiveFloat | None = None
    """As --window of predict, with --windows."""
    stride: fields.PositiveFloat | None = None
    """As --stride of predict, with --windows."""
    score: bool = True
    """Where folders or a list give two classes or more: say how well the features tell them apart,
    by nearest neighbours and by a linear layer."""
    group_pattern: Annotated[str | None, as_training("data.group-pattern")] = None
    videos: fields.CsvStart = None
    mixed_precision: fields.OwnPrecision = "auto"
    temporal_views: fields.TemporalViews | None = None
    """Clips of each video, spread evenly over it, whose features are averaged; none: as the run's
    validation."""
    spatial_crops: fields.RunsCrops = None
    batch_size: fields.Positive = 8
    """Clips computed at once; it changes no result."""
    num_workers: fields.FileWorkers = "auto"
    image_fps: fields.RunsImageRate = None
    crop_box: fields.RunsCropBox = None
    csv_safe: fields.CsvSafe = False
    json: fields.JsonResults = False
