"""Which videos, and how clips are cut out of them: the settings under --data."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval, Le, MultipleOf, Predicate

from slowfast_dist.config import fields
from slowfast_dist.config.checks import Remedy, require
from slowfast_dist.config.errors import UserError

RESNET_ALPHA = 4
"""Fast frames per slow frame of most networks; SlowFast 4x16, which has 8, and those of weights are
checked once they are known."""


MOST_CACHE = "1000TB"
"""Largest size of a cache: more is a slip of the keyboard, as no machine has it."""

_UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12}


def cache_bytes(size: str) -> int | None:
    """Of a size such as 4GB or 1.5TB; None for what is none."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) ?(MB|GB|TB)", size, re.ASCII | re.IGNORECASE)
    return round(float(found[1]) * _UNITS[found[2].upper()]) if found else None


def _is_cache_size(cache: str) -> bool:
    most = cache_bytes(MOST_CACHE)
    assert most is not None
    return cache in ("auto", "off") or 0 < (cache_bytes(cache) or 0) <= most


CacheSize = Annotated[
    str, Predicate(_is_cache_size), Remedy(f"give auto, off, or a size up to {MOST_CACHE}, as 4GB")
]


def check_box(box: tuple[float, ...] | None, flag: str) -> None:
    """Raise UserError for a region of interest without any pixel."""
    if box is not None:
        shown = " ".join(f"{number:g}" for number in box)
        remedy = "give x y w h, the width w and the height h above 0"
        require(min(box[2:]) > 0, flag, shown, remedy)


@dataclass(frozen=True)
class DataConfig:
    root: Path | None = None
    """One folder of class folders, or a CSV or .jsonl of path,label and perhaps start,end (seconds)
    of a part of a video, or a file that ``import`` knows; split into training and validation, by
    its column split if it has one."""
    train_dir: Path | None = None
    """Training videos (class folders or a CSV), together with --data.val-dir, in place of root."""
    val_dir: Path | None = None
    """Validation videos, of classes that --data.train-dir has."""
    videos: Path | None = None
    """Folder from which relative paths of a CSV start, and below which the videos of another tool's
    file are looked for; none: the file's own, and for split.csv of a run the videos of that run."""
    image_fps: fields.ImageRate = None
    """Images a second of folders of numbered images (jpg, png), each of which is a video, that have
    no fps.txt; none: every such folder has one."""
    synthetic: bool = False
    """Make the demo's small videos in --data.root if that folder does not exist yet."""
    val_fraction: Annotated[
        float, Interval(gt=0, lt=1), Remedy("give a number between 0 and 1, as 0.2")
    ] = 0.2
    """Share of the videos of --data.root that is kept for validation, class by class."""
    train_fraction: Annotated[
        float, Interval(gt=0, le=1), Remedy("give a number above 0, at most 1")
    ] = 1.0
    """Share of the training videos of --data.root, by their groups, that is trained on: what fewer
    videos would give. Validation stays as it is; a smaller share is a part of a larger one."""
    group_pattern: str | None = None
    """Regular expression searched in each path below the root, e.g. 'seq\\d+'.
    Videos with the same captured parts (or whole match) stay on one side of the split."""
    num_frames: Annotated[
        int, Gt(0), Le(fields.MOST_FRAMES), MultipleOf(RESNET_ALPHA),
        Remedy(f"give a multiple of {RESNET_ALPHA}, as the slow pathway takes every fourth frame"),
    ] = 32  # fmt: skip
    """Frames of a clip, as the fast pathway sees it; a multiple of 4."""
    sampling_rate: fields.Count = 2
    """Frames of the video from one sampled frame to the next (dense sampling only)."""
    frame_rate: fields.ClipRate = "video"
    """Frames a second in which sampling_rate counts (dense sampling only): of the video, each has
    its own; or a number: of any video those frames are taken that are nearest in time, so that
    clips last equally long. Kinetics' pretrained networks saw 30."""
    sampling: Literal["dense", "uniform"] = "dense"
    """dense: num_frames at sampling_rate, random start in training, centre in validation.
    uniform: num_frames spread evenly over the whole video."""
    short_videos: fields.ShortVideos = "repeat-last"
    """Where a clip goes beyond the end of a video: repeat-last shows the last frame again, loop
    begins again with the first frame, as MMAction2's networks were trained."""
    short_segments: Literal["repeat", "context"] = "repeat"
    """What a clip of a segment shorter than it shows: repeat: the segment's frames, then its last
    one again, as of a short video; context: the frames around the segment, too."""
    background: str | None = None
    """Name of a class of its own for what lies between the segments of annotated videos; none: no
    such class. As many clips as the median class has, drawn anew in each epoch. Rows of that name,
    if the list has any, say where it is in their files, also in those without segments."""
    background_share: fields.Share | None = None
    """Share of all training clips that are background; none: as many as the median class."""
    margin: fields.NotNegative = 0.5
    """Seconds around each segment that are not background, as people place its ends no better."""
    ways: bool = False
    """Learn, in place of classes, in which way each clip is shown: backwards, at half speed,
    shuffled, moving left and others. --data.root is then a folder of any videos, with all below it;
    no labels are looked at. The command pretrain is a training with it."""
    short_side: tuple[int, int] = (256, 320)
    """Pixels of the short side before the crop, for resize short-side only.
    Training draws between the two, validation takes the smaller one."""
    crop_size: Annotated[int, Gt(0), Le(fields.MOST_PIXELS)] = 224
    """Height and width of what the model sees, in pixels."""
    resize: Literal["short-side", "square", "pad"] = "short-side"
    """short-side: keep the aspect ratio, then crop.
    square: squeeze the whole frame to crop_size.
    pad: the whole frame in crop_size, its aspect ratio kept, with black borders."""
    crop_box: fields.CropBox = None
    """Region of interest x y w h of every video, cut out before it is resized: pixels of the
    picture as it is shown, or, where none is above 1, fractions of it. Rows of a list with columns
    x,y,w,h have their own. none: the whole picture."""
    pixel_aspect: fields.PixelAspect = "square"
    """square: pixels that a file says are wider or higher than square are shown as a player does.
    stored: they are taken as square, as before this flag; for models that were trained so.
    It matters for resize short-side and pad."""
    flip: bool = True
    """Mirror half of the training clips; where left and right are different classes switch it off,
    or give flip_pairs."""
    flip_pairs: tuple[str, ...] = ()
    """Pairs of classes that a mirror swaps, as left:right; a mirrored clip of one gets the label of
    the other."""
    class_sampling: Literal["natural", "sqrt", "balanced"] = "natural"
    """How often an epoch shows each class. natural: each training clip once. balanced: all classes
    alike; sqrt: each as the square root of its number of clips. An epoch stays as long: clips of
    rare classes come more than once, each time cut anew, and some of frequent ones not at all."""
    num_workers: Annotated[int | Literal["auto"], Ge(0), Le(fields.MOST_WORKERS)] = "auto"
    """Decoding processes of each training process; 0: none.
    auto: the CPUs shared out, at most 8."""
    decoder: Literal["auto", "decord", "pyav"] = "auto"
    """auto, pyav: PyAV, which gives the right frames of every file, 1.4 to 2.9 times as fast as
    Decord ('benchmark loader'). decord: Decord, with its FFmpeg of 2018, for files that the probe
    found sound and of plain order, and PyAV for the others."""
    cache: CacheSize = "auto"
    """Decoded frames that are kept for the epochs to come, shared by all processes on a host: at
    most a size, as 500MB or 4GB; off: none. auto: what the clips of videos show where the epochs
    pay for it, at most a fifth of the free memory, or half of what is free on --data.cache-dir."""
    cache_dir: Path | None = None
    """Folder on a local disk where frames are kept, in place of memory; none stays there."""
    max_bad_fraction: Annotated[float, Interval(ge=0, le=1)] = 0.05
    """Stop when more than this share of the training videos failed to decode during training."""

    def check(self) -> None:
        """Raise UserError for sources, a pattern, or sizes that do not go together."""
        given = self.train_dir or self.val_dir
        if self.root is not None:
            remedy = "give either --data.root, or --data.train-dir with --data.val-dir, not both"
            require(given is None, "data.root", self.root, remedy)
        elif given is None:
            raise UserError(
                "no videos given: add --data.root FOLDER (class folders of videos), or try "
                "'python train.py demo', which makes its own"
            )
        elif None in (self.train_dir, self.val_dir):
            missing = "val-dir" if self.val_dir is None else "train-dir"
            raise UserError(
                f"--data.{missing} is missing beside {given}: give both, or one --data.root"
            )
        if self.root is None:
            remedy = "it is a share of --data.root; leave it out"
            require(self.train_fraction == 1, "data.train-fraction", self.train_fraction, remedy)
        try:
            re.compile(self.group_pattern or "")
        except (re.error, OverflowError, RecursionError) as error:
            raise UserError(
                f"--data.group-pattern {self.group_pattern}: no regular expression ({error}): "
                "give one, as 'seq\\d+'"
            ) from None
        name, remedy = self.background, "goes with --data.background NAME: add it"
        require(name != "", "data.background", "''", "give the class a name")
        share = self.background_share
        require(share is None or name is not None, "data.background-share", share, remedy)
        for pair in self.flip_pairs:
            remedy = "give two classes with a colon between, as left:right"
            require(":" in pair.strip(":"), "data.flip-pairs", pair, remedy)
            remedy = "with --data.flip false no clip is mirrored: leave one of the two out"
            require(self.flip, "data.flip-pairs", pair, remedy)
        self.check_sizes()

    def check_sizes(self) -> None:
        """Raise UserError for sizes that do not go together."""
        check_box(self.crop_box, "data.crop-box")
        low, high = self.short_side
        sides = f"{low} {high}"
        require(0 < low <= high, "data.short-side", sides, "give two sizes, smaller first")
        right = high <= fields.MOST_SHORT_SIDE
        require(right, "data.short-side", sides, f"give at most {fields.MOST_SHORT_SIDE}")
        if self.resize == "short-side":
            remedy = f"give at most the short side, --data.short-side {sides}"
            require(self.crop_size <= low, "data.crop-size", self.crop_size, remedy)
