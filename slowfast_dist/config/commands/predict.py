"""The settings of ``predict``: field names are the flags, the text below is their help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from slowfast_dist.config import fields
from slowfast_dist.config.fields import as_training


@dataclass(frozen=True)
class Predict:
    """Say what happens in videos, with a run's best model.

    RUN is a run's folder, or its models folder alone. An INPUT is a video, a folder (of numbered
    images, or all videos below it), a glob in quotes, a camera's number (0), or the address of a
    live source (rtsp://, http://, https:// and the like).
    """

    top_k: fields.Positive = 5
    """Classes shown of each video, the most probable first."""
    min_confidence: fields.Confidence | None = None
    """Say unknown in place of a class that is less probable than that; none: as the training kept
    it with the model (--evaluation.unknown-recall), else never; 0: never."""
    json: bool = False
    """Print one JSON object a line in place of the table: one for each video, as it is done."""
    backend: fields.Backend = "auto"
    """auto: torch, or on a CPU openvino where that is installed, answers faster and says the same
    on the first clip; openvino: the file that 'export' wrote where there is one, else the run's
    weights; onnx, pt2: the file that 'export' wrote."""
    mixed_precision: fields.BackendPrecision = "auto"
    temporal_views: fields.TemporalViews | None = None
    """Clips of each video, spread evenly over it, whose probabilities are averaged; none: as the
    run's validation."""
    spatial_crops: fields.SpatialCrops | None = None
    """Crops of each clip: 1 (centre) or 3 (along the longer side); none: as the run's
    validation."""
    flip: bool | None = None
    """Score each view mirrored, too, and average; for a model whose training mirrored clips
    (--data.flip); none: as the run's validation."""
    batch_size: fields.Positive = 8
    """Clips scored at once; it changes no result."""
    num_workers: fields.LoaderWorkers = "auto"
    """Decoding processes; 0: none. auto: the CPUs less one, at most 8."""
    image_fps: Annotated[
        fields.ImageRate, as_training("data.image-fps", "; none: as the run's own")
    ] = None
    crop_box: fields.CropBox = None
    """Region of interest x y w h of every video, in place of the run's own (--data.crop-box of the
    training), as for a model that was trained on a list's columns x,y,w,h; none: the run's own."""
    segments: bool = False
    """Slide a window over each video and tell what happens when: segments with start, end, class
    and confidence, and a timeline picture."""
    window: fields.PositiveFloat | None = None
    """Seconds of video that one window looks at; none: what a clip of the model spans, and with
    sampling uniform, whose clips span whole videos, the median length of the training videos."""
    stride: fields.PositiveFloat | None = None
    """Seconds from one window to the next; none: half a window, and a quarter for files where the
    model's sampling is uniform."""
    smoothing: fields.NotNegative | None = None
    """Seconds over which the windows' probabilities are averaged before segments are cut; 0: not
    at all; none: one window."""
    format: tuple[fields.SegmentFormat, ...] = ()
    """Also write the segments for other tools, with --segments: a project of boris or via, a file
    of elan, tasks of label-studio, or csv, the list that a training takes."""
    annotate: bool = False
    """Write a copy of each video with the class and its probability in the picture."""
    explain: bool = False
    """Draw for each video where and when the network saw its class, in the clip in its middle: a
    playing clip and a strip of frames. Takes as long as about 30 clips; torch computes it, in
    float32."""
    explain_at: fields.NotNegative | None = None
    """Explain the clip around this second in place of the one in the middle, and the class that is
    the most probable there; none: the middle."""
    explain_class: str | None = None
    """Explain this class in place of the most probable one; none: that."""
    explain_pathways: bool = False
    """Also draw what the slow and the fast pathway show, each alone."""
    output: Path = Path("predictions")
    """Folder for what --segments, --annotate and --explain write, made if need be."""
    csv_safe: fields.CsvSafe = False
    seconds: fields.PositiveFloat | None = None
    """Stop a live source after this many seconds; none: at Ctrl-C or when it ends."""
    timeout: fields.PositiveFloat = 10.0
    """Seconds that a live source may take to open, or be silent, before it is given up."""
