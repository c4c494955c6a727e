"""A network as OpenVINO computes it on the CPU, and the pair of files that it is kept in.

What OpenVINO decides by itself is said here: it would compute in bf16 or float16 where the CPU has
them, and bind its threads to cores that another process may be on.
"""

import hashlib
import json
import re
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from slowfast_dist.config.errors import UserError
from slowfast_dist.inference.metadata import as_input
from slowfast_dist.model.finite import describe_broken
from slowfast_dist.system.described_file import previous_of
from slowfast_dist.system.parsing import parse_json

if TYPE_CHECKING:  # it is an extra that not every installation has
    import openvino

CpuPrecision = Literal["no", "bf16"]
"""What --mixed-precision can be on a CPU."""

ABOUT = "slowfast_dist"
"""The part of an .xml's runtime information that is ours: what the file says of itself, as JSON."""

WEIGHTS_DIGEST = "bin_sha256"
"""Beside it: the SHA-256 of the .bin that the .xml is of, in hexadecimal digits."""


def import_openvino(flag: str) -> Any:
    """The library. Raises UserError, which begins with the ``flag``, where it is missing."""
    try:
        import openvino
    except ImportError:
        raise UserError(
            f"{flag}: needs openvino, which is not here: pip install '.[cpu]'"
        ) from None
    return openvino


class OpenVinoNetwork:
    """Logits float32 (B, K) of uint8 clips (B, T, H, W, 3), any B, by a compiled model.

    ``metadata``: what the file says of itself; ``broken``: which weights are not finite, in words,
    which the answers would hide: OpenVINO's ReLU makes numbers of NaN.
    """

    def __init__(
        self, compiled: "openvino.CompiledModel", metadata: Mapping[str, str],
        broken: str | None = None,
    ) -> None:  # fmt: skip
        self.metadata, self.broken = metadata, broken
        self.compiled = compiled
        self.request = compiled.create_infer_request()
        self.lock = Lock()  # a request computes one batch at a time

    def __call__(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        video = as_input(clips, self.metadata)
        with self.lock:
            logits = self.request.infer({0: video}, share_inputs=True)[0]
            return np.array(logits, np.float32)


def open_openvino(
    path: Path, precision: CpuPrecision = "no", weights: Path | None = None
) -> OpenVinoNetwork:
    """The network of an .xml that `openvino_files` made, whose .bin lies beside it, or is
    ``weights``. Raises UserError where openvino is missing, and nearly anything for a damaged
    file, or one whose .bin is another."""
    import_openvino("--backend openvino")
    text = path.read_bytes()
    digest, beside = _weights_digest(text), path.with_suffix(".bin")
    # An export that is killed between its two files leaves the old .bin under the second name.
    for place in [weights] if weights else [beside, previous_of(beside)]:
        content = np.fromfile(place, np.uint8) if place.is_file() else np.empty(0, np.uint8)
        if hashlib.sha256(content).hexdigest() == digest:
            model = read_model(text, content)
            broken = describe_broken(_float_constants(model))
            return OpenVinoNetwork(compile_model(model, precision), _metadata(model), broken)
    raise ValueError(f"{beside.name} beside it is missing, damaged, or of another export")


def read_model(text: bytes, weights: NDArray[np.uint8]) -> "openvino.Model":
    """Of the content of an .xml and its .bin."""
    import openvino

    return openvino.Core().read_model(text, openvino.Tensor(weights))


def compile_model(model: "openvino.Model", precision: CpuPrecision) -> "openvino.CompiledModel":
    """For the CPU, with torch's threads: OMP_NUM_THREADS, else the CPUs that the process may use.
    One stream: a clip alone gets them all."""
    import openvino

    return openvino.Core().compile_model(model, "CPU", compile_settings(precision))


def compile_settings(precision: CpuPrecision) -> dict[str, Any]:
    """What `compile_model` asks of OpenVINO."""
    return {
        "INFERENCE_PRECISION_HINT": {"no": "f32", "bf16": "bf16"}[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }


def _float_constants(model: "openvino.Model") -> dict[str, torch.Tensor]:
    """The float32 tensors that the model computes with, by the names of their nodes; views."""
    constants = (node for node in model.get_ordered_ops() if node.get_type_name() == "Constant")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # these arrays cannot be written, and nobody does
        return {
            node.get_friendly_name(): torch.from_numpy(node.data)
            for node in constants
            if node.get_element_type().to_string() == "f32"
        }


def openvino_files(model: "openvino.Model", metadata: Mapping[str, str]) -> tuple[bytes, bytes]:
    """The content of the .xml and the .bin: float32 stays float32."""
    model.set_rt_info(json.dumps(dict(metadata)), [ABOUT, "metadata"])
    _, weights = _saved(model)
    model.set_rt_info(hashlib.sha256(weights).hexdigest(), [ABOUT, WEIGHTS_DIGEST])
    return _saved(model)


def _saved(model: "openvino.Model") -> tuple[bytes, bytes]:
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.xml")
        openvino.save_model(model, path, compress_to_fp16=False)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()


def _metadata(model: "openvino.Model") -> dict[str, str]:
    """What `openvino_files` wrote; empty for a file of another program."""
    if not model.has_rt_info([ABOUT, "metadata"]):
        return {}
    return dict(parse_json(model.get_rt_info([ABOUT, "metadata"]).astype(str)))


def _weights_digest(text: bytes) -> str:
    """The SHA-256 of the .bin that this .xml is of. Raises ValueError."""
    found = re.search(rf'<{WEIGHTS_DIGEST} value="([0-9a-f]{{64}})"'.encode(), text)
    if found is None:
        raise ValueError("it does not say which .bin it is of")
    return found[1].decode()
