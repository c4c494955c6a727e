"""A file that ``export`` wrote, as a network from clips to logits: by onnxruntime, or torch alone.

Its threads are torch's: OMP_NUM_THREADS, else the CPUs that the process may use.
"""

import json
import mmap
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.errors import UserError
from slowfast_dist.config.fields import Format
from slowfast_dist.model.description import from_json
from slowfast_dist.runs.best_model import WEIGHTS, BestModel, clip_facts, describe_task
from slowfast_dist.system.cpus import compute_threads
from slowfast_dist.system.files import file_sha256
from slowfast_dist.system.interrupts import quiet
from slowfast_dist.system.parsing import parse_json
from slowfast_dist.system.text import operand

if TYPE_CHECKING:
    import torch

InputType = Literal["uint8", "float32"]
Backend = Literal["onnx", "pt2"]


def load_exported(best: BestModel, backend: Backend) -> "OnnxNetwork | Pt2Network":
    """The network of best_model.onnx or .pt2 beside ``best``, on a GPU where there is one.

    Logits float32 (B, K) of uint8 clips (B, T, H, W, 3), any B. Raises UserError where the file is
    missing, damaged, or was exported from other weights or another description than those beside
    it now, where these weights or the file's own are not finite, and where onnxruntime is missing.
    """
    path = export_path(best.folder, backend)
    export = f"python -m slowfast_dist export {operand(best.folder)} --format {backend}"
    if not path.is_file():
        raise UserError(f"--backend {backend}: there is no {path}: run '{export}' first")
    try:
        network = open_exported(path, backend)
    except UserError:
        raise
    except Exception as error:  # a damaged file raises nearly anything
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(
            f"--backend {backend}: {path} is damaged, or of a version that this one cannot read "
            f"({reason}): run '{export}' again"
        ) from error
    changed = _difference(network.metadata, best)
    if changed is not None:
        raise UserError(
            f"--backend {backend}: {path} was exported from another model than the one beside it "
            f"({changed}): run '{export}' again"
        )
    if (best.folder / WEIGHTS).is_file() and weights_sha256(best) != best.weights_sha256:
        # Those that the file holds, which ONNX Runtime hides; those that best_model.json is of
        # were looked at when they were written.
        best.read_weights()
    if isinstance(network, Pt2Network):
        from slowfast_dist.model.finite import describe_broken

        if broken := describe_broken(network.tensors()):
            raise UserError(f"--backend {backend}: {path}: {broken}: run '{export}' again")
    return network


def open_exported(path: Path, backend: Backend, on_gpu: bool = True) -> "OnnxNetwork | Pt2Network":
    """The network of any exported file, of whatever model; ``on_gpu``: where there is one. Its
    ``metadata`` is what the file says of itself.

    Raises UserError where onnxruntime is missing, and nearly anything for a damaged file.
    """
    return (OnnxNetwork if backend == "onnx" else Pt2Network)(path, on_gpu)


class OnnxNetwork:
    """An .onnx file, computed by onnxruntime."""

    def __init__(self, path: Path, on_gpu: bool = True) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise UserError(
                "--backend onnx: needs onnxruntime, which is not here: pip install '.[export]'"
            ) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = compute_threads()
        # As cpus.let_threads_sleep has it for torch.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors
        wanted = ("CUDAExecutionProvider",) * on_gpu + ("CPUExecutionProvider",)
        providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
        self.session = onnxruntime.InferenceSession(path, options, providers)
        self.metadata: Mapping[str, str] = dict(self.session.get_modelmeta().custom_metadata_map)

    def __call__(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        (logits,) = self.session.run(["logits"], {"video": _as_input(clips, self.metadata)})
        return np.asarray(logits, np.float32)


class Pt2Network:
    """A .pt2 file, computed by torch. It is a program: one of a stranger may do anything here."""

    def __init__(self, path: Path, on_gpu: bool = True) -> None:
        import torch

        extra = {PT2_FILE: ""}
        # Opened here, as torch takes no other ending than .pt2, and a check has one.
        with quiet(), open(path, "rb") as file:
            program = torch.export.load(file, extra_files=extra)
            self.device = torch.device("cuda" if on_gpu and torch.cuda.is_available() else "cpu")
            if self.device.type != "cpu":
                from torch.export.passes import move_to_device_pass

                program = move_to_device_pass(program, self.device)
            self.module = program.module()
        self.metadata: Mapping[str, str] = as_strings(parse_json(extra[PT2_FILE]))

    def tensors(self) -> "dict[str, torch.Tensor]":
        """The weights that the program computes with."""
        return dict(self.module.state_dict())

    def __call__(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        import torch

        video = _as_input(clips, self.metadata)
        with torch.inference_mode():
            logits: torch.Tensor = self.module(torch.from_numpy(video).to(self.device))
        return logits.float().cpu().numpy()


def _as_input(clips: NDArray[np.uint8], metadata: Mapping[str, str]) -> NDArray[Any]:
    """The pixels (B, 3, T, H, W) as the file takes them, of clips (B, T, H, W, 3)."""
    video = np.ascontiguousarray(clips.transpose(0, 4, 1, 2, 3))
    if metadata["input_type"] == "uint8":
        return video
    return video.astype(np.float32) / np.float32(255)


def _difference(found: Mapping[str, str], best: BestModel) -> str | None:
    """In what the file differs from the model beside it, in words; None where in nothing."""
    input_type: Any = found.get("input_type")
    if input_type not in ("uint8", "float32"):
        return "it has no metadata of an export"
    try:
        sha256 = weights_sha256(best)
    except FileNotFoundError:  # the exported file and best_model.json alone go far, too
        sha256 = found.get("weights_sha256", "")
    expected = as_strings(describe_export(best, sha256, input_type))
    found = OLDER_EXPORTS | dict(found)
    name = next((name for name in IDENTITY if found.get(name) != expected[name]), None)
    if name != "weights_sha256":
        return name and f"{name} {found.get(name)}"
    return f"other weights; the file's are of epoch {found.get('epoch')}, now it is {best.epoch}"


# What every exported file says about itself: enough to feed it, and to know whose it is.

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


def export_path(folder: Path, format: Format) -> Path:
    """Where `export` writes without --output, and where `predict` reads."""
    return folder / f"best_model.{format}"


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
