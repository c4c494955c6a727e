#!/usr/bin/env bash
# openvino 2026.4.1: a compiled model that CACHE_DIR keeps is not checked when it is read. Where a
# few bytes of its weights are damaged, as by a bad disk or an unlucky copy, compile_model takes it
# without a word, and the model gives other answers. A file that is cut short is noticed, and made
# anew. Expected: a digest, as of any cache, so that a damaged file counts for none.
# Ends with 0 where that is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check openvino==2026.4.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from pathlib import Path

import numpy as np
import openvino
from openvino import opset13 as ops

SIDE = 512
weights = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
given = ops.parameter([1, SIDE], np.float32, name="given")
model = openvino.Model([ops.matmul(given, ops.constant(weights), False, False)], [given], "one")
openvino.save_model(model, "one.xml", compress_to_fp16=False)
ones = np.ones((1, SIDE), np.float32)


def answer():
    core = openvino.Core()
    core.set_property({"CACHE_DIR": "cache"})
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    return core.compile_model(core.read_model("one.xml"), "CPU", settings)(ones)[0].copy()


right = answer()
assert np.array_equal(answer(), right)  # from the cache
[path] = Path("cache").glob("*.blob")
whole = path.read_bytes()
place = whole.index(weights.tobytes()[:64]) + 4096


def after(content):
    path.chmod(0o600)
    path.write_bytes(content)
    return float(np.abs(answer() - right).max())


of_cut = after(whole[: len(whole) // 2])
of_damaged = after(whole[:place] + bytes(1024) + whole[place + 1024 :])
print(f"openvino {openvino.__version__}: answers off by {of_cut} after a cut, {of_damaged:.3g} "
      "after 1024 bytes of zeros, without an error")
raise SystemExit(0 if of_cut == 0 and of_damaged > 0.01 else "changed")
PYTHON
