"""Types, bounds and help that several settings share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval, Le, Predicate
from typing_extensions import Doc

from slowfast_dist.config.checks import Remedy

MOST = 10**6
"""Largest count that a flag takes: a larger one is a slip of the keyboard, and would overflow."""

MOST_FLOAT32 = 3.4e38
"""The largest learning rate: float32, in which it is used, has none above it."""

MOST_AMOUNT = 10**9
"""Largest amount that is no count, as of seconds (30 years) or megabytes; more is a slip, and
overflows where it becomes a time."""

MOST_FRAMES = 4096
"""Frames of a clip at most; more is a slip, and brings the machine down."""

MOST_PIXELS = 4096
"""Pixels of a side of what the model sees, at most; more is a slip, and takes all memory."""

MOST_RATE = 1000
"""Frames a second of a clip at most; more is a slip: no camera takes so many for so long."""

MOST_SHORT_SIDE = 8192
"""Pixels of the short side at most; more is a slip, and takes all memory."""

MOST_WORKERS = 512
"""Loader processes of one training process at most; more is a slip, and takes all memory."""

MOST_VIEWS = 1000
"""Clips of one video that are scored, at most; more is a slip, as videos have no more to show."""

MOST_SEED = 2**32 - 1
"""Largest seed: NumPy takes 32 bits."""

MOST_FOLDS = 1000
"""Parts of a cross-validation at most, each a training of its own: more is a slip."""

USUAL_FOLDS = 5
"""Folds of ``cross-validate`` where it is given no number: the usual one of few videos, where each
model still has 80 % of them."""

FINAL = "final"
"""In place of the number of a fold: the training on all that is in any fold, which is scored on the
rows of split test."""

METRICS = (
    "loss", "accuracy", "top5_accuracy", "precision_macro", "recall_macro", "f1_macro",
    "precision_macro_all_classes", "recall_macro_all_classes", "f1_macro_all_classes",
    "precision_weighted", "recall_weighted", "f1_weighted", "map_macro", "map_micro", "f1_micro",
)  # fmt: skip
"""Names below train/ and val/ in metrics.jsonl."""

OF_ONE_LABEL = ("top5_accuracy",)
OF_SEVERAL_LABELS = ("map_macro", "map_micro", "f1_micro")
"""Those of them that are there only with --loss.name ce, and only with bce."""

Count = Annotated[int, Gt(0), Le(MOST)]
Positive = Count
NotNegative = Annotated[float, Ge(0), Le(MOST_AMOUNT)]
PositiveFloat = Annotated[float, Gt(0), Le(MOST_AMOUNT)]
LearningRate = Annotated[float, Gt(0), Le(MOST_FLOAT32)]
BelowOne = Annotated[float, Interval(ge=0, lt=1)]
Share = Annotated[float, Interval(gt=0, lt=1)]
Confidence = Annotated[float, Interval(ge=0, le=1)]
Recall = Annotated[float, Interval(ge=0, le=1)]
ListLength = Annotated[int, Interval(ge=0, le=MOST)]

ClipRate = Annotated[float | Literal["video"], Gt(0), Le(MOST_RATE)]

ModelName = Literal[
    "slowfast_r50", "slowfast_r50_4x16", "slowfast_r101", "slowfast_16x8_r101_50_50",
    "slowfast_tiny",
]  # fmt: skip
DataSet = Literal["kinetics400", "ssv2", "charades"]
"""Of the published weights."""

Pretrained = Literal["none", "kinetics400", "ssv2", "charades"]
OptimizerName = Literal["adam", "adamw", "sgd"]
Precision = Literal["auto", "no", "bf16", "fp16"]
Backend = Literal["auto", "torch", "openvino", "onnx", "pt2"]
ReviewOrder = Literal["hardest", "wrong", "suggested", "path"]
Format = Literal["onnx", "pt2", "safetensors", "openvino"]
AnnotationFormat = Literal[
    "boris", "elan", "cvat", "label-studio", "via", "fiftyone", "videofolder", "kinetics",
    "activitynet", "epic-kitchens", "charades", "ssv2", "ucf101", "hmdb51", "pyslowfast",
    "mmaction2", "createml", "csv",
]  # fmt: skip
SegmentFormat = Literal["boris", "elan", "label-studio", "via", "csv"]


def is_even_from_16(side: int) -> bool:
    """Whether encoders take a picture of this many pixels a side."""
    return 16 <= side <= MOST_SHORT_SIDE and side % 2 == 0


def as_training(flag: str, more: str = "") -> Doc:
    """Help of a flag that means what ``flag`` of the training does."""
    return Doc(f"As --{flag} of the training{more}.")


LaunchPrecision = Annotated[
    Precision, Doc("auto: what accelerate launch was told, else what the hardware has.")
]
BackendPrecision = Annotated[
    Precision, Doc("auto: what the hardware has; onnx and pt2 compute in float32.")
]

OwnPrecision = Annotated[Precision, Doc("auto: what the hardware has.")]

CsvStart = Annotated[
    Path | None,
    Doc(
        "Folder from which relative paths of a CSV start, and below which videos of another tool's "
        "file are looked for; none: the file's own, and for split.csv of a run the videos of that "
        "run."
    ),
]

SpatialCrops = Annotated[int, Predicate((1, 3).__contains__), Remedy("give 1 or 3")]
TemporalViews = Annotated[int, Interval(ge=1, le=MOST_VIEWS)]
RunsCrops = Annotated[
    SpatialCrops | None,
    Doc(
        "Crops of each clip: 1 (centre) or 3 (along the longer side); none: as the run's "
        "validation."
    ),
]

ImageRate = Annotated[float | None, Gt(0), Le(MOST_RATE)]
"""Images a second of a folder of numbered images."""
RunsImageRate = Annotated[ImageRate, as_training("data.image-fps", "; none: as the run's own")]

MOST_BOX = 8192
"""Pixels of a region of interest's place and sides at most: those of the largest pictures."""

CropBox = Annotated[
    tuple[float, float, float, float] | None, Interval(ge=0, le=MOST_BOX),
    Remedy("give x y w h, four numbers from 0 on, in pixels or as fractions of the picture"),
]
"""A region of interest."""
RunsCropBox = Annotated[
    CropBox,
    Doc(
        "Region of interest x y w h of every video, in place of the run's own; none: the run's "
        "own."
    ),
]

def is_fraction(box: Sequence[float]) -> bool:
    """Whether a box counts in fractions of the picture: none of its numbers is above 1."""
    return max(box) <= 1 and min(box) >= -1


PixelAspect = Literal["square", "stored"]
ShortVideos = Literal["repeat-last", "loop"]

LoaderWorkers = Annotated[
    int | Literal["auto"],
    Interval(ge=0, le=MOST_WORKERS),
    Remedy(f"give 0 or a number above it, up to {MOST_WORKERS}"),
]
FileWorkers = Annotated[
    LoaderWorkers, Doc("Decoding processes; 0: none. auto: the CPUs less one, at most 8.")
]
ReaderProcesses = Annotated[
    int | Literal["auto"], Gt(0), Remedy("give a number above 0, or auto"), Le(MOST_WORKERS)
]

FrozenStages = Annotated[
    int | Literal["none", "backbone", "auto"],
    Interval(ge=1, le=5),
    Remedy("give none, backbone, auto, or a number of stages from 1 to 5"),
]

Monitor = Annotated[
    str,
    Predicate([f"{side}/{name}" for side in ("train", "val") for name in METRICS].__contains__),
    Remedy(f"give train/ or val/ and one of {', '.join(METRICS)}"),
]

CsvSafe = Annotated[
    bool,
    Doc(
        "In CSV files put an apostrophe before names that begin with = + - @ or a tab, which a "
        "spreadsheet would compute. Programs then see other names."
    ),
]

LateWandb = Annotated[
    Literal["auto", "online", "offline", "disabled"],
    Doc(
        "Add the result to the run's own run on wandb. auto: as the training was logged there, and "
        "nothing where it was not; online, offline: in that way; disabled: nothing. Names of files "
        "go up only where the training had --wandb.hardest."
    ),
]
JsonResults = Annotated[bool, Doc("Print the results as one JSON object, in the last line.")]
