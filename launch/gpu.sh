#!/usr/bin/env bash
# What is to be known of a GPU, in one command: the tests that need one, and the training step of
# slowfast_r50 by batch, layout, compile, CUDA graphs and activation checkpoints, against the plain
# loop in bf16, as it comes and in channels_last_3d; where the time goes (trace.json, for
# ui.perfetto.dev), and whether any of it only changes layouts.
#     launch/gpu.sh [FOLDER]        text and JSON go to FOLDER, default runs/gpu
# PYTHON=/path/to/python takes that one in place of .venv. Without a GPU: a dry run of the same
# commands on a small model, which shows that they work and nothing else.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
if [ -z "${PYTHON:-}" ]; then
    source launch/setup.sh
    PYTHON=python
fi
out=${1:-runs/gpu}
mkdir -p "$out"
failed=0

measure() { # NAME FLAG...
    local name=$1
    shift
    echo "== benchmark step $*"
    "$PYTHON" -m slowfast_dist benchmark step "$@" --json >"$out/$name.txt" 2>"$out/$name.log" ||
        { failed=1 && tail -n 3 "$out/$name.log"; }
    tail -n 1 "$out/$name.txt" >"$out/$name.json"
    sed '$d' "$out/$name.txt"
}

if "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    size=(--steps 20)
    batches=(8 16 32 64)
    one=(16)
    half=bf16
else
    echo "No GPU here: a dry run"
    size=(--model slowfast_tiny --num-frames 8 --crop-size 32 --steps 1 --peak-tflops 1
        --peak-gbytes 10)
    batches=(1 2)
    one=(2)
    half=no
fi

"$PYTHON" -m pytest -m gpu -q 2>&1 | tee "$out/tests.txt" | tail -n 25
[ "${PIPESTATUS[0]}" = 0 ] || failed=1
measure step "${size[@]}" --batch-sizes "${batches[@]}" --against plain --plain-precision "$half"
rm -f "$out/trace.json" # of a run before
measure step_profile "${size[@]}" --batch-sizes "${one[@]}" --evaluation false \
    --profile "$out/trace.json"
measure step_plain_channels_last "${size[@]}" --batch-sizes "${batches[@]}" --against plain \
    --plain-precision "$half" --plain-layout channels-last --evaluation false
measure step_fp32 "${size[@]}" --batch-sizes "${one[@]}" --against plain --mixed-precision no
measure step_contiguous "${size[@]}" --batch-sizes "${one[@]}" --layout contiguous
measure step_local_norm "${size[@]}" --batch-sizes "${one[@]}" --norm local
measure step_checkpoint "${size[@]}" --batch-sizes "${one[@]}" --checkpoint-activations
if [ "$half" = bf16 ]; then
    measure step_compiled "${size[@]}" --batch-sizes "${one[@]}" --compile
    measure step_compiled_again "${size[@]}" --batch-sizes "${one[@]}" --compile # from the cache
    measure step_graphs "${size[@]}" --batch-sizes "${one[@]}" --compile \
        --compile-mode reduce-overhead
fi
echo "text and JSON: $out"
exit "$failed"
