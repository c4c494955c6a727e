"""A file that ``export`` wrote, as a network from clips to logits: by onnxruntime, OpenVINO, or
torch alone.

Its threads are torch's: OMP_NUM_THREADS, else the CPUs that the process may use.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.errors import UserError
from slowfast_dist.inference.metadata import (
    IDENTITY,
    OLDER_EXPORTS,
    PT2_FILE,
    CpuPrecision,
    as_input,
    as_strings,
    describe_export,
    export_path,
    has_own_weights,
    weights_sha256,
)
from slowfast_dist.runs.best_model import WEIGHTS, BestModel
from slowfast_dist.system.cpus import compute_threads
from slowfast_dist.system.interrupts import quiet
from slowfast_dist.system.parsing import parse_json
from slowfast_dist.system.text import operand

if TYPE_CHECKING:
    from slowfast_dist.inference.backends.openvino_network import OpenVinoNetwork

Backend = Literal["onnx", "pt2", "openvino"]

ExportedNetwork: TypeAlias = "OnnxNetwork | Pt2Network | OpenVinoNetwork"


def load_exported(
    best: BestModel, backend: Backend, precision: CpuPrecision = "no"
) -> "ExportedNetwork":
    """The network of best_model.onnx, .pt2 or .xml beside ``best``, on a GPU where there is one;
    ``precision``: of OpenVINO, which computes on the CPU.

    Logits float32 (B, K) of uint8 clips (B, T, H, W, 3), any B. Raises UserError where the file is
    missing, damaged, or was exported from other weights or another description than those beside
    it now, where these weights or the file's own are not finite, and where a library is missing.
    """
    path = export_path(best.folder, backend)
    export = f"python -m slowfast_dist export {operand(best.folder)} --format {backend}"
    if not path.is_file():
        raise UserError(f"--backend {backend}: there is no {path}: run '{export}' first")
    try:
        network = open_exported(path, backend, precision=precision)
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
    if (best.folder / WEIGHTS).is_file() and not has_own_weights(best):
        # Those that the file holds, which ONNX Runtime hides; those that best_model.json is of
        # were looked at when they were written.
        best.read_weights()
    if (broken := network.broken) is not None:
        raise UserError(f"--backend {backend}: {path}: {broken}: run '{export}' again")
    return network


def open_exported(
    path: Path, backend: Backend, on_gpu: bool = True, precision: CpuPrecision = "no"
) -> "ExportedNetwork":
    """The network of any exported file, of whatever model; ``on_gpu``: where there is one. Its
    ``metadata`` is what the file says of itself.

    Raises UserError where a library is missing, and nearly anything for a damaged file.
    """
    if backend == "openvino":
        from slowfast_dist.inference.backends.openvino_network import open_openvino

        return open_openvino(path, precision)
    return (OnnxNetwork if backend == "onnx" else Pt2Network)(path, on_gpu)


class OnnxNetwork:
    """An .onnx file, computed by onnxruntime, which does not show its weights."""

    broken: str | None = None

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
        (logits,) = self.session.run(["logits"], {"video": as_input(clips, self.metadata)})
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
        from slowfast_dist.model.finite import describe_broken

        self.broken = describe_broken(self.module.state_dict())

    def __call__(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        import torch

        video = as_input(clips, self.metadata)
        with torch.inference_mode():
            logits: torch.Tensor = self.module(torch.from_numpy(video).to(self.device))
        return logits.float().cpu().numpy()


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
