"""torch.export: a program that loads with torch alone."""

import io
import json
from collections.abc import Mapping
from typing import Any

import torch

from slowfast_dist.export.graph import ExportGraph
from slowfast_dist.export.metadata import PT2_FILE

EXAMPLE_BATCH = 2
"""With 1, torch.export takes the batch for a constant."""


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
