#!/usr/bin/env bash
# PyAV 18.1.0 with its SVT-AV1 4.1.0 (libsvtav1), on Linux as root, as in most containers: whoever
# encodes a single AV1 video leaves the thread that did so, as a rule the program's main one, under
# SCHED_FIFO at 99, the highest real-time priority that there is, also after the encoder was closed;
# threads and processes that it starts from then on inherit it. What it computes later keeps every
# other process off its core but for the 5 % that the kernel takes back. Nothing says so; nice does
# not touch it. os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0)) ends it. Encoded in a
# process of its own, it ends with that. libx264 leaves the priority alone.
# Needs root. Ends with 0 where that is still so.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "only as root does the encoder change its priority" >&2; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
cd "$folder"
SVT_LOG=1 "$folder/venv/bin/python" - <<'PYTHON'
import os
import subprocess
import sys

import av
import numpy as np

ASK = "import os; print(os.sched_getscheduler(0), os.sched_getparam(0).sched_priority)"


def priority():
    return os.sched_getscheduler(0), os.sched_getparam(0).sched_priority


def after(codec):
    with av.open(f"{codec}.mp4", "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame) + stream.encode())
    return priority()


before, x264, svt = priority(), after("libx264"), after("libsvtav1")
child = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True).stdout.split()
child = tuple(map(int, child))
print(f"PyAV {av.__version__}, libavcodec {av.library_versions['libavcodec']}: policy and priority "
      f"before {before}, after libx264 {x264}, after libsvtav1 {svt}, of a child then {child}")
usual, highest = (os.SCHED_OTHER, 0), (os.SCHED_FIFO, 99)
same = (before, x264, svt, child) == (usual, usual, highest, highest)
raise SystemExit(0 if same else "changed")
PYTHON
