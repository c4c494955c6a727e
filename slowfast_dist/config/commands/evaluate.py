"""The settings of ``evaluate``: field names are the flags, the text below is their help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Gt, Le

from slowfast_dist.config import fields
from slowfast_dist.config.checks import Remedy
from slowfast_dist.config.fields import as_training


@dataclass(frozen=True)
class EvaluateCommand:
    """Score labelled videos with the best model of a run: metrics and predictions."""

    data: Path | None = None
    """Class folders of videos, or a CSV or .jsonl of path,label and perhaps start,end, of any of
    the model's classes;
    none: the run's own validation videos."""
    output: Path | None = None
    """Folder for metrics.json and predictions.csv;
    none: evaluation-NAME in the run's folder, with the name of --data (else val)."""
    mixed_precision: fields.LaunchPrecision = "auto"
    videos: fields.CsvStart = None
    image_fps: Annotated[
        fields.ImageRate, as_training("data.image-fps", "; none: as the run's own")
    ] = None
    split: Literal["train", "val", "test", "all"] | None = None
    """Which rows are scored of a CSV with a column split; none: test where it has any, else val."""
    segments: bool = False
    """Slide a window over whole files and score what is found when against the list's segments:
    frames, events, their ends, and a page of timelines. Files with rows of several splits are left
    out."""
    wandb_mode: fields.LateWandb = "auto"
    window: fields.PositiveFloat | None = None
    """As --window of predict, with --segments."""
    stride: fields.PositiveFloat | None = None
    """As --stride of predict, with --segments."""
    smoothing: fields.NotNegative | None = None
    """As --smoothing of predict, with --segments."""
    num_workers: fields.LoaderWorkers = "auto"
    """Decoding processes of each scoring process; 0: none.
    auto: the CPUs shared out, at most 8."""
    batch_size: fields.Positive = 8
    """Views (crops of clips) that one process scores at once. It changes no result, but those of
    one video share its decoding: with many views of short videos more is faster."""
    backend: fields.Backend = "auto"
    """As --backend of predict."""
    temporal_views: fields.TemporalViews | None = None
    """Clips of each video, spread evenly over it, whose probabilities are averaged; none: as the
    run's validation. The field's usual test has 10."""
    spatial_crops: fields.SpatialCrops | None = None
    """Crops of each clip: 1 (centre) or 3 (along the longer side); none: as the run's validation.
    The field's usual test has 3."""
    flip: bool | None = None
    """Score each view mirrored, too, and average; for a model whose training mirrored clips
    (--data.flip); none: as the run's validation."""
    top_k: Annotated[
        tuple[int, ...], Gt(0), Remedy("give numbers above 0"), Le(fields.MOST)
    ] = (1, 5)
    """A video counts as right if its class is among the k most probable: which k are reported.
    One that is not below the number of classes is left out."""
    hardest: fields.ListLength = 20
    """Mistakes listed, those of the highest loss first."""
    unknown_recall: fields.Recall | None = None
    """Tell the confidence below which at least this share of the videos lies that the model gets
    wrong, for --min-confidence of predict, and how many right ones do; none: of that which the
    training kept, if it did."""
    resamples: fields.ListLength = 1000
    """Draws of the bootstrap behind the 95 % intervals of accuracy and macro-F1; 0: none."""
    csv_safe: fields.CsvSafe = False
