"""The settings of the commands beside ``train`` and ``evaluate``: field names are the flags.

The text under a field is its help on the command line. No torch here, so that ``--help`` is fast.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slowfast_dist.config.checks import MOST, require
from slowfast_dist.config.errors import UserError


def _check_workers(workers: int | str) -> None:
    if isinstance(workers, int):
        require(workers > 0, "num-workers", workers, "give a number above 0, or auto")


@dataclass(frozen=True)
class CheckData:
    """Report what is wrong with a dataset before hours are spent on it."""

    val_dir: Path | None = None
    """Validation videos, where you made the split yourself and DIR holds the training videos."""
    val_fraction: float = 0.2
    """As --data.val-fraction of the training: its split is the one that is checked."""
    group_pattern: str | None = None
    """As --data.group-pattern of the training."""
    seed: int = 0
    """As --seed of the training."""
    num_frames: int = 32
    """As --data.num-frames of the training."""
    sampling_rate: int = 2
    """As --data.sampling-rate of the training."""
    crop_size: int = 224
    """As --data.crop-size of the training."""
    full: bool = False
    """Decode every frame of every video: finds damage in the middle of a file, in minutes or hours
    where the usual check takes seconds."""
    json: Path | None = None
    """Also write the report to this file, for programs."""
    move_bad: Path | None = None
    """Move the videos that cannot be read to this folder, each to where it was below DIR (with
    --val-dir: below train and val). Nothing is overwritten, and no CSV is changed."""
    num_workers: int | Literal["auto"] = "auto"
    """Processes that read files at once; auto: one a CPU."""

    def check(self) -> None:
        """Raise UserError for settings that cannot be."""
        fraction, frames, rate = self.val_fraction, self.num_frames, self.sampling_rate
        require(0 < fraction < 1, "val-fraction", fraction, "give a number between 0 and 1")
        seed, most = self.seed, MOST["seed"]
        require(0 <= seed <= most, "seed", seed, f"give a number from 0 to {most}")
        for name, value in (
            ("num-frames", frames), ("sampling-rate", rate), ("crop-size", self.crop_size)
        ):  # fmt: skip
            most = MOST[f"data.{name}"]
            require(0 < value <= most, name, value, f"give a number from 1 to {most}")
        _check_workers(self.num_workers)


@dataclass(frozen=True)
class Prepare:
    """Rewrite a dataset once for fast loading; the originals are not touched."""

    short_side: int = 256
    """Pixels of the short side; videos with a smaller one keep their size (made even). Evaluation
    looks at 256; training (--data.short-side) enlarges up to 1.25 times beyond that, for which 320
    keeps all detail. Measured on videos of 432 to 1080 lines: 256, 288, 320 and 360 take 25, 31, 33
    and 40 ms of CPU time a clip, and .6, .7, .8 and 1.0 MB for 10 s."""
    num_workers: int | Literal["auto"] = "auto"
    """Processes that transcode at once; auto: one a CPU."""

    def check(self) -> None:
        """Raise UserError for settings that cannot be."""
        side = self.short_side
        require(side >= 16 and side % 2 == 0, "short-side", side, "give an even number from 16 on")
        _check_workers(self.num_workers)


@dataclass(frozen=True)
class EvaluateCommand:
    """Score labelled videos with the best model of a run: metrics and predictions."""

    data: Path | None = None
    """Class folders of videos, or a CSV of path,label, of any of the model's classes;
    none: the run's own validation videos."""
    output: Path | None = None
    """Folder for metrics.json and predictions.csv;
    none: evaluation-NAME in the run's folder, with the name of --data (else val)."""
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """auto: what accelerate launch was told, else what the hardware has."""
    num_workers: int | Literal["auto"] = "auto"
    """Decoding processes of each scoring process; 0: none.
    auto: the CPUs shared out, at most 8."""
    batch_size: int = 8
    """Views (crops of clips) that one process scores at once. It changes no result, but those of
    one video share its decoding: with many views of short videos more is faster."""
    temporal_views: int | None = None
    """Clips of each video, spread evenly over it, whose probabilities are averaged; none: as the
    run's validation. The field's usual test has 10."""
    spatial_crops: int | None = None
    """Crops of each clip: 1 (centre) or 3 (along the longer side); none: as the run's validation.
    The field's usual test has 3."""
    top_k: tuple[int, ...] = (1, 5)
    """A video counts as right if its class is among the k most probable: which k are reported.
    One that is not below the number of classes is left out."""
    hardest: int = 20
    """Mistakes listed, those of the highest loss first."""
    resamples: int = 1000
    """Draws of the bootstrap behind the 95 % intervals of accuracy and macro-F1; 0: none."""


def validate_evaluate(config: EvaluateCommand) -> None:
    """Raise UserError, naming flag, value and remedy, for settings that cannot be."""
    require(config.batch_size > 0, "batch-size", config.batch_size, "give a number above 0")
    views, most = config.temporal_views, MOST["evaluation.temporal-views"]
    right = views is None or 0 < views <= most
    require(right, "temporal-views", views, f"give a number from 1 to {most}")
    crops = config.spatial_crops
    require(crops in (None, 1, 3), "spatial-crops", crops, "give 1 or 3")
    for k in config.top_k:
        require(k > 0, "top-k", k, "give numbers above 0")
    for flag, value in (("hardest", config.hardest), ("resamples", config.resamples)):
        require(0 <= value <= 10**6, flag, value, "give a number from 0 to 1000000")
    if config.num_workers != "auto":
        most = MOST["data.num-workers"]
        remedy = f"give 0 or a number above it, up to {most}"
        require(0 <= config.num_workers <= most, "num-workers", config.num_workers, remedy)


# The settings of the commands that use a trained model: field names are the flags.
#
# The text under a field is its help on the command line. No torch here, so that ``--help`` is fast.


Precision = Literal["auto", "no", "bf16", "fp16"]
Backend = Literal["torch", "onnx", "pt2"]

ABOVE_0 = "give a number above 0"
NOT_BELOW_0 = "give 0 or a number above it"


def check_views(temporal_views: int | None, spatial_crops: int | None) -> None:
    """Raise UserError for views that cannot be; None stands for the run's own."""
    most = MOST["evaluation.temporal-views"]
    if temporal_views is not None:
        right = 0 < temporal_views <= most
        require(right, "temporal-views", temporal_views, f"give a number from 1 to {most}")
    if spatial_crops is not None:
        require(spatial_crops in (1, 3), "spatial-crops", spatial_crops, "give 1 or 3")


@dataclass(frozen=True)
class Predict:
    """Say what happens in videos, with a run's best model.

    RUN is a run's folder, or its models folder alone. An INPUT is a video, a folder (all videos
    below it), a glob in quotes, a camera's number (0), or the address of a live source (rtsp://,
    http://, https:// and the like).
    """

    top_k: int = 5
    """Classes shown of each video, the most probable first."""
    json: bool = False
    """Print one JSON object a line in place of the table: one for each video, as it is done."""
    backend: Backend = "torch"
    """torch: the run's weights; onnx, pt2: the file that 'export' wrote."""
    mixed_precision: Precision = "auto"
    """auto: what the hardware has; backend torch only."""
    temporal_views: int | None = None
    """Clips of each video, spread evenly over it, whose probabilities are averaged; none: as the
    run's validation."""
    spatial_crops: int | None = None
    """Crops of each clip: 1 (centre) or 3 (along the longer side); none: as the run's
    validation."""
    batch_size: int = 8
    """Clips scored at once; it changes no result."""
    num_workers: int | Literal["auto"] = "auto"
    """Decoding processes; 0: none. auto: the CPUs less one, at most 8."""
    segments: bool = False
    """Slide a window over each video and tell what happens when: segments with start, end, class
    and confidence, and a timeline picture."""
    window: float | None = None
    """Seconds of video that one window looks at; none: what a clip of the model spans, and with
    sampling uniform, whose clips span whole videos, the median length of the training videos."""
    stride: float | None = None
    """Seconds from one window to the next; none: half a window, and a quarter for files where the
    model's sampling is uniform."""
    smoothing: float | None = None
    """Seconds over which the windows' probabilities are averaged before segments are cut; 0: not
    at all; none: one window."""
    annotate: bool = False
    """Write a copy of each video with the class and its probability in the picture."""
    output: Path = Path("predictions")
    """Folder for what --segments and --annotate write, made if need be."""
    seconds: float | None = None
    """Stop a live source after this many seconds; none: at Ctrl-C or when it ends."""
    timeout: float = 10.0
    """Seconds that a live source may take to open, or be silent, before it is given up."""

    def check(self) -> None:
        """Raise UserError for settings that cannot be."""
        check_views(self.temporal_views, self.spatial_crops)
        for flag in ("top_k", "batch_size", "timeout", "window", "stride", "seconds"):
            value = getattr(self, flag)
            right = value is None or 0 < value < float("inf")
            require(right, flag.replace("_", "-"), value, ABOVE_0)
        if self.smoothing is not None:
            right = 0 <= self.smoothing < float("inf")
            require(right, "smoothing", self.smoothing, NOT_BELOW_0)
        if isinstance(self.num_workers, int):
            most = MOST["data.num-workers"]
            right = 0 <= self.num_workers <= most
            require(right, "num-workers", self.num_workers, f"{NOT_BELOW_0}, up to {most}")


@dataclass(frozen=True)
class Export:
    """Write a run's best model as one file for other programs, and check it against the original.

    RUN is a run's folder, or its models folder alone. The file takes one tensor, "video" (B, 3, T,
    H, W), any B; normalisation and the split into pathways are inside, and so are the classes and
    the sampling, as metadata.
    """

    format: Literal["onnx", "pt2", "safetensors"] = "onnx"
    """onnx: for onnxruntime and other engines; pt2: torch.export's, which loads with torch alone;
    safetensors: the weights with the description, for slowfast_dist."""
    output: Path | None = None
    """The file to write; none: best_model.FORMAT beside the run's best model."""
    input_type: Literal["uint8", "float32"] = "uint8"
    """uint8: pixel values 0..255; float32: the same divided by 255."""
    data: Path | None = None
    """Videos on which the file is compared with the original: a video, or a folder of videos;
    none: the run's own validation videos where they are still there, else random frames."""
    tolerance: float = 1e-4
    """Largest difference of a probability or logit that passes."""

    def check(self) -> None:
        """Raise UserError for settings that cannot be."""
        right = 0 < self.tolerance < float("inf")
        require(right, "tolerance", self.tolerance, ABOVE_0)


@dataclass(frozen=True)
class Report:
    """Write one HTML page about a run, or one that compares several.

    A RUN is a run's folder. The page needs no network: it can be mailed as it is.
    """

    output: Path | None = None
    """The file to write; none: report.html in the run's folder, or comparison.html in the current
    one for several runs."""
    hardest: int = 12
    """Videos shown among those that the model got most wrong."""

    def check(self) -> None:
        """Raise UserError for settings that cannot be."""
        require(0 <= self.hardest <= 1000, "hardest", self.hardest, "give a number from 0 to 1000")


@dataclass(frozen=True)
class ModelCard:
    """Write the model card of a run's best model, models/README.md, and upload it if asked to.

    RUN is a run's folder, or its models folder alone. A training writes the card, too; one that was
    changed by hand is kept and only uploaded.
    """

    push_to_hub: str | None = None
    """Upload the models folder to this repository (USER/NAME) of the Hugging Face hub, made if need
    be; needs pip install '.[hub]' and a login (hf auth login, or HF_TOKEN)."""
    private: bool = True
    """Whether a repository that is made here is private."""
    overwrite: bool = False
    """Write a new card also where the one that is there was changed by hand."""

    def check(self) -> None:
        """Raise UserError for settings that cannot be."""
        name = self.push_to_hub
        if name is not None and len(name.split("/")) != 2:
            raise UserError(f"--push-to-hub {name}: give USER/NAME")


@dataclass(frozen=True)
class Serve:
    """Show a run's best model in the browser: drop a video, see what it says.

    RUN is a run's folder, or its models folder alone. Needs pip install '.[demo]'.
    """

    port: int = 7860
    """Port to listen on; 0: any free one."""
    host: str = "127.0.0.1"
    """Address to listen on: this machine alone. There is no login: give another one only behind
    something that has."""
    max_megabytes: float = 200.0
    """Largest video taken."""
    max_seconds: float = 600.0
    """Longest video taken, in seconds of its playing time."""
    time_limit: float = 120.0
    """Seconds that the work on one video may take."""
    backend: Backend = "torch"
    """As --backend of predict."""
    mixed_precision: Precision = "auto"
    """auto: what the hardware has; backend torch only."""

    def check(self) -> None:
        """Raise UserError for settings that cannot be."""
        require(0 <= self.port <= 65535, "port", self.port, "give a number from 0 to 65535")
        for flag in ("max_megabytes", "max_seconds", "time_limit"):
            value = getattr(self, flag)
            right = 0 < value < float("inf")
            require(right, flag.replace("_", "-"), value, ABOVE_0)
