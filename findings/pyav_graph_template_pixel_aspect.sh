#!/usr/bin/env bash
# PyAV 18.1.0: `Graph.add_buffer(template=stream)` gives the filters the stream's size, format and time
# base, but not its sample aspect ratio. So `scale=iw*sar:ih` leaves pixels of 16:11 as they are (176
# columns), where a buffer made with `pixel_aspect=16/11` gives the 256 that a player shows.
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
from av.filter import Graph

with av.open("wide.mp4", "w") as file:
    stream = file.add_stream("mpeg4", rate=25)
    stream.width, stream.height, stream.pix_fmt = 176, 144, "yuv420p"
    stream.codec_context.sample_aspect_ratio = Fraction(16, 11)
    frame = av.VideoFrame(176, 144, "yuv420p")
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    file.mux(stream.encode(frame))
    file.mux(stream.encode(None))
widths = {}
for how in ("template", "arguments"):
    with av.open("wide.mp4") as file:
        stream = file.streams.video[0]
        graph = Graph()
        if how == "template":
            source = graph.add_buffer(template=stream)
        else:
            options = "video_size=176x144:pix_fmt=yuv420p:time_base=1/25:pixel_aspect=16/11"
            source = graph.add("buffer", options)
        scale, sink = graph.add("scale", "iw*sar:ih"), graph.add("buffersink")
        source.link_to(scale)
        scale.link_to(sink)
        graph.configure()
        graph.push(next(file.decode(stream)))
        widths[how] = graph.pull().width
        ratio = stream.sample_aspect_ratio
print(f"PyAV {av.__version__}: stream of 176 columns, ratio {ratio}; columns after the filter {widths}")
raise SystemExit(0 if widths == {"template": 176, "arguments": 256} else "changed")
PYTHON
