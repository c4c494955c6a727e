"""The exported graph is the network: BatchNorm folded, pixels normalised and pathways split."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from slowfast_dist.inference.backends.export_graph import ExportGraph
from slowfast_dist.runs.best_model import read_best


def test_the_graph_gives_what_the_network_gives(run: Path, clips: np.ndarray) -> None:
    network = read_best(run).load()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    frames = torch.from_numpy(clips).permute(0, 1, 4, 2, 3)
    video = frames.permute(0, 2, 1, 3, 4)
    with torch.no_grad():
        expected = network(frames)
        for input_type in ("uint8", "float32"):
            graph = ExportGraph(network, 8, input_type)
            given = video if input_type == "uint8" else video / 255
            torch.testing.assert_close(graph(given), expected, rtol=0, atol=1e-4)
            assert not any(isinstance(part, nn.BatchNorm3d) for part in graph.modules())
        assert expected.std(dim=0).min() > 0.1  # or all clips would be alike to it
        again = network(frames)
    assert torch.equal(again, expected)
    after = network.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
