"""The formats of ``export``: how each file is written, and how other programs use it.

A new format is a writer here with its entry in FORMATS, its name in config.fields.Format and a
network in inference.exported if ``predict`` is to run it.
"""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.config.fields import Format
from slowfast_dist.inference.backends.export_graph import ExportGraph, openvino_model, write_onnx
from slowfast_dist.inference.backends.openvino_network import openvino_files
from slowfast_dist.inference.exported import Backend
from slowfast_dist.inference.metadata import PT2_FILE, InputType, as_strings
from slowfast_dist.model.slowfast import SlowFast
from slowfast_dist.runs.best_model import BestModel


def write_openvino(
    network: SlowFast, best: BestModel, input_type: InputType, metadata: Mapping[str, Any]
) -> tuple[bytes, bytes]:
    """OpenVINO's .xml and .bin, of the ONNX graph, in float32."""
    return openvino_files(openvino_model(network, best, input_type), as_strings(metadata))


def write_pt2(
    network: SlowFast, best: BestModel, input_type: InputType, metadata: Mapping[str, Any]
) -> bytes:
    """A .pt2 file, a program that loads with torch alone: video (batch, 3, T, S, S) -> logits
    (batch, K). The metadata is its extra file PT2_FILE."""
    graph = ExportGraph(network, best.data.num_frames, input_type)
    program = torch.export.export(
        graph, (graph.example(best.data.crop_size),),
        dynamic_shapes={"video": {0: torch.export.Dim("batch", min=1)}},
    )  # fmt: skip
    program.example_inputs = None  # or they would be stored
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # lines and paths of the code it came from
    content = io.BytesIO()
    extra = {PT2_FILE: json.dumps(dict(metadata), ensure_ascii=False)}
    torch.export.save(program, content, extra_files=extra)
    return content.getvalue()


def write_safetensors(
    network: SlowFast, best: BestModel, input_type: InputType, metadata: Mapping[str, Any]
) -> bytes:
    """A .safetensors file: the weights by their names in the state_dict, the metadata as header."""
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    # "format" is what other programs look for.
    return save(tensors, {**as_strings(metadata), "format": "pt"})


def check_safetensors(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Raise RunError unless the file at ``path`` holds these tensors, bit for bit, and metadata."""
    with safe_open(path, framework="pt") as file:
        if not metadata.items() <= (file.metadata() or {}).items():
            raise RunError(f"{path}: its metadata are not those that were written")
        names = set(file.keys())
        wrong = [
            name
            for name, tensor in state.items()
            if name not in names or _bits(file.get_tensor(name)) != _bits(tensor)
        ]
    if named := wrong or sorted(names - state.keys()):
        raise RunError(f"{path}: {named[0]} is not as it was written ({len(named)} such tensors)")


def _bits(tensor: Tensor) -> tuple[torch.dtype, torch.Size, bytes]:
    content = tensor.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()
    return tensor.dtype, tensor.shape, content


@dataclass(frozen=True)
class ExportFormat:
    """A format: ``write`` gives the file's content, and that of the .bin beside it where there is
    one, and raises whatever the libraries do.

    ``usage``: Python that uses the file and nothing of slowfast_dist; ``video`` is the reader's.
    ``backend`` runs it, in ``predict`` and for the comparison with the original; None: the file has
    the weights alone, which are compared bit by bit. ``engine``: that backend's name for people.
    ``libraries``: what has to be installed beside slowfast_dist, by the ``extra`` of that name.
    """

    write: Callable[
        [SlowFast, BestModel, InputType, Mapping[str, Any]], bytes | tuple[bytes, bytes]
    ]
    usage: str
    backend: Backend | None = None
    engine: str = ""
    libraries: tuple[str, ...] = ()
    extra: str = "export"


FORMATS: dict[Format, ExportFormat] = {
    "onnx": ExportFormat(
        write_onnx,
        usage="""\
import json, onnxruntime
session = onnxruntime.InferenceSession({path!r})
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
(logits,) = session.run(["logits"], {{"video": video}})  # numpy {dtype} (B, 3, {t}, {s}, {s})
print([classes[index] for index in logits.argmax(1)])""",
        backend="onnx",
        engine="onnxruntime",
        libraries=("onnx", "onnxscript", "onnxruntime"),
    ),
    "openvino": ExportFormat(
        write_openvino,
        usage="""\
import json, openvino
model = openvino.Core().read_model({path!r})
about = json.loads(model.get_rt_info(["slowfast_dist", "metadata"]).astype(str))
classes = json.loads(about["classes"])
# Without the hint it computes in bf16 where the CPU has that.
compiled = openvino.compile_model(model, "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})
logits = compiled(video)["logits"]  # numpy {dtype} (B, 3, {t}, {s}, {s})
print([classes[index] for index in logits.argmax(1)])""",
        backend="openvino",
        engine="openvino",
        libraries=("onnx", "onnxscript", "openvino"),
        extra="cpu",
    ),
    "pt2": ExportFormat(
        write_pt2,
        usage="""\
import json, torch
extra = {{{extra!r}: ""}}
model = torch.export.load({path!r}, extra_files=extra).module()
logits = model(video)  # torch {dtype} (B, 3, {t}, {s}, {s})
print([json.loads(extra[{extra!r}])["classes"][index] for index in logits.argmax(1)])""",
        backend="pt2",
        engine="torch.export",
    ),
    "safetensors": ExportFormat(
        write_safetensors,
        usage="""\
from safetensors import safe_open
with safe_open({path!r}, framework="np") as file:  # or "pt"
    metadata = file.metadata()
    state = {{name: file.get_tensor(name) for name in file.keys()}}
print(metadata["model"], metadata["classes"], len(state))""",
    ),
}
"""By the name that --format takes."""


def usage_of(name: Format, several: bool) -> str:
    """The format's ``usage``; ``several``: of a model that gives several labels a clip, each of
    which has a threshold of its own in the description."""
    usage = FORMATS[name].usage
    if not several:
        return usage
    lines = usage.splitlines()
    if name == "onnx":
        lines[2] += """
thresholds = json.loads(session.get_modelmeta().custom_metadata_map["thresholds"])"""
        lines[0] = "import json, numpy, onnxruntime"
        lines[-1] = """\
probabilities = 1 / (1 + numpy.exp(-logits))  # a clip may have several labels
print([[name for name, one in zip(classes, row) if one] for row in probabilities >= thresholds])"""
    elif name == "openvino":
        lines[0] = "import json, numpy, openvino"
        lines[3] += """
thresholds = json.loads(about["thresholds"])"""
        lines[-1] = """\
probabilities = 1 / (1 + numpy.exp(-logits))  # a clip may have several labels
print([[name for name, one in zip(classes, row) if one] for row in probabilities >= thresholds])"""
    elif name == "pt2":
        lines[-1] = """\
about = json.loads(extra[{extra!r}])
there = logits.sigmoid() >= torch.tensor(about["thresholds"])  # a clip may have several labels
print([[name for name, one in zip(about["classes"], row) if one] for row in there])"""
    return "\n".join(lines)


def require_libraries(name: Format) -> None:
    """Raise UserError where a library that the format needs is missing."""
    for library in FORMATS[name].libraries:
        try:
            import_module(library)
        except ImportError:
            raise UserError(
                f"--format {name}: needs {library}, which is not here: pip install "
                f"'.[{FORMATS[name].extra}]'"
            ) from None
