"""The network as one graph from pixels to logits, and that graph as an ONNX file."""

import copy
import gc
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slowfast_dist.inference.backends.openvino_runtime import openvino_core
from slowfast_dist.inference.metadata import InputType, as_strings
from slowfast_dist.model.blocks import apart, frames_at_once, is_stem, stem_layer
from slowfast_dist.model.folding import folded
from slowfast_dist.model.inputs import slow_indices
from slowfast_dist.model.slowfast import SlowFast
from slowfast_dist.runs.best_model import BestModel
from slowfast_dist.system.memory import give_back_free_memory

if TYPE_CHECKING:  # it is an extra that not every installation has
    import onnx
    import openvino

OPSET = 18
"""The ONNX operator set, which torch's exporter writes without converting; onnxruntime takes it
since 1.14 (2023)."""

EXAMPLE_BATCH = 2
"""Clips of the example that a graph is traced with: of one, torch would take the batch for a
constant."""


class _Stem(nn.Module):
    """The folded first block of a pathway, its pixels and frames rearranged as `stem_layer` says:
    with OpenVINO in bf16 on a CPU with AMX slowfast_r50 answers in .69 of the time so."""

    def __init__(self, module: Any, frames: int) -> None:
        super().__init__()
        conv: nn.Conv3d = module.conv
        assert is_stem(conv) and module.norm is None
        self.at_once = frames_at_once(conv, frames)
        layer = stem_layer(conv, conv.weight, conv.bias, self.at_once)
        assert layer.bias is not None  # the BatchNorm's shift
        self.weight: Tensor
        self.bias: Tensor
        self.register_buffer("weight", layer.weight)
        self.register_buffer("bias", layer.bias)
        self.stride, self.padding, self.pool = layer.stride, layer.padding, module.pool

    def forward(self, clip: Tensor) -> Tensor:
        pixels = _space_to_depth(clip, self.at_once)
        x = F.conv3d(pixels, self.weight, self.bias, self.stride, self.padding)
        return apart(self.pool(F.relu(x)), self.at_once)


def _space_to_depth(clip: Tensor, at_once: int) -> Tensor:
    """`blocks.space_to_depth` of operations that can be traced, and with a single transposition:
    two took 6 % of OpenVINO's time (slowfast_r50, bf16 with AMX)."""
    b, c, t, height, width = clip.shape
    clip = F.pad(clip, (4, 2 + width % 2, 4, 2 + height % 2))
    h, w = clip.shape[3] // 2, clip.shape[4] // 2
    parts = clip.view(b, c, t // at_once, at_once, h, 2, w, 2)
    return parts.permute(0, 3, 5, 7, 1, 2, 4, 6).flatten(1, 4)


class ExportGraph(nn.Module):
    """video (B, 3, T, H, W), RGB, uint8 in 0..255 or float32 in 0..1 -> logits (B, K).

    Normalisation and the split into pathways are inside, BatchNorm is folded into the convolutions.
    The network that it is made from stays as it is.
    """

    def __init__(self, network: SlowFast, num_frames: int, input_type: InputType) -> None:
        super().__init__()
        self.num_frames, self.input_type = num_frames, input_type
        self.slow: Tensor
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("slow", slow_indices(num_frames, network.description))
        for name in ("mean", "std"):
            channels = torch.tensor(getattr(network.description, name)).view(3, 1, 1, 1)
            self.register_buffer(name, channels)
        mine = folded(network).blocks
        # Its convolutions are copies already: a second one of all weights would be let go of.
        others = {id(tensor) for tensor in (*network.parameters(), *network.buffers())}
        own = {id(tensor): tensor for tensor in mine.parameters() if id(tensor) not in others}
        self.blocks = copy.deepcopy(mine, own)
        first: Any = self.blocks[0]
        frames = len(self.slow), num_frames
        first.multipathway_blocks = nn.ModuleList(map(_Stem, first.multipathway_blocks, frames))
        self.requires_grad_(False)

    def example(self, side: int) -> Tensor:
        """EXAMPLE_BATCH clips of black frames, of this graph's type and number of frames."""
        dtype = getattr(torch, self.input_type)
        return torch.zeros(EXAMPLE_BATCH, 3, self.num_frames, side, side, dtype=dtype)

    def forward(self, video: Tensor) -> Tensor:
        # A fresh list: pytorchvideo's blocks write into it. The slow frames are picked as they
        # come, where uint8 moves a quarter of what float32 would.
        x: Any = [self._normalised(video.index_select(2, self.slow)), self._normalised(video)]
        for block in self.blocks:
            x = block(x)
        return x

    def _normalised(self, video: Tensor) -> Tensor:
        pixels = video.to(torch.float32)
        if self.input_type == "uint8":
            pixels = pixels / 255
        return (pixels - self.mean) / self.std


def write_onnx(
    network: SlowFast, best: BestModel, input_type: InputType, metadata: Mapping[str, Any]
) -> bytes:
    """An .onnx file, checked with onnx.checker: video (batch, 3, T, S, S) -> logits (batch, K)."""
    import onnx

    program = _exported(network, best, input_type)
    model = program.model_proto
    _forget_the_weights(program)
    del program
    gc.collect()
    _forget_the_source(model)
    model.graph.name = metadata["model"]
    onnx.helper.set_model_props(model, as_strings(metadata))
    content = model.SerializeToString()
    del model
    onnx.checker.check_model(content, full_check=True)
    return content


def openvino_model(
    network: SlowFast, best: BestModel, input_type: InputType = "uint8"
) -> "openvino.Model":
    """The same graph as OpenVINO has it, which reads ONNX as it is."""
    # By files, the weights in one of their own: OpenVINO maps that one, and a second copy of them
    # in memory, as bytes, is never made.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder, "model.onnx")
        program = _exported(network, best, input_type)
        program.save(path, external_data=True)
        _forget_the_weights(program)
        del program
        gc.collect()
        give_back_free_memory()
        return openvino_core().read_model(path)


def _exported(
    network: SlowFast, best: BestModel, input_type: InputType
) -> "torch.onnx.ONNXProgram":
    graph = ExportGraph(network, best.data.num_frames, input_type)
    program = torch.onnx.export(
        graph, (graph.example(best.data.crop_size),), dynamo=True, opset_version=OPSET,
        input_names=["video"], output_names=["logits"], verbose=False,
        dynamic_shapes={"video": {0: torch.export.Dim("batch", min=1)}},
    )  # fmt: skip
    assert program is not None
    return program


def _forget_the_weights(program: "torch.onnx.ONNXProgram") -> None:
    """Let go of them, when they are written: rules of onnxscript's optimizer (0.7.2) keep the graph
    that they were last tried on for as long as the process lives."""
    for value in program.model.graph.initializers.values():
        value.const_value = None


def _forget_the_source(model: "onnx.ModelProto") -> None:
    """Take out what torch.onnx notes of each node: lines and paths of the code it came from."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for tensor in graph.initializer:
        tensor.ClearField("metadata_props")
