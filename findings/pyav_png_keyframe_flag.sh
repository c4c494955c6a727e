#!/usr/bin/env bash
# PyAV 18.1.0 (libavcodec 62.28): three PNG images, each whole, given to one PNG decoder as packets
# that were made from their bytes, come out as other pictures: grey values 10, 20, 30 are read as
# 10, 30, 60, each with those before it added. A packet that is made so is not marked as a keyframe,
# and FFmpeg's decoder then takes the image for a difference to the pictures before it, without an
# error or a warning. With `packet.is_keyframe = True` all three are right; a container marks its
# packets itself.
# Ends with 0 where that is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    av==18.1.0 numpy==2.4.6 pillow==13.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from io import BytesIO

import av
import numpy as np
from PIL import Image

VALUES = (10, 20, 30)


def png(value):
    content = BytesIO()
    Image.fromarray(np.full((16, 16, 3), value, np.uint8)).save(content, "png")
    return content.getvalue()


def decoded(marked):
    decoder = av.CodecContext.create("png", "r")
    found = []
    for value in VALUES:
        packet = av.Packet(png(value))
        if marked:
            packet.is_keyframe = True
        frames = [*decoder.decode(packet)]
        found += [int(frame.to_ndarray(format="rgb24").mean()) for frame in frames]
    return tuple(found)


as_made, marked = decoded(False), decoded(True)
print(f"PyAV {av.__version__}, libavcodec {av.library_versions['libavcodec']}: values {VALUES} are "
      f"read as {as_made}, marked as keyframes as {marked}")
raise SystemExit(0 if (as_made, marked) == ((10, 30, 60), VALUES) else "changed")
PYTHON
