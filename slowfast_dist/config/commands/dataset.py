"""The settings of ``check-data``, ``prepare`` and ``import``, which see to videos and their labels:
field names are the flags, the text below is their help.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Interval, Predicate

from slowfast_dist.config import fields
from slowfast_dist.config.augment import AugmentConfig
from slowfast_dist.config.checks import Remedy, require
from slowfast_dist.config.fields import as_training, is_even_from_16

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
