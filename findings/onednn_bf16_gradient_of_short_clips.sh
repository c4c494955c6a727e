#!/usr/bin/env bash
# torch 2.13.0 on a CPU with AVX512-bf16 and without AMX (seen on AMD EPYC): the gradient of a bf16
# Conv3d's weights is not computed where a clip has fewer frames than the kernel and is padded, as 2
# frames under a kernel of 3 with padding 1: it holds what the memory held before, silently. oneDNN's
# kernel is jit_bf16:avx512_core_bf16, backward_weights. 3 frames, float32, and the same frames padded
# before the convolution are right. SlowFast's slow pathway has 2 frames for a clip of 8.
# Ends with 0 where that is still so, and where the CPU has no such kernel.
set -euo pipefail
if ! grep -qw avx512_bf16 /proc/cpuinfo || grep -qw amx_bf16 /proc/cpuinfo; then
    echo "not applicable: this CPU has no AVX512-bf16, or has AMX" && exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'P'
import sys

import torch
import torch.nn.functional as F


def error(frames, before):
    """Largest relative error of 10 weight gradients in bf16, NaN counted as infinite."""
    torch.manual_seed(0)
    x = torch.randn(2, 64, frames, 4, 4).bfloat16()
    weight = (0.05 * torch.randn(64, 64, 3, 1, 1)).bfloat16()
    direction = torch.randn(2, 64, frames, 4, 4).bfloat16()
    x = F.pad(x, (0, 0, 0, 0, before, before))

    def gradient(dtype):
        w = weight.to(dtype).requires_grad_()
        y = F.conv3d(x.to(dtype), w, padding=(1 - before, 0, 0))
        garbage = [torch.full((4096 << power,), float("nan")).to(dtype) for power in range(9)]
        del garbage  # freed memory that shows where it is read
        return torch.autograd.grad(y, w, direction.to(dtype))[0].float()

    exact = gradient(torch.float32)
    errors = [((gradient(torch.bfloat16) - exact).norm() / exact.norm()).nan_to_num(float("inf"))
              for _ in range(10)]
    return float(max(errors))


short, enough, padded = error(2, 0), error(3, 0), error(2, 1)
print(f"torch {torch.__version__}: relative error of the weights' gradient in bf16: 2 frames {short},"
      f" 3 frames {enough:.4f}, 2 frames padded before {padded:.4f}")
sys.exit(not (short > 0.02 and enough < 0.02 and padded < 0.02))
P
