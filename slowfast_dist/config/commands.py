"""The settings of the commands beside ``train`` and ``benchmark``: field names are the flags.

The text under a field is its help on the command line. No torch here, so that ``--help`` is fast.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Gt, Interval, Le, Predicate

from slowfast_dist.config import fields
from slowfast_dist.config.augment import AugmentConfig
from slowfast_dist.config.checks import Remedy, require
from slowfast_dist.config.fields import as_training, is_even_from_16
from slowfast_dist.config.report import EXPLAIN, EXPLAIN_SECONDS, Explain, ExplainSeconds

_Frames = Annotated[int, Interval(ge=1, le=fields.MOST_FRAMES)]
_Rate = Annotated[int, Interval(ge=1, le=fields.MOST)]
_Pixels = Annotated[int, Interval(ge=1, le=fields.MOST_PIXELS)]


@dataclass(frozen=True)
class CheckData:
    """Report what is wrong with a dataset before hours are spent on it."""

    val_dir: Path | None = None
    """Validation videos, where you made the split yourself and DIR holds the training videos."""
    videos: fields.CsvStart = None
    image_fps: Annotated[fields.ImageRate, as_training("data.image-fps")] = None
    val_fraction: Annotated[float, Interval(gt=0, lt=1)] = 0.2
    """As --data.val-fraction of the training: its split is the one that is checked."""
    group_pattern: Annotated[str | None, as_training("data.group-pattern")] = None
    seed: Annotated[int, Interval(ge=0, le=fields.MOST_SEED), as_training("seed")] = 0
    num_frames: Annotated[_Frames, as_training("data.num-frames")] = 32
    sampling_rate: Annotated[_Rate, as_training("data.sampling-rate")] = 2
    frame_rate: Annotated[
        fields.ClipRate, as_training("data.frame-rate", "; as the preset finetune")
    ] = 30.0
    crop_size: Annotated[_Pixels, as_training("data.crop-size")] = 224
    crop_box: Annotated[fields.CropBox, as_training("data.crop-box")] = None
    pixel_aspect: Annotated[fields.PixelAspect, as_training("data.pixel-aspect")] = "square"
    flip: Annotated[bool, as_training("data.flip")] = True
    flip_pairs: Annotated[tuple[str, ...], as_training("data.flip-pairs")] = ()
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    background: Annotated[str | None, as_training("data.background")] = None
    margin: Annotated[fields.NotNegative, as_training("data.margin")] = 0.5
    full: bool = False
    """Decode every frame of every video: finds damage in the middle of a file, in minutes or hours
    where the usual check takes seconds."""
    json: Path | None = None
    """Also write the report to this file, for programs."""
    preview: Path | None = None
    """Also write this page, HTML: six clips of each class that play, cut, cropped, mirrored and
    varied as the training does; of many classes fewer and smaller ones, as it stays below 10 MB."""
    run: Path | None = None
    """With --preview: a run, whose training the clips are cut, resized and mirrored as; none: by
    the flags here, and otherwise by a training's defaults."""
    move_bad: Path | None = None
    """Move the videos that cannot be read to this folder, each to where it was below DIR (with
    --val-dir: below train and val). Nothing is overwritten, and no CSV is changed."""
    num_workers: fields.ReaderProcesses = "auto"
    """Processes that read files at once; auto: one a CPU."""

    def check(self) -> None:
        """Raise UserError for an augmentation that no clip alone shows."""
        for name in ("mixup", "cutmix"):
            alpha = getattr(self.augment, name)
            remedy = "mixes clips of a batch, which are not shown: leave it out"
            require(alpha == 0, f"augment.{name}", alpha, remedy)


@dataclass(frozen=True)
class Prepare:
    """Rewrite a dataset once for fast loading; the originals are not touched."""

    short_side: Annotated[
        int, Predicate(is_even_from_16), Remedy("give an even number from 16 on")
    ] = 256
    """Pixels of the short side; videos with a smaller one keep their size (made even). Evaluation
    looks at 256; training (--data.short-side) enlarges up to 1.25 times beyond that, for which 320
    keeps all detail. Measured on videos of 432 to 1080 lines: 256, 288, 320 and 360 take 25, 31, 33
    and 40 ms of CPU time a clip, and .6, .7, .8 and 1.0 MB for 10 s."""
    pixel_aspect: fields.PixelAspect = "square"
    """square: where a video's pixels are not, its copy is made as wide as a player shows it.
    stored: it keeps the stored picture's shape, and says of what shape its pixels are."""
    num_workers: fields.ReaderProcesses = "auto"
    """Processes that transcode at once; auto: one a CPU."""
    videos: fields.CsvStart = None
    image_fps: Annotated[fields.ImageRate, as_training("data.image-fps")] = None


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


@dataclass(frozen=True)
class Import:
    """Make one CSV of path,label,start,end from the annotations of other tools and datasets.

    A FILE is an export or project of BORIS, ELAN, CVAT, Label Studio, VIA or FiftyOne, a list of a
    public dataset, or any table with columns for video and label. What is left out or changed is
    counted, and listed in a file beside the output.
    """

    videos: Path | None = None
    """Folder below which the videos lie that the files name, whatever paths they have there; none:
    the first FILE's own."""
    output: Path = Path("annotations.csv")
    """The file to write: CSV, or JSON lines where it ends in .jsonl; what is left out goes to
    annotations.dropped.csv beside it."""
    overwrite: bool = False
    """Replace the output where it exists."""
    format: fields.AnnotationFormat | None = None
    """What the files are; none: found by looking into them."""
    tier: tuple[str, ...] = ()
    """What holds the labels, where a file has several: tiers (ELAN), attributes (VIA, CVAT), names
    of controls (Label Studio), fields (FiftyOne), columns (tables, EPIC-KITCHENS)."""
    classes: Path | None = None
    """Names of classes for the numbers or codes in the files: a text with a line each (NAME,
    NUMBER NAME or NAME,NUMBER), or JSON: a list of names, names by number, or numbers by name."""
    subject: tuple[str, ...] = ()
    """Take the rows of these subjects alone; none given: all."""
    subject_as: Literal["column", "label"] = "column"
    """column: subjects go to a column of their own; label: they become part of the class, as
    "subject label"."""
    point_seconds: fields.PositiveFloat | None = None
    """Make of each event without length a segment of so many seconds around it; none: such events
    are left out."""
    frame_rate: fields.PositiveFloat | None = None
    """Frames a second in which the files' numbers of frames count (Label Studio: frameRate of its
    <Video>); none: the video's own frames, in Label Studio what the file tells, else 24."""
    frame_base: Annotated[int | None, Interval(ge=0, le=1)] = None
    """Number of a video's first frame, 0 or 1; none: as the format has it."""
    frame_end: Literal["inclusive", "exclusive"] | None = None
    """Whether a segment's last frame belongs to it; none: as the format has it."""
    image_fps: Annotated[fields.ImageRate, as_training("data.image-fps")] = None
    times: Literal["auto", "seconds", "frames"] = "auto"
    """What start and end of a table count; auto: seconds, frames where the columns are so named."""
    decimal_comma: bool = False
    """Numbers have a comma in place of the decimal point."""


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


@dataclass(frozen=True)
class Export:
    """Write a run's best model as one file for other programs, and check it against the original.

    RUN is a run's folder, or its models folder alone. The file takes one tensor, "video" (B, 3, T,
    H, W), any B (of --int8 1); normalisation and the split into pathways are inside, and so are the
    classes and the sampling, as metadata.
    """

    format: fields.Format = "onnx"
    """onnx: for onnxruntime and other engines; pt2: torch.export's, which loads with torch alone;
    safetensors: the weights with the description, for slowfast_dist; openvino: an .xml and a .bin
    for CPUs, in float32."""
    output: Path | None = None
    """The file to write; none: best_model.FORMAT beside the run's best model."""
    input_type: Literal["uint8", "float32"] = "uint8"
    """uint8: pixel values 0..255; float32: the same divided by 255."""
    data: Path | None = None
    """Videos on which the file is compared with the original: a video, or a folder of videos;
    none: the run's own validation videos where they are still there, else random frames."""
    tolerance: fields.PositiveFloat | None = None
    """Largest difference of a probability or logit that passes; none: 1e-4. With --int8 of a
    probability alone; none: 0.1."""
    int8: bool = False
    """With --format openvino: compute in 8-bit integers, calibrated on the run's own training clips
    and compared on its validation clips; layers that lose too much stay in float."""


@dataclass(frozen=True)
class Report:
    """Write one HTML page about a run, or one that compares several.

    A RUN is a run's folder. The page needs no network: it can be mailed as it is.
    """

    output: Path | None = None
    """The file to write; none: report.html in the run's folder, or comparison.html in the current
    one for several runs."""
    hardest: Annotated[int, Interval(ge=0, le=1000)] = 12
    """Videos shown among those that the model got most wrong; 0: of none a picture."""
    explain: Explain = EXPLAIN
    """Of the first so many of them, draw where and when the best model saw its class, where that is
    not done yet; 0: of none."""
    explain_seconds: ExplainSeconds = EXPLAIN_SECONDS
    """Seconds that these maps may take; the next report draws more of them."""
    videos: Path | None = None
    """Folder of the videos of which stills are shown, as for a run whose data has moved, or whose
    CSV names files elsewhere; none: the one that the run names. No other file is opened."""


def _is_user_and_name(repository: str) -> bool:
    return len(repository.split("/")) == 2


@dataclass(frozen=True)
class ModelCard:
    """Write the model card of a run's best model, models/README.md, and upload it if asked to.

    RUN is a run's folder, or its models folder alone. A training writes the card, too; one that was
    changed by hand is kept and only uploaded.
    """

    push_to_hub: Annotated[str | None, Predicate(_is_user_and_name), Remedy("give USER/NAME")] = (
        None
    )
    """Upload the models folder to this repository (USER/NAME) of the Hugging Face hub, made if need
    be; needs pip install '.[hub]' and a login (hf auth login, or HF_TOKEN)."""
    private: bool = True
    """Whether a repository that is made here is private."""
    overwrite: bool = False
    """Write a new card also where the one that is there was changed by hand."""


_TOKEN_REMEDY = "give auto, or 16 to 256 of A to Z, a to z, 0 to 9, - and _ that nobody guesses"


def _is_token(token: str | None) -> bool:
    return token in (None, "auto") or re.fullmatch(r"[\w-]{16,256}", token or "", re.A) is not None


@dataclass(frozen=True)
class Serve:
    """Show a run's best model in the browser: drop a video, see what it says.

    RUN is a run's folder, or its models folder alone. Needs pip install '.[demo]'.
    """

    port: Annotated[int, Interval(ge=0, le=65535)] = 7860
    """Port to listen on; 0: any free one."""
    host: str = "127.0.0.1"
    """Address to listen on: this machine alone. Another one asks for --token, or for --no-token;
    nothing is encrypted."""
    token: Annotated[str | None, Predicate(_is_token), Remedy(_TOKEN_REMEDY)] = None
    """What visitors have to show, once in a browser, or as Authorization: Bearer. auto: a new one,
    printed with the address; give that, as other users of this machine see command lines."""
    no_token: bool = False
    """Let in whoever reaches --host."""
    max_megabytes: fields.PositiveFloat = 200.0
    """Largest video taken."""
    max_seconds: fields.PositiveFloat = 600.0
    """Longest video taken, in seconds of its playing time."""
    time_limit: fields.PositiveFloat = 120.0
    """Seconds that the work on one video may take."""
    backend: fields.Backend = "auto"
    """As --backend of predict."""
    mixed_precision: fields.BackendPrecision = "auto"


@dataclass(frozen=True)
class Review:
    """Mend labels in the browser: videos play one after the other, keys set the label and cut.

    RUN is a run's folder, that of a cross-validation, a list of path,label,start,end, or a folder
    of videos. Nothing of it is changed. Needs pip install '.[demo]'.
    """

    list: Path | None = None
    """What is reviewed in place of the run's own videos, with the run's classes: a list of
    path,label and perhaps start, end, suggested, probability and reason, the lines that predict
    --json printed, or a folder of videos."""
    videos: Path | None = None
    """Folder from which relative paths start; none: the list's own, and of a run that of its
    videos."""
    order: fields.ReviewOrder | None = None
    """hardest: the least probable labels first; wrong: those alone of which the model says another
    class, the surest first; suggested: as the list has them; path; none: what the list or run
    tells most of."""
    output: Path = Path("annotations.csv")
    """The list to write, for --data.root of a training; each answer is in it at once. Beside it
    annotations.journal.jsonl keeps all answers: the same command goes on where it ended."""
    class_folders: bool = False
    """A folder of videos is one of class folders, as for a training; else its videos have no
    label yet."""
    port: Annotated[int, Interval(ge=0, le=65535)] = 7861
    """Port to listen on; 0: any free one."""
    host: str = "127.0.0.1"
    """Address to listen on: this machine alone. Another one, as for a phone, asks for --token;
    nothing is encrypted."""
    token: Annotated[str | None, Predicate(_is_token), Remedy(_TOKEN_REMEDY)] = None
    """As --token of serve."""
