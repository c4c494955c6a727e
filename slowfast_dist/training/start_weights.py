"""The weights that a training starts from: which file, of which classes, and whether they fit."""

from collections.abc import Mapping
from math import sqrt
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.model import ModelConfig
from slowfast_dist.model.description import NetworkDescription, from_json
from slowfast_dist.model.foreign.recognise import Weights, read_weights
from slowfast_dist.model.hub import hub_file
from slowfast_dist.model.slowfast import starts_pretrained
from slowfast_dist.model.weights import WeightsFile
from slowfast_dist.runs.best_model import (
    DESCRIPTION,
    WEIGHTS,
    BestModel,
    clip_facts,
    read_best,
    read_best_weights,
)
from slowfast_dist.runs.folder import Start
from slowfast_dist.runs.models.content import CLIPS_BEFORE
from slowfast_dist.runs.reading import mapping, read_json, sequence
from slowfast_dist.system.described_file import ReplacedMeanwhile
from slowfast_dist.system.files import file_sha256
from slowfast_dist.system.log import logger
from slowfast_dist.system.parsing import parse_json

FIRST_VIDEOS = 16
"""Videos of the first step from which FIRST_LOSS_EXCESS holds as it is; of fewer the mean loss is
allowed to be higher, by the square root of how few they are."""

FIRST_LOSS_EXCESS = 1.5
"""Nats that the loss of the first step, before any update, may be above that of guessing, which is
ln(classes) where nothing is adjusted: 1.5 say that the right class got .22 of a guess's
probability. A new head's logits are so small that it starts within .7 of it (slowfast_tiny and
slowfast_r50, 2 to 400 classes); a trained head that goes on with its classes starts below it, and
even one that is wrong on half of 16 videos, by 5 nats each, is .7 above ln(6). A head of other
classes is sure of what is wrong, at 5 nats and more a video."""


def find_weights(given: Path) -> tuple[WeightsFile, dict[str, Any] | None]:
    """The file that --model.weights ``given`` names, and how the clips were cut that its weights
    saw, as `clip_facts`, where that is known.

    ``given``: a run's folder, its models/, or a file. The classes of a file are told by its own
    metadata, as `export` writes them, by best_model.json beside it, or by the run whose checkpoint
    it is. Raises UserError for a folder without a best model, and for weights that are not those
    that best_model.json beside them describes.
    """
    if given.is_dir():
        best, read = _best_of(given)
        known = WeightsFile(
            best.folder / WEIGHTS, best.classes, best.model["name"], read.description, read,
            best.weights_sha256,
        )  # fmt: skip
        return known, mapping(mapping(read_json(best.folder / DESCRIPTION)).get("clip"))
    if facts := _export_metadata(given):
        model = _text(facts.get("model"))
        network = _network({**facts, "name": model})
        known = WeightsFile(given, _names(facts.get("classes")), model, network)
        return known, facts
    if (given.parent / "manifest.json").is_file():  # in RUN/checkpoints/step_00000120
        classes = mapping(read_json(given.absolute().parents[2] / "classes.json"))
        names = [classes.get(str(index)) for index in range(len(classes))]
        network = _network(mapping(mapping(read_json(given.parent / "state.json")).get("network")))
        return WeightsFile(given, _names(names), network.name if network else None, network), None
    content = mapping(read_json(given.parent / DESCRIPTION))
    facts = mapping(content.get("model"))
    network = _network(facts) if given.name == WEIGHTS else None
    told, model = _names(content.get("classes")), _text(facts.get("name"))
    if network is not None:
        sha256 = _text(content.get("weights_sha256"))
        try:
            tensors = read_best_weights(given.parent, sha256)
        except ReplacedMeanwhile:
            return find_weights(given)
        except UserError as error:
            raise UserError(f"--model.weights {str(error).removeprefix('RUN ')}") from None
        read = Weights("pytorchvideo", tensors, network)
        known = WeightsFile(given, told, model, network, read, sha256)
        return known, mapping(content.get("clip"))
    return _recognised(given, told, model, mapping(content.get("clip")))


def _best_of(run: Path) -> tuple[BestModel, Weights]:
    """A run's best model and its weights, read once and of one epoch: a training may
    be writing the next."""
    while True:
        try:
            best = read_best(run)
            tensors = best.read_weights()
        except ReplacedMeanwhile:
            continue
        except UserError as error:
            raise UserError(f"--model.weights {str(error).removeprefix('RUN ')}") from None
        return best, Weights("pytorchvideo", tensors, from_json(best.model))


def _recognised(
    path: Path, classes: tuple[str, ...] | None, model: str | None, clip: dict[str, Any]
) -> tuple[WeightsFile, dict[str, Any]]:
    """A file that tells of its network by its tensors alone, or of another framework. ``classes``,
    ``model``, ``clip``: what best_model.json beside it says."""
    read = read_weights(path)
    known = WeightsFile(path, classes or read.classes, model, read.description, content=read)
    if not read.is_foreign:
        return known, clip
    # Of its pictures only the test's sizes are known, which are not those of the training.
    told = ("num_frames", "sampling", "sampling_rate", "frame_rate", "short_videos")
    return known, {name: read.clip[name] for name in told}


def _network(facts: Mapping[str, Any]) -> NetworkDescription | None:
    """Of best_model.json or of an export; None where these are damaged, or of another file."""
    try:
        return from_json(facts) if facts.get("name") else None
    except ValueError:
        return None


def started_from(
    config: ModelConfig, start: Start, loaded: str | None = None
) -> dict[str, str]:
    """For environment.json, the SHA-256 of the file that the run's weights began as, which is said;
    nothing for a run from scratch. Other weights than at an earlier start are said, too.

    ``loaded``: of the file that was loaded, where that is known: the run that it is of may be
    training, and have another best model by now."""
    earlier = mapping(read_json(start.folder.root / "environment.json")).get("started_from_sha256")
    known = {} if not isinstance(earlier, str) else {"started_from_sha256": earlier}
    goes_on = start.checkpoint is not None
    if not starts_pretrained(config) or (goes_on and config.weights is None):
        return known
    if goes_on and (not known or config.weights is None or not config.weights.exists()):
        return known  # the checkpoint's are used, wherever the file is now
    if config.weights is not None:
        path = config.weights if loaded else find_weights(config.weights)[0].path
    else:
        assert config.published is not None
        path = hub_file(config.published, config.name)
    digest = loaded or file_sha256(path)
    if not goes_on:
        logger.info(f"weights to start from: SHA-256 {digest}")
    if earlier not in (None, digest):
        used = ": the checkpoint's are used" if goes_on else ""
        logger.warning(f"{path}: the run began from other weights, SHA-256 {earlier}{used}")
    return known if goes_on else {"started_from_sha256": digest}


def _export_metadata(path: Path) -> dict[str, Any]:
    """What `export` wrote of a .safetensors file into it; nothing of any other file."""
    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            found: Mapping[str, str] = file.metadata() or {}
    except (OSError, SafetensorError):  # `read_state_dict` says so
        return {}
    return {name: _read(text) for name, text in found.items()} if "classes" in found else {}


def _read(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return text


def _names(value: Any) -> tuple[str, ...] | None:
    """Names of classes, each once; None for anything else."""
    names = sequence(value)
    strings = all(isinstance(name, str) for name in names)
    return tuple(names) if names and strings and len(set(names)) == len(names) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def other_clips(clip: Mapping[str, Any], data: DataConfig) -> str:
    """In what the clips that weights saw, as `clip_facts`, differ from those of ``data``, by the
    flags that would cut the same; "" where in nothing that matters."""
    if "num_frames" in clip:  # else it tells nothing of clips
        clip = CLIPS_BEFORE | dict(clip)
    idle = set[str]()
    if "uniform" in (clip.get("sampling"), data.sampling):
        idle |= {"sampling_rate", "frame_rate"}
    whole = {"square", "pad"} & {clip.get("resize"), data.resize}
    if whole:
        idle |= {"short_side"}
    if "square" in whole:
        idle |= {"pixel_aspect"}
    return ", ".join(
        f"--data.{name.replace('_', '-')} {clip[name]} (here {own})"
        for name, own in clip_facts(data).items()
        if name not in idle and clip.get(name) not in (None, own)
    )


def high_first_loss(loss: float, guess: float, videos: int) -> str | None:
    """What to tell of the mean ``loss`` of the first step's ``videos``, before any update, where it
    is far above ``guess``, that of guessing the same; else None."""
    if loss <= guess + FIRST_LOSS_EXCESS * max(1.0, sqrt(FIRST_VIDEOS / max(1, videos))):
        return None
    return (
        f"the first loss, {loss:.2f}, is far above that of guessing, {guess:.2f}: "
        "the model is sure of wrong classes. Are the weights of these classes in this order "
        "(--model.head new starts a new head), and are the clips cut as for them?"
    )
