#!/usr/bin/env bash
# torch 2.13.0 with onnxscript 0.7.2: after torch.onnx.export (dynamo) the weights of the exported
# network stay in memory for as long as the process lives, though the network, the program and the
# ONNX model are let go of and collected: matchers of onnxscript's optimizer rules, which are objects
# of its modules, keep the node that they were last tried on, and so its whole graph. The next export
# replaces them with its own. Taking the tensors out of the program's graph (const_value of its
# initializers) lets go of them. Ends with 0 where that is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    torch==2.13.0 onnx==1.23.2 onnx-ir==1.1.0 onnxscript==0.7.2 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - 2>/dev/null <<'P'
import gc
import sys
import weakref
from importlib.metadata import version

import torch


def export(take_out):
    """Exports a network of 16 MB, lets go of everything; what tells whether its weights are there."""
    network = torch.nn.Sequential(torch.nn.Linear(2000, 2000), torch.nn.ReLU()).eval()
    weights = weakref.ref(network[0].weight)
    program = torch.onnx.export(network, (torch.zeros(1, 2000),), dynamo=True, verbose=False)
    if take_out:
        for value in program.model.graph.initializers.values():
            value.const_value = None
    del network, program
    gc.collect()
    return weights


first = export(False)
kept = first() is not None
second = export(False)
replaced = first() is None and second() is not None
third = export(True)
print(f"torch {version('torch')}, onnxscript {version('onnxscript')}: after an export its weights are "
      f"{'still there' if kept else 'gone'}; after a second one the first's are "
      f"{'gone and its own there' if replaced else 'not replaced'}; taken out of the graph they are "
      f"{'gone' if third() is None else 'still there'}")
sys.exit(not (kept and replaced and third() is None))
P
