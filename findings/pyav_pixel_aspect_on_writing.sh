#!/usr/bin/env bash
# PyAV 18.1.0: a sample aspect ratio set on an output stream goes to the encoder alone. Codecs that carry
# it in their own headers (MPEG-4) keep it in Matroska; FFV1 in Matroska and VP9 in WebM are written
# without it and come back as square pixels, silently, although both containers could hold it. VP9 in
# mp4 keeps it.
# Ends with 0 where that is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check av==18.1.0
cd "$folder"
"$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
from fractions import Fraction

import av

WIDE = Fraction(16, 11)
found = {}
for codec, ending in (("mpeg4", "mkv"), ("ffv1", "mkv"), ("libvpx-vp9", "webm"), ("libvpx-vp9", "mp4")):
    with av.open(f"file.{ending}", "w") as file:
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 176, 144, "yuv420p"
        stream.sample_aspect_ratio = WIDE
        for number in range(3):
            frame = av.VideoFrame(176, 144, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    with av.open(f"file.{ending}") as file:
        found[f"{codec} in {ending}"] = file.streams.video[0].sample_aspect_ratio
print(f"PyAV {av.__version__}, written as {WIDE}, read as:")
for name, ratio in found.items():
    print(f"  {name}: {ratio}")
kept = [ratio == WIDE for ratio in found.values()]
raise SystemExit(0 if kept == [True, False, False, True] else "changed")
PYTHON
