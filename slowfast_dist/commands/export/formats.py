"""The network as other programs take it: one tensor of pixels in, logits out, all else inside."""

import copy
import io
import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import onnx
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.inference.exported import PT2_FILE, InputType
from slowfast_dist.model.folding import folded
from slowfast_dist.model.inputs import MEAN, STD, slow_indices
from slowfast_dist.model.slowfast import SlowFast


class ExportGraph(nn.Module):
    """video (B, 3, T, H, W), RGB, uint8 in 0..255 or float32 in 0..1 -> logits (B, K).

    Normalisation and the split into pathways are inside, BatchNorm is folded into the convolutions.
    The network that it is made from stays as it is.
    """

    def __init__(self, network: SlowFast, num_frames: int, input_type: InputType) -> None:
        super().__init__()
        self.num_frames, self.input_type = num_frames, input_type
        self.slow: Tensor
        self.register_buffer("slow", slow_indices(num_frames))
        self.blocks = copy.deepcopy(folded(network).blocks)
        self.requires_grad_(False)

    def example(self, batch: int, side: int) -> Tensor:
        """An input of black frames, of this graph's type and number of frames."""
        dtype = getattr(torch, self.input_type)
        return torch.zeros(batch, 3, self.num_frames, side, side, dtype=dtype)

    def forward(self, video: Tensor) -> Tensor:
        pixels = video.to(torch.float32)
        if self.input_type == "uint8":
            pixels = pixels / 255
        fast = (pixels - MEAN) / STD
        # A fresh list: pytorchvideo's blocks write into it.
        x: Any = [fast.index_select(2, self.slow), fast]
        for block in self.blocks:
            x = block(x)
        return x


# ONNX: the graph for onnxruntime and other engines.


OPSET = 18
"""What torch's exporter writes without converting. onnxruntime takes it since 1.14 (2023)."""


# torch.export: a program that loads with torch alone.


EXAMPLE_BATCH = 2
"""With 1, torch.export takes the batch for a constant."""

EXAMPLE_BATCH = 2
"""With 1, torch.export takes the batch for a constant."""


def require_onnx() -> None:
    """Raise UserError where a library that `to_onnx` or the check of its file needs is missing."""
    for library in ("onnx", "onnxscript", "onnxruntime"):
        try:
            import_module(library)
        except ImportError:
            raise UserError(
                f"--format onnx: needs {library}, which is not here: pip install '.[export]'"
            ) from None


def to_onnx(graph: ExportGraph, side: int, metadata: Mapping[str, str]) -> bytes:
    """The content of an .onnx file: video (batch, 3, T, side, side) -> logits (batch, K).

    Checked with onnx.checker. Raises whatever torch.onnx or onnx do.
    """
    import onnx

    program = torch.onnx.export(
        graph,
        (graph.example(EXAMPLE_BATCH, side),),
        dynamo=True,
        opset_version=OPSET,
        input_names=["video"],
        output_names=["logits"],
        dynamic_shapes={"video": {0: torch.export.Dim("batch", min=1)}},
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    _forget_the_source(model)
    model.graph.name = metadata["model"]
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _forget_the_source(model: "onnx.ModelProto") -> None:
    """Take out what torch.onnx notes of each node: lines and paths of the code it came from."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for tensor in graph.initializer:
        tensor.ClearField("metadata_props")


def to_pt2(graph: ExportGraph, side: int, metadata: Mapping[str, Any]) -> bytes:
    """The content of a .pt2 file: video (batch, 3, T, side, side) -> logits (batch, K).

    The metadata is the extra file PT2_FILE. Raises whatever torch.export does.
    """
    program = torch.export.export(
        graph,
        (graph.example(EXAMPLE_BATCH, side),),
        dynamic_shapes={"video": {0: torch.export.Dim("batch", min=1)}},
    )
    program.example_inputs = None  # or they would be stored
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # lines and paths of the code it came from
    content = io.BytesIO()
    extra = {PT2_FILE: json.dumps(dict(metadata), ensure_ascii=False)}
    torch.export.save(program, content, extra_files=extra)
    return content.getvalue()


# safetensors: the weights alone, by the names of the state_dict, with the metadata as header.


def to_safetensors(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The content of a .safetensors file."""
    tensors = {name: tensor.contiguous() for name, tensor in state.items()}
    return save(tensors, {**metadata, "format": "pt"})  # "format": what other programs look for


def check_safetensors(
    path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Raise RunError unless the file at ``path`` holds these tensors, bit for bit, and metadata."""
    with safe_open(path, framework="pt") as file:
        if not metadata.items() <= (file.metadata() or {}).items():
            raise RunError(f"{path}: its metadata are not those that were written")
        names = set(file.keys())
        wrong = [
            name
            for name, tensor in state.items()
            if name not in names or not _same_bits(file.get_tensor(name), tensor)
        ]
    if wrong or len(names) != len(state):
        named = wrong or sorted(names - state.keys())
        raise RunError(f"{path}: {named[0]} is not as it was written ({len(named)} such tensors)")


def _same_bits(a: Tensor, b: Tensor) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return torch.equal(*(x.reshape(-1).contiguous().view(torch.uint8) for x in (a, b)))
