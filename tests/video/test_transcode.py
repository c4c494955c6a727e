"""A prepared video shows what its source shows, frame by frame, at the same times."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import read_frames
from slowfast_dist.video.transcode import KEY_INTERVAL, Transcoded, prepared_size, transcode
from slowfast_dist.video.writer import WriteError

Frames = NDArray[np.uint8]

SHARP = {"crf": "10"}
"""Little coding error, so that any other one is seen."""


def read(path: Path) -> Frames:
    info = probe_file(path)
    return read_frames(path, np.arange(info.frames), info, "pyav", None)


def shrunk(frames: Frames, like: Frames) -> Frames:
    """Each scaled to the size of ``like``, by another way than the one that is tested."""
    height, width = like.shape[1:3]
    small = [
        av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        .reformat(width=width, height=height, interpolation="AREA")
        .to_ndarray()
        for frame in frames
    ]
    return np.stack(small)


def psnr(a: Frames, b: Frames) -> float:
    """In decibels, of the brightness of the worst frame; colour is coarser."""
    errors = (np.square(a.mean(axis=-1) - b.mean(axis=-1))).mean(axis=(1, 2))
    return float(10 * np.log10(255**2 / max(errors.max(), 1e-9)))


def times(path: Path) -> list[Fraction]:
    """Seconds from the first frame on, of all frames, by a full decode."""
    with av.open(str(path)) as container:
        stamps = [
            frame.pts * frame.time_base
            for frame in container.decode(video=0)
            if frame.pts is not None and frame.time_base is not None
        ]
    return [stamp - stamps[0] for stamp in stamps]


def keyframes(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    shown = sorted(packets, key=lambda packet: packet.pts or 0)
    return [number for number, packet in enumerate(shown) if packet.is_keyframe]


def test_frame_by_frame_it_is_the_source(videos: Any, kind: str, tmp_path: Path) -> None:
    source, target = videos.path(kind), tmp_path / "out.mp4"
    before, after = probe_file(source), transcode(source, target, 48, encoder=SHARP)
    info = probe_file(target)
    assert after == Transcoded(before.frames, info.width, info.height, target.stat().st_size)
    assert info.frames == before.frames and min(info.width, info.height) == 48
    assert info.codec == "h264" and info.decord_exact and info.by_packets
    frames, result = read(source), read(target)
    numbers = [videos.number(frame) for frame in frames]
    assert [videos.number(frame) for frame in result] == numbers
    assert psnr(shrunk(frames, result), result) > 25
    assert keyframes(target) == list(range(0, info.frames, KEY_INTERVAL))
    if before.by_packets:  # else the source does not say when
        # Of those that are out of order, what is shown n-th has the n-th time.
        assert times(target) == sorted(times(source))


def test_variable_frame_rate_stays(videos: Any, tmp_path: Path) -> None:
    source, target = videos.path("H.264 variable frame rate"), tmp_path / "out.mp4"
    transcode(source, target, 48)
    assert len({b - a for a, b in pairwise(times(target))}) > 20
    assert probe_file(target).fps == pytest.approx(probe_file(source).fps, rel=0.05)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_it_stands_upright(videos: Any, tmp_path: Path, rotation: int) -> None:
    kind = replace(videos.kinds["H.264"], rotation=rotation, frames=20)
    source, target = videos.write(tmp_path / "source.mp4", kind), tmp_path / "out.mp4"
    transcode(source, target, 48, encoder=SHARP)
    info = probe_file(target)
    assert info.rotation == 0
    assert (info.width, info.height) == ((96, 48) if rotation == 180 else (48, 96))
    assert psnr(shrunk(read(source), read(target)), read(target)) > 25


COLOURS = [
    ("yuv420p", None, 0),
    ("yuv420p", "ITU601", 1),
    ("yuv420p", "ITU709", 1),
    ("yuv420p", "ITU709", 2),
    ("yuvj420p", None, 0),
    ("yuv444p", "ITU709", 2),
    ("yuv420p10le", "BT2020", 1),
    ("yuv422p10le", "ITU709", 1),
    ("gray", None, 0),
    ("rgb24", None, 0),
]
"""Pixel format, matrix, range (1 limited, 2 full)."""


@pytest.mark.parametrize(("pix_fmt", "matrix", "scale"), COLOURS)
def test_colours_stay(tmp_path: Path, pix_fmt: str, matrix: str | None, scale: int) -> None:
    """Whatever the source's matrix, range and depth, for both decoders."""
    image = np.zeros((64, 128, 3), np.uint8)
    patches = [(230, 20, 20), (20, 220, 30), (10, 20, 240), (255, 255, 255), (0, 0, 0)]
    for number, colour in enumerate(patches):
        image[:, 24 * number : 24 * (number + 1)] = colour
    source, target = tmp_path / "source.mp4", tmp_path / "out.mp4"
    with av.open(str(source), "w") as container:
        codec = "libx264rgb" if pix_fmt == "rgb24" else "libx264"
        stream = container.add_stream(codec, rate=25, options={"qp": "4"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 128, 64, pix_fmt
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
                format=pix_fmt, dst_colorspace=matrix, dst_color_range=scale or None
            )
            if number == 0 and matrix is not None:
                stream.codec_context.colorspace = frame.colorspace
                stream.codec_context.color_range = scale
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    transcode(source, target, 64, encoder={"qp": "4"})
    info = probe_file(target)
    with av.open(str(target)) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
    expected = read(source).astype(float)
    for decoder in ("pyav", "decord"):
        found = read_frames(target, np.arange(3), info, decoder, None).astype(float)
        for number in range(len(patches)):
            patch = np.s_[:, 4:-4, 24 * number + 6 : 24 * number + 18]
            error = np.abs(found[patch] - expected[patch]).mean(axis=(0, 1, 2))
            assert error.max() < 3, (decoder, patches[number], error)


@pytest.mark.parametrize(
    ("width", "height", "short_side", "expected"),
    [
        (1920, 1080, 320, (568, 320)),  # 568.9
        (1080, 1920, 320, (320, 568)),
        (454, 256, 320, (454, 256)),
        (301, 225, 320, (302, 226)),
        (1, 4000, 320, (2, 4000)),
        (640, 480, 240, (320, 240)),
    ],
)
def test_the_size_is_even_and_never_more_than_a_pixel_larger(
    width: int, height: int, short_side: int, expected: tuple[int, int]
) -> None:
    assert prepared_size(width, height, short_side) == expected


def test_an_odd_size_keeps_its_whole_picture(videos: Any, tmp_path: Path) -> None:
    source, target = videos.path("H.264 odd size 4:4:4"), tmp_path / "out.mp4"
    transcode(source, target, 320, encoder=SHARP)
    frames, result = read(source), read(target)
    assert (frames.shape[1:3], result.shape[1:3]) == ((97, 131), (98, 132))
    assert psnr(shrunk(frames, result), result) > 27


def test_a_change_of_size_and_of_the_clock_within_the_stream(videos: Any, tmp_path: Path) -> None:
    """As of two recordings one behind the other: the second one's times begin anew."""
    kind = replace(videos.kinds["H.264 MPEG-TS"], frames=10)
    small = videos.write(tmp_path / "small.ts", kind)
    large = videos.write(tmp_path / "large.ts", replace(kind, size=(96, 160)))
    both, target = tmp_path / "both.ts", tmp_path / "out.mp4"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    assert transcode(both, target, 48).frames == 20
    assert [videos.number(frame) for frame in read(target)] == [*range(10), *range(10)]
    stamps = times(target)
    assert all(a < b for a, b in pairwise(stamps))


def test_damage_in_the_middle_is_found(videos: Any, tmp_path: Path) -> None:
    content = bytearray(videos.path("H.264").read_bytes())
    with av.open(str(videos.path("H.264"))) as container:
        found = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    for start, size in found[20:26]:
        assert start is not None
        content[start : start + size] = bytes(size)
    source = tmp_path / "video.mp4"
    source.write_bytes(content)
    assert probe_file(source).frames == 40  # which looks at its ends
    with pytest.raises(DecodeError, match=r"decoding failed at frame \d\d of 40"):
        transcode(source, tmp_path / "out.mp4", 48)


def test_what_h264_cannot_hold_is_the_fault_of_the_source(videos: Any, tmp_path: Path) -> None:
    kind = replace(videos.kinds["MPEG-4"], size=(2, 8000), frames=2)
    source = videos.write(tmp_path / "long.mp4", kind)
    with pytest.raises(DecodeError, match="cannot be written as H.264 of 8000 x 2 pixels"):
        transcode(source, tmp_path / "out.mp4", 320, encoder={"preset": "no such preset"})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_no_fault_of_the_source(videos: Any, tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="No space left on device"):
        transcode(videos.path("H.264"), Path("/dev/full"), 48)
    with pytest.raises(WriteError, match="No such file"):
        transcode(videos.path("H.264"), tmp_path / "nowhere" / "out.mp4", 48)


def test_real_videos(real_data: Path, tmp_path: Path) -> None:
    """Rotated, 10 bit, variable frame rate, AV1 and VP9, an AVI, a count that lies."""
    for name in (
        "rot90_3frames.mov", "rot270_3frames.mov", "h264_10bit.mp4", "hevc_10bit.mp4",
        "vfr_webcam_fall.mp4", "av1_24frames.mp4", "vp9_no_duration.webm", "wlasl_wrong_len.mp4",
        "unordered_pts_4frames.mov", "gray_16x16_256frames.mp4", "hevc_1frame.mp4",
    ):  # fmt: skip
        source, target = real_data / "odd" / name, tmp_path / "out.mp4"
        before = probe_file(source)
        assert transcode(source, target, 128, encoder=SHARP).frames == before.frames, name
        info = probe_file(target)
        assert info.decord_exact and info.rotation == 0
        chosen = np.unique(np.linspace(0, before.frames - 1, 7).astype(int))
        frames = read_frames(source, chosen, before, "pyav", None)
        result = read_frames(target, chosen, info, "auto", None)
        small = shrunk(frames, result)
        assert psnr(small, result) > 28, name
        if before.frames > 20:  # and not those of a neighbour
            moved = np.roll(small, 1, axis=0)
            assert psnr(moved, result) < psnr(small, result) - 3, name
