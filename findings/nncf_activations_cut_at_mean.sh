#!/usr/bin/env bash
# nncf 3.4.0 with openvino 2026.4.1: nncf.quantize with its defaults takes for the range of an
# activation the mean over the calibration's samples of each sample's largest and smallest value, not
# the largest of all. Values beyond are cut: of a layer with few values a sample, as pooled features or
# logits, about half of the samples that calibrated it lose their largest value. A range estimator of
# max and min (advanced_parameters) keeps them. Ends with 0 where that is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    nncf==3.4.0 openvino==2026.4.1 numpy==2.4.6
NNCF_CI=1 "$folder/venv/bin/python" - 2>/dev/null <<'P'
import sys

import nncf
import numpy as np
import openvino as ov
from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
from nncf.quantization.range_estimator import RangeEstimatorParametersSet
from openvino import opset13 as op

x = op.parameter([1, 4], np.float32, name="x")
model = ov.Model([op.matmul(x, op.constant(np.eye(4, dtype=np.float32)), False, False)], [x])
samples = [np.full((1, 4), largest, np.float32) for largest in range(1, 11)]


def largest_answer(**given):
    found = nncf.quantize(model, nncf.Dataset(samples), **given)
    compiled = ov.compile_model(found, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return float(compiled(samples[-1])[0].max())


usual = largest_answer()
kept = largest_answer(advanced_parameters=AdvancedQuantizationParameters(
    activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX))
print(f"nncf {nncf.__version__}, openvino {ov.__version__}: calibrated on 1 to 10, an identity makes "
      f"of 10 by default {usual:.2f}, with the range of all {kept:.2f}")
sys.exit(not (usual < 6 and kept > 9.9))
P
