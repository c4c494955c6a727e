"""What every exported file says about itself: enough to feed it, and to know whose it is."""

import json
import mmap
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.errors import UserError
from slowfast_dist.config.fields import Format
from slowfast_dist.model.description import from_json
from slowfast_dist.runs.best_model import WEIGHTS, BestModel, clip_facts, describe_task
from slowfast_dist.system.files import file_sha256

InputType = Literal["uint8", "float32"]

Network = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Logits (B, K) of clips (B, T, H, W, 3), T, H and W as the model's own."""

CpuPrecision = Literal["no", "bf16"]
"""What --mixed-precision can be on a CPU."""

PT2_FILE = "metadata.json"
"""The name, inside a .pt2, of the JSON object with the metadata."""

IDENTITY = (
    "weights_sha256", "epoch", "model", "classes", "loss", "num_frames", "sampling",
    "sampling_rate",
    "frame_rate", "resize", "short_side", "crop_size", "pixel_aspect", "short_videos",
    "crop_box", "normalisation", "alpha", "slow_frames", "lateral_norm", "lateral_activation",
)  # fmt: skip
"""What must be as in best_model.json for a file to be an export of that model."""

OLDER_EXPORTS = {
    "frame_rate": "video", "pixel_aspect": "stored", "short_videos": "repeat-last",
    "crop_box": "null", "slow_frames": "linspace", "lateral_norm": "true",
    "lateral_activation": "true", "loss": "ce",
}  # fmt: skip
"""What a file means that was exported before it said so."""


ENDINGS: dict[Format, str] = {"openvino": "xml"}
"""Endings of files that are not the name of their format."""


def export_path(folder: Path, format: Format) -> Path:
    """Where `export` writes without --output, and where `predict` reads."""
    return folder / f"best_model.{ENDINGS.get(format, format)}"


def weights_sha256(best: BestModel) -> str:
    """Of the file of the best model's weights, in hexadecimal digits.

    Raises UserError where it cannot be read, and FileNotFoundError where there is none.
    """
    path = best.folder / WEIGHTS
    try:
        return file_sha256(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(
            f"RUN {path}: cannot be read ({error.strerror}): change its permissions"
        ) from None


def has_own_weights(best: BestModel) -> bool:
    """Whether the file of the weights is the one that best_model.json is of, which was looked at
    when it was written. Raises UserError where it cannot be read."""
    try:
        return weights_sha256(best) == best.weights_sha256
    except FileNotFoundError:
        return False


def is_export(path: Path) -> bool:
    """Whether a file says whose weights it holds, which all formats hold as plain text."""
    with suppress(OSError, ValueError), open(path, "rb") as file:  # ValueError: it is empty
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(b"weights_sha256") >= 0
    return False


def describe_export(best: BestModel, sha256: str, input_type: InputType) -> dict[str, Any]:
    """The metadata, in JSON's types. ``normalisation`` is what is done to the input's values."""
    network = from_json(best.model)
    divide_by = 255.0 if input_type == "uint8" else 1.0
    own_version = "(not installed)"  # as when run from a checkout
    with suppress(PackageNotFoundError):
        own_version = version("slowfast_dist")
    return {
        "made_by": f"slowfast_dist {own_version}, torch {version('torch')}",
        "model": best.model["name"], "epoch": best.epoch, "weights_sha256": sha256,
        "classes": list(best.classes), **describe_task(best.task, len(best.classes)),
        **({} if best.task.several else {"temperature": best.temperature}),
        "input_type": input_type,
        "layout": "RGB (batch, 3, num_frames, crop_size, crop_size)",
        **clip_facts(best.data),
        **{name: value for name, value in network.as_json().items() if name != "name"},
        "normalisation": network.normalisation(divide_by), "dropout": best.model["dropout"],
    }  # fmt: skip


def as_strings(metadata: Mapping[str, Any]) -> dict[str, str]:
    """As ONNX and safetensors hold it: text as it is, all else as JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in metadata.items()
    }


def as_input(clips: NDArray[np.uint8], metadata: Mapping[str, str]) -> NDArray[Any]:
    """The pixels (B, 3, T, H, W) as the file takes them, of clips (B, T, H, W, 3)."""
    video = np.ascontiguousarray(clips.transpose(0, 4, 1, 2, 3))
    if metadata["input_type"] == "uint8":
        return video
    return video.astype(np.float32) / np.float32(255)
