"""What every exported file says about itself: enough to feed it, and to know whose it is."""

import hashlib
import json
import mmap
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch

from slowfast_dist.best_model import WEIGHTS, BestModel
from slowfast_dist.clip_input import NORMALISATION
from slowfast_dist.config import UserError
from slowfast_dist.export.graph import InputType

Format = Literal["onnx", "pt2", "safetensors"]

PT2_FILE = "metadata.json"
"""The name, inside a .pt2, of the JSON object with the metadata."""

IDENTITY = (
    "weights_sha256", "epoch", "model", "classes", "num_frames", "sampling", "sampling_rate",
    "resize", "short_side", "crop_size", "normalisation",
)  # fmt: skip
"""What must be as in best_model.json for a file to be an export of that model."""


def export_path(folder: Path, format: Format) -> Path:
    """Where `export` writes unless it is told otherwise, and where `predict` looks."""
    return folder / f"best_model.{format}"


def weights_sha256(best: BestModel) -> str:
    """Of the file of the best model's weights, in hexadecimal digits.

    Raises UserError where it cannot be read, and FileNotFoundError where there is none.
    """
    path = best.folder / WEIGHTS
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(
            f"RUN {path}: cannot be read ({error.strerror}): change its permissions"
        ) from None


def is_export(path: Path) -> bool:
    """Whether a file says whose weights it holds, which all formats hold as plain text."""
    with suppress(OSError, ValueError), open(path, "rb") as file:  # ValueError: it is empty
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(b"weights_sha256") >= 0
    return False


def describe_export(best: BestModel, sha256: str, input_type: InputType) -> dict[str, Any]:
    """The metadata, in JSON's types. ``normalisation`` is what is done to the input's values."""
    data, divide_by = best.data, NORMALISATION["divide_by"] if input_type == "uint8" else 1.0
    return {
        "made_by": f"slowfast_dist {_version()}, torch {torch.__version__}",
        "model": best.model["name"],
        "epoch": best.epoch,
        "weights_sha256": sha256,
        "classes": list(best.classes),
        "input_type": input_type,
        "layout": "RGB (batch, 3, num_frames, crop_size, crop_size)",
        "num_frames": data.num_frames,
        "sampling": data.sampling,
        "sampling_rate": data.sampling_rate,
        "resize": data.resize,
        "short_side": data.short_side[0],
        "crop_size": data.crop_size,
        "normalisation": {**NORMALISATION, "divide_by": divide_by},
        "alpha": best.model["alpha"],
        "dropout": best.model["dropout"],
    }


def as_strings(metadata: Mapping[str, Any]) -> dict[str, str]:
    """As ONNX and safetensors hold it: text as it is, all else as JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in metadata.items()
    }


def difference(found: Mapping[str, str], expected: Mapping[str, str]) -> str | None:
    """The first name in IDENTITY under which the two metadata, as strings, differ."""
    return next((name for name in IDENTITY if found.get(name) != expected[name]), None)


def _version() -> str:
    try:
        return version("slowfast_dist")
    except PackageNotFoundError:  # run from a checkout
        return "(not installed)"
