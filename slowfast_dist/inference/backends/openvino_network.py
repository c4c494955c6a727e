"""A network as OpenVINO computes it on the CPU, of the weights or of an exported pair of files.

torch is imported where weights are looked at, or a model is made of them: a kept one needs none.
"""

import hashlib
import html
import json
import re
import tempfile
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from slowfast_dist.config.errors import UserError
from slowfast_dist.inference.backends.kept_models import keep, model_key, read_kept
from slowfast_dist.inference.backends.openvino_runtime import (
    compile_here,
    import_openvino,
    read_model,
    read_tensor,
)
from slowfast_dist.inference.metadata import CpuPrecision, as_input, weights_sha256
from slowfast_dist.runs.best_model import BestModel, clip_facts
from slowfast_dist.system.cpus import compute_threads
from slowfast_dist.system.described_file import previous_of
from slowfast_dist.system.interrupts import quiet
from slowfast_dist.system.memory import give_back_free_memory
from slowfast_dist.system.parsing import parse_json

if TYPE_CHECKING:  # it is an extra that not every installation has
    import openvino
    import torch

    from slowfast_dist.model.slowfast import SlowFast

ABOUT = "slowfast_dist"
"""The part of an .xml's runtime information that is ours: what the file says of itself, as JSON."""

WEIGHTS_DIGEST = "bin_sha256"
"""Beside it: the SHA-256 of the .bin that the .xml is of, in hexadecimal digits."""


MOST_AT_ONCE = 4
"""Clips that are computed at once at most. Each takes 100 MB beside slowfast_r50's weights, and on
two threads 4 or 8 of them cost as much CPU time a clip as one alone (787, 794, 782 ms)."""

THREADS_A_CLIP = 2
"""Threads from which on a clip alone is enough for them, as far as was measured: with more there
are more clips at once, up to MOST_AT_ONCE."""


class OpenVinoNetwork:
    """Logits float32 (B, K) of uint8 clips (B, T, H, W, 3), any B, by a compiled model.

    A few clips are computed at a time, so that memory does not grow with B.

    ``metadata``: what the file says of itself; ``broken``: which weights are not finite, in words,
    which the answers would hide: OpenVINO's ReLU makes numbers of NaN.
    """

    def __init__(
        self, compiled: "openvino.CompiledModel | None", metadata: Mapping[str, str],
        broken: str | None = None,
    ) -> None:  # fmt: skip
        """``compiled``: None where the weights are broken."""
        self.metadata, self.broken = metadata, broken
        self.request = None if compiled is None else compiled.create_infer_request()
        self.lock = Lock()  # a request computes one batch at a time
        self.at_once = max(1, min(MOST_AT_ONCE, compute_threads() // THREADS_A_CLIP))
        if compiled is not None and compiled.input(0).partial_shape[0].is_static:
            self.at_once = 1  # an int8 model's

    def __call__(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert self.request is not None, self.broken
        found = []
        with self.lock:
            for start in range(0, len(clips), self.at_once):
                video = as_input(clips[start : start + self.at_once], self.metadata)
                logits = self.request.infer({0: video}, share_inputs=True)[0]
                found.append(np.array(logits, np.float32))
        return np.concatenate(found)


def open_openvino(
    path: Path, precision: CpuPrecision = "no", weights: Path | None = None
) -> OpenVinoNetwork:
    """The network of an .xml that `openvino_files` made, whose .bin lies beside it, or is
    ``weights``. Raises UserError where openvino is missing, and nearly anything for a damaged
    file, or one whose .bin is another."""
    import_openvino("--backend openvino")
    from slowfast_dist.model.finite import describe_broken

    text = path.read_bytes()
    digest, beside = _noted(text, WEIGHTS_DIGEST), path.with_suffix(".bin")
    metadata = dict(parse_json(_noted(text, "metadata")))
    # An export that is killed between its two files leaves the old .bin under the second name.
    for place in [weights] if weights else [beside, previous_of(beside)]:
        content = read_tensor(place) if place.is_file() else None
        if content is not None and hashlib.sha256(content.data).hexdigest() == digest:
            break
    else:
        raise ValueError(f"{beside.name} beside it is missing, damaged, or of another export")
    model = read_model(text, content)
    if (broken := describe_broken(_float_constants(model))) is not None:
        return OpenVinoNetwork(None, metadata, broken)
    if "quantised" in metadata and model.input(0).partial_shape[0].is_dynamic:
        fix_batch(model)  # of an older version
    return OpenVinoNetwork(compile_here(model, precision), metadata)


def prepared_key(best: BestModel) -> str:
    """Of the best model, by the content of its weights, as `open_prepared` keeps it. Raises as
    `weights_sha256` where best_model.json does not say it."""
    sha256 = best.weights_sha256 or weights_sha256(best)
    about = {"model": best.model, "clip": clip_facts(best.data), "weights": sha256}
    return model_key(about)


def open_kept(key: str, precision: CpuPrecision) -> OpenVinoNetwork | None:
    """The network of the best model itself by the graph that is kept; None where there is none."""
    if (model := read_kept(key)) is None:
        return None
    return _compiled(model, precision)


def open_prepared(
    best: BestModel, key: str, precision: CpuPrecision, load: "Callable[[], SlowFast]"
) -> OpenVinoNetwork:
    """The network of the best model itself, without a file that was exported: of the kept graph,
    else of one that is made of what ``load`` gives, within seconds. Raises UserError where a
    library is missing."""
    if (found := open_kept(key, precision)) is not None:
        return found
    model = _made(load, best)
    keep(key, model)
    return _compiled(model, precision)


def _made(load: "Callable[[], SlowFast]", best: BestModel) -> "openvino.Model":
    for library in ("onnx", "onnxscript"):
        if find_spec(library) is None:
            raise UserError(
                f"--backend openvino: needs {library}, which is not here: pip install '.[cpu]'"
            )
    from slowfast_dist.inference.backends.export_graph import openvino_model

    with quiet():
        return openvino_model(load(), best)


def open_unkept(network: "SlowFast", best: BestModel, precision: CpuPrecision) -> OpenVinoNetwork:
    """Of a network of the description ``best``, whose weights lie in no file."""
    return _compiled(_made(lambda: network, best), precision)


def _compiled(model: "openvino.Model", precision: CpuPrecision) -> OpenVinoNetwork:
    compiled = compile_here(model, precision)
    give_back_free_memory()
    return OpenVinoNetwork(compiled, {"input_type": "uint8"})


def fix_batch(model: "openvino.Model") -> None:
    """Make it one of one clip at a time. Of a batch of any size OpenVINO's answers in int8 are
    wrong, silently, on a CPU with AMX (2026.4.1; accuracy .16 in place of .64)."""
    model.reshape({0: [1, *tuple(model.input(0).partial_shape)[1:]]})


def _float_constants(model: "openvino.Model") -> "dict[str, torch.Tensor]":
    """The float32 tensors that the model computes with, by the names of their nodes; views."""
    import torch

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


def _noted(text: bytes, name: str) -> str:
    """What `openvino_files` wrote into an .xml. Raises ValueError for a file of another program."""
    found = re.search(rf'<{ABOUT}>.*?<{name} value="([^"]*)" */>'.encode(), text, re.DOTALL)
    if found is None:
        raise ValueError("it does not say what it is")
    return html.unescape(found[1].decode())
