#!/usr/bin/env bash
# PyAV 18.1.0 (libavformat 62.12): of a raw DV file of 25 frames a second `average_rate` is 60000, the
# inverse of the time base, while `guessed_rate` and `base_rate` are 25. A frame takes 2400 ticks.
# Whoever takes `average_rate` for frames a second makes a clip of 2 seconds last 1 millisecond.
# Ends with 0 where that is still so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check av==18.1.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from fractions import Fraction

import av

with av.open("one_second.dv", "w", format="dv") as file:
    stream = file.add_stream("dvvideo", rate=25)
    stream.width, stream.height, stream.pix_fmt = 720, 576, "yuv420p"
    for number in range(25):
        frame = av.VideoFrame(720, 576, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes([8 * number]) * plane.buffer_size)
        frame.pts, frame.time_base = number, Fraction(1, 25)
        file.mux(stream.encode(frame))
    file.mux(stream.encode(None))
with av.open("one_second.dv") as file:
    stream = file.streams.video[0]
    times = [frame.pts for frame in file.decode(stream)]
    steps = {later - earlier for earlier, later in zip(times, times[1:])}
    print(f"PyAV {av.__version__}, libavformat {av.library_versions['libavformat']}: {len(times)} "
          f"frames, average_rate {stream.average_rate}, guessed_rate {stream.guessed_rate}, "
          f"time base {stream.time_base}, ticks from frame to frame {steps}")
    same = (stream.average_rate, stream.guessed_rate, steps) == (60000, 25, {2400})
raise SystemExit(0 if same else "changed")
PYTHON
