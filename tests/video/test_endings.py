"""Files of every listed ending: FFmpeg has the demuxer, and the frames are the right ones."""

import random
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import pytest
from av.video.stream import VideoStream

from slowfast_dist.commands.serve.upload import HEAD_BYTES, is_video_format
from slowfast_dist.data.listing.scan import VIDEO_SUFFIXES, is_video
from slowfast_dist.video.container import ENDINGS
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import read_frames
from tests.helpers.training_runs import ROOT
from tests.helpers.video_kinds import Kind, Videos, read_number, write

X265 = {"x265-params": "keyint=12:bframes=3:pools=1:log-level=none"}

FILES: dict[str, Kind] = {
    # Streams without a container: no times, and with B-frames packets are not in order.
    "h264": Kind(".h264", format="h264"),
    "264": Kind(".264", format="h264"),
    "hevc": Kind(".hevc", "libx265", X265, format="hevc"),
    "m2v": Kind(".m2v", "mpeg2video", {}, format="mpeg2video", b_frames=2),
    "m1v": Kind(".m1v", "mpeg1video", {}, format="mpeg1video", b_frames=2),
    "y4m": Kind(".y4m", "wrapped_avframe", {}, format="yuv4mpegpipe"),
    "obu": Kind(".obu", "libsvtav1", {"preset": "12"}, format="obu"),
    "ivf": Kind(".ivf", "libvpx", {"cpu-used": "8"}, format="ivf"),
    "mjpeg": Kind(".mjpeg", "mjpeg", {}, format="mjpeg", pix_fmt="yuvj420p"),
    "dv": Kind(".dv", "dvvideo", {}, format="dv", size=(576, 720), frames=12),
    # Containers.
    "gif": Kind(".gif", "gif", {}, pix_fmt="rgb8"),
    "apng": Kind(".apng", "apng", {}, format="apng", pix_fmt="rgb24"),
    "mxf": Kind(".mxf", "mpeg2video", {}, format="mxf", b_frames=2),
    "gxf": Kind(".gxf", "mpeg2video", {}, format="gxf", size=(576, 720), frames=12,
                pix_fmt="yuv422p"),
    "vob": Kind(".vob", "mpeg2video", {}, format="vob", b_frames=2),
    "asf": Kind(".asf", "wmv2", {}, format="asf"),
    "ogm": Kind(".ogm", "libvpx", {"cpu-used": "8"}, format="ogg"),
    "3g2": Kind(".3g2", format="3g2"),
    "f4v": Kind(".f4v", format="f4v"),
    "qt": Kind(".qt", format="mov"),
    "insv": Kind(".insv", format="mp4"),
    "nut": Kind(".nut", "mpeg4", {}, format="nut", b_frames=2),
    "rm": Kind(".rm", "rv20", {}, format="rm", size=(96, 128)),
    "m2t": Kind(".m2t", format="mpegts"),
    "wtv": Kind(".wtv", "mpeg2video", {}, format="wtv", b_frames=2),
    "mk3d": Kind(".mk3d", format="matroska"),
}  # fmt: skip

NO_UPLOAD = {"apng", "mjpeg"}
"""Which a single picture begins as, too: the server takes none."""


@pytest.mark.parametrize("ending", FILES)
def test_every_frame_is_that_of_a_full_decode(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"x.{ending}", FILES[ending])
    assert is_video(path.name.encode()) and is_video(path.name.upper().encode())
    info = probe_file(path)
    expected = Videos.whole(path)
    assert info.frames == len(expected) == FILES[ending].frames
    rate = 0 if ending in ("obu", "mjpeg") else 25  # nothing in the file tells one
    assert info.fps == pytest.approx(rate, abs=0.01)
    order = random.Random(0).sample(range(info.frames), info.frames)
    for first in range(0, len(order), 7):
        part = order[first : first + 7]
        for number, frame in zip(part, read_frames(path, np.array(part), info, "auto", None),
                                 strict=True):  # fmt: skip
            assert np.array_equal(frame, expected[number]), number
            assert read_number(frame) == number
    with open(path, "rb") as file:
        assert is_video_format(file.read(HEAD_BYTES)) == (ending not in NO_UPLOAD)


def test_ffmpeg_has_the_demuxers_and_they_are_those_of_the_endings() -> None:
    claims = {names: av.ContainerFormat(names.split(",")[0], "r").extensions for names in ENDINGS}
    for names, endings in ENDINGS.items():
        for ending in endings.split():
            claimed = {other for other, theirs in claims.items() if ending in theirs}
            assert not claimed or names in claimed, (names, ending)


def test_an_ending_is_listed_once() -> None:
    assert len(VIDEO_SUFFIXES) == sum(len(endings.split()) for endings in ENDINGS.values())


@pytest.mark.parametrize(
    "name", ["a.jpg", "a.png", "a.webp", "a.heic", "a.txt", "a.csv", "a.mp3", "a.m4a", "a.wav",
             "a.dat", "a.bin", "a.img", "a.yuv", "a.m3u8", "a.py", "a", ".mp4", "mp4"],
)  # fmt: skip
def test_other_files_are_no_videos(name: str) -> None:
    assert not is_video(name.encode())


def test_the_documentation_lists_every_ending() -> None:
    page = (ROOT / "docs" / "data.md").read_text()
    table = page[page.index("| | endings |") : page.index("Files named webp")]
    assert set(table.replace("|", " ").split()) >= set(" ".join(ENDINGS.values()).split())


@pytest.mark.parametrize(
    ("codec", "ending", "rate"),
    [
        ("libx264", "h264", 30),
        ("mpeg2video", "m2v", 30),
        ("mpeg4", "m4v", 10),
        ("mjpeg", "mjpeg", 0),
    ],
)
def test_the_rate_of_a_stream_without_a_container_is_its_own_or_none(
    tmp_path: Path, codec: str, ending: str, rate: int
) -> None:
    """FFmpeg says 25 of all of them."""
    path = tmp_path / f"a.{ending}"
    form = {"m2v": "mpeg2video"}.get(ending, ending)
    with av.open(str(path), "w", format=form) as file:
        stream = cast(VideoStream, file.add_stream(codec, rate=rate or 30))
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(20):
            pixels = np.full((48, 64, 3), 10 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels).reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, rate or 30)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    info = probe_file(path)
    assert (info.frames, info.fps, info.mean_rate()) == (20, rate, rate)
