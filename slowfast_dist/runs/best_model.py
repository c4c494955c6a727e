"""models/best_model.json and the weights beside it: all that an evaluation or prediction needs.

torch is imported where weights are read or written: an exported file answers without it.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.annotations.labels import swap_table
from slowfast_dist.config.checks import require
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.training import EvaluationConfig
from slowfast_dist.data.frame_rates import BY_TIMES, rate_notes, rates_as_words
from slowfast_dist.metrics.several import UNCHOSEN
from slowfast_dist.metrics.task import ONE_LABEL, OneLabel, SeveralLabels, Task
from slowfast_dist.runs.models.content import read_content
from slowfast_dist.runs.reading import MOST_BYTES, mapping, read_json
from slowfast_dist.system.described_file import (
    ReplacedMeanwhile,
    find_described,
    read_described,
)
from slowfast_dist.system.messages import sendable
from slowfast_dist.system.parsing import parse_json
from slowfast_dist.video.pictures import PictureCounts, picture_notes
from slowfast_dist.video.views import Box, reads_stored

if TYPE_CHECKING:
    from torch import Tensor

    from slowfast_dist.model.slowfast import SlowFast

DESCRIPTION = "best_model.json"
"""In models/: all that rebuilds the best model and feeds it."""

WEIGHTS = "best_model_weights.pth"
"""In models/: its state_dict."""

ARCHITECTURE = "best_model_architecture.pth"
"""In models/: the whole model, pickled."""


def clip_facts(data: DataConfig) -> dict[str, Any]:
    """How a clip is cut out of a video, in JSON's types."""
    return {
        "num_frames": data.num_frames, "sampling": data.sampling,
        "sampling_rate": data.sampling_rate, "frame_rate": data.frame_rate, "resize": data.resize,
        "short_side": data.short_side[0], "crop_size": data.crop_size,
        "pixel_aspect": data.pixel_aspect, "short_videos": data.short_videos,
        "short_segments": data.short_segments,
        "crop_box": None if data.crop_box is None else list(data.crop_box),
    }  # fmt: skip


def describe_task(task: Task, classes: int) -> dict[str, Any]:
    """What the outputs mean, in JSON's types: "loss", and of several labels the "thresholds", which
    are one half where no validation has chosen them."""
    if not task.several:
        return {"loss": task.loss}
    return {"loss": task.loss, "thresholds": list(task.thresholds or (UNCHOSEN,) * classes)}


def describe_clips(data: DataConfig, evaluation: EvaluationConfig) -> dict[str, Any]:
    """How clips are cut and how many views are scored, in JSON's types."""
    views = {name: getattr(evaluation, name) for name in ("temporal_views", "spatial_crops")}
    views["flip_view"] = evaluation.flip
    return clip_facts(data) | views


for _settings in (DataConfig, EvaluationConfig, OneLabel, SeveralLabels):
    sendable(_settings)


@sendable
@dataclass(frozen=True)
class BestModel:
    """A run's best model, without its weights.

    ``folder`` holds the files; ``model`` is what `model.rebuild` takes; ``data`` and
    ``evaluation`` cut its clips and views as the run's validation did; ``epoch`` made it.
    """

    folder: Path
    classes: tuple[str, ...]
    model: dict[str, Any]
    data: DataConfig
    evaluation: EvaluationConfig
    epoch: int
    video_seconds: float | None = None
    """Median length of the training videos; None in what older versions wrote."""
    mixed_precision: str | None = None
    """In which it was trained and validated: no, bf16 or fp16; None where that is not known."""
    pictures: dict[str, int] | None = None
    """Of the training videos, as `PictureCounts.as_facts`; None in what older versions wrote."""
    video_rates: tuple[float, ...] = ()
    """Frames a second of the training videos, as `group_rates` has them; of older versions none."""
    weights_sha256: str | None = None
    """Of the file of its weights; None in what older versions wrote."""
    task: Task = ONE_LABEL
    """What its outputs mean; of several labels with the thresholds of its best epoch."""
    background: str | None = None
    """The class of what lies between segments (--data.background); None: there is no such class."""
    min_confidence: float = 0.0
    """Below it predict says unknown (--evaluation.unknown-recall)."""
    seed: int = 0
    """Of the training; 0 where it is not known."""
    temperature: float = 1.0
    """By which logits are divided, once a video's views are averaged (`metrics.calibration`); 1 in
    what older versions wrote, and of several labels a clip."""
    mirrored: bool = True
    """Whether the training mirrored clips; True where that is not known."""
    regions: int | None = None
    """Rows of the training with a region of interest of their own (x,y,w,h); None where no row has
    one, or that is not known."""

    @cached_property
    def swaps(self) -> NDArray[np.int64] | None:
        """(K,): the class that each becomes in a mirror (--data.flip-pairs of the training), so
        that column ``swaps[k]`` of a mirrored clip is class k; None: each stays itself."""
        return swap_table(self.data.flip_pairs, self.classes)

    def require_one_label(self, flag: str) -> None:
        """Raise UserError, naming ``flag``, where a clip may have several labels."""
        if self.task.several:
            raise UserError(
                f"{flag}: is for a model of one label a clip, and {self.folder} gives several "
                "(--loss.name bce): leave it out"
            )

    def views(
        self, temporal_views: int | None, spatial_crops: int | None, flip: bool | None = None
    ) -> EvaluationConfig:
        """The views of each video that are scored; None: as in the run's own validation.

        Raises UserError for several that would all be the same, and for mirrored ones of a model
        that learned of none.
        """
        own = self.evaluation
        clips = own.temporal_views if temporal_views is None else temporal_views
        crops = own.spatial_crops if spatial_crops is None else spatial_crops
        require(clips == 1 or self.data.sampling != "uniform", "temporal-views", clips,
                "the run samples uniform, where every clip is the whole video: give 1")  # fmt: skip
        resize = self.data.resize
        require(crops == 1 or resize == "short-side", "spatial-crops", crops,
                f"the run resizes {resize}, where every crop is the whole frame: give 1")
        remedy = "the model's training mirrored no clips (--data.flip false): leave it out"
        require(self.mirrored or not flip, "flip", True, remedy)
        return EvaluationConfig(clips, crops, own.flip if flip is None else flip)

    def looking_at(self, box: Box) -> "BestModel":
        """The same with another region of interest."""
        return replace(self, data=replace(self.data, crop_box=box))

    def picture_notes(self, counts: PictureCounts) -> list[str]:
        """What people should know of the pictures of videos that the model sees, a line each."""
        why = "as the model was trained (pixel-aspect stored)"
        return picture_notes(counts, why if reads_stored(self.data) else None, self.pictures)

    def region_notes(self, remedy: str) -> list[str]:
        """A line where the model looks at whole pictures but was trained on regions of interest
        that its list named row by row; it ends with the ``remedy``."""
        if not self.regions or self.data.crop_box is not None:
            return []
        return [
            f"the model was trained on regions of interest (x,y,w,h of {self.regions} training "
            f"rows), and here it sees the whole picture: {remedy}"
        ]

    def rate_notes(self, rates: NDArray[np.float64], name: Callable[[int], str]) -> list[str]:
        """As `clips.rate_notes`, of videos that the model sees."""
        whose = f"the training videos' {rates_as_words(self.video_rates or (0.0,))} a second"
        remedy = f"a training with {BY_TIMES}"
        return rate_notes(rates, name, self.data, self.video_rates, whose, remedy)

    def read_weights(self) -> "dict[str, Tensor]":
        """The state_dict that this describes, and that of no other epoch; see `read_described`."""
        return read_best_weights(self.folder, self.weights_sha256)

    def load(self) -> "SlowFast":
        """The network with its weights, on the CPU, in evaluation mode.

        Raises as `read_weights`, and UserError for weights that do not fit.
        """
        from slowfast_dist.model.slowfast import describe, rebuild_empty, take_over

        path = self.folder / WEIGHTS
        state = self.read_weights()
        network = rebuild_empty(self.model)
        # A newer version may have written what the network does besides.
        if unknown := sorted(self.model.keys() - describe(network).keys()):
            raise UserError(
                f"RUN {self.folder / DESCRIPTION}: this version does not know "
                f"{_shortened(unknown[0])} of a model: use the version of slowfast_dist that "
                "trained it"
            )
        try:
            take_over(network, state)
        except RuntimeError:
            raise UserError(
                f"RUN {path}: does not fit {DESCRIPTION} beside it: take both from one run"
            ) from None
        return network


def read_best(run: Path) -> BestModel:
    """The best model of a run's folder, or of its models/ folder alone.

    Raises UserError where there is none, or where its description is damaged.
    """
    models = _models(run)
    content = read_description(models)
    try:
        return BestModel(
            folder=models, weights_sha256=_sha256_of(content), **read_content(content)
        )
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else _shortened(str(error))
        raise _damaged(models, reason) from None


def load_best(run: Path) -> "tuple[BestModel, SlowFast]":
    """`read_best` and its network, of one epoch also while a training writes the next one."""
    while True:
        best = read_best(run)
        with suppress(ReplacedMeanwhile):
            return best, best.load()


def read_best_weights(models: Path, sha256: str | None) -> "dict[str, Tensor]":
    """The state_dict that best_model.json there, which names ``sha256``, is of."""
    from slowfast_dist.model.weights import read_state_dict

    if not (models / WEIGHTS).exists():
        raise UserError(
            f"RUN {models / WEIGHTS}: there is no such file: give another run, or take it from "
            "this one again; tune keeps the weights of its trials with --keep-weights alone"
        )
    now, read = partial(described_sha256, models), partial(read_state_dict, flag="RUN")
    return read_described(models / WEIGHTS, DESCRIPTION, sha256, now, read)


def find_best_weights(models: Path) -> Path:
    """The file of the weights that best_model.json there is of: see `find_described`."""
    from slowfast_dist.model.weights import read_state_dict

    now = partial(described_sha256, models)
    read = partial(read_state_dict, flag="RUN")
    return find_described(models / WEIGHTS, DESCRIPTION, now(), now, read)


def described_sha256(models: Path) -> str | None:
    """Of the weights, as best_model.json says now; None where it does not."""
    return _sha256_of(mapping(read_json(models / DESCRIPTION)))


def _sha256_of(content: Mapping[str, Any]) -> str | None:
    value = content.get("weights_sha256")
    return value if isinstance(value, str) else None


def read_description(models: Path) -> dict[str, Any]:
    """best_model.json as it is. Raises UserError where it cannot be read, or is no JSON object."""
    path = models / DESCRIPTION
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        return dict(parse_json(content))
    except OSError as error:
        reason = f"cannot be read ({error.strerror}): change its permissions"
        raise UserError(f"RUN {path}: {reason}") from None
    except (ValueError, TypeError) as error:
        raise _damaged(models, str(error)) from None


def _damaged(models: Path, reason: str) -> UserError:
    return UserError(
        f"RUN {models / DESCRIPTION}: is damaged ({reason}): take it from the run again"
    )


def _shortened(text: str) -> str:
    """A value of the file in a message may be as long as that."""
    return text if len(text) <= 200 else f"{text[:200]}..."


def _models(run: Path) -> Path:
    for folder in (run / "models", run):
        if (folder / DESCRIPTION).is_file():
            return folder
    if not run.is_dir():
        problem = "there is no such folder"
    elif (run / "config.yaml").is_file():
        raise UserError(
            f"RUN {run}: it has no models/{DESCRIPTION}, as no epoch was the best yet: train it "
            "further, or give another run"
        )
    else:
        problem = f"neither models/{DESCRIPTION} nor {DESCRIPTION} is there"
    raise UserError(f"RUN {run}: {problem}: give the folder of a run, or its models folder")
