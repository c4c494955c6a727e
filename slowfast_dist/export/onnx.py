"""ONNX: the graph for onnxruntime and other engines."""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

import torch

from slowfast_dist.config import UserError
from slowfast_dist.export.graph import ExportGraph

if TYPE_CHECKING:
    import onnx

OPSET = 18
"""What torch's exporter writes without converting. onnxruntime takes it since 1.14 (2023)."""

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
