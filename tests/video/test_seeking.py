"""The times of frames: what the probe keeps of them is what a decode gives."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.clips import clip_indices
from slowfast_dist.video import packets
from slowfast_dist.video.container import open_video
from slowfast_dist.video.ordered_reader import open_in_order
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.video.seeking import pack_uneven_times, unpack_uneven_times
from tests.helpers.clip_times import decoded_times, nearest_frames
from tests.helpers.shapes import write_disc

THIRTY = DataConfig(num_frames=16, sampling_rate=2, frame_rate=30.0)


def times_of(path: Path) -> tuple[VideoInfo, np.ndarray, list[Fraction]]:
    """The probe, its times, and those of a decode."""
    info = probe_file(path)
    times = info.times()
    assert times is not None
    return info, times, decoded_times(path)


def test_times_of_every_kind_are_those_of_a_decode(videos: Any, kind: str) -> None:
    """To a tick where a file rounds them: Matroska's are milliseconds."""
    info, times, decoded = times_of(videos.path(kind))
    if "AVI" in kind:  # it has no times: FFmpeg makes them up in the order of the packets
        decoded.sort()
    if info.moved_frames:  # what is shown n-th is shown at the n-th of the times
        decoded = [time - min(decoded) for time in sorted(decoded)]
    np.testing.assert_allclose(times, [float(time) for time in decoded], atol=1.001e-3)
    with open_in_order(videos.path(kind), info) as frames:
        assert frames.times.starts.tolist() == times.tolist()


def write(path: Path, ticks: list[int], rate: int = 30, codec: str = "libx264") -> Path:
    """A video whose frames are shown at ``ticks`` of 1/90000 s, in a container of that name."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 90_000)
        for number, tick in enumerate(ticks):
            image = np.full((32, 64, 3), 5 * number % 250, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = tick, stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".mov", ".flv"])
@pytest.mark.parametrize(
    "gaps",
    [
        (2000, 4000),  # a phone's, which come early and late
        (3000, 3000, 3000, 90_000),  # a webcam's, which stops
        (1500,),  # 60 a second, though the header may say 30
        (9000,),
        (3003,),
    ],
)
def test_a_clip_by_time_is_the_nearest_frames_of_a_decode(
    tmp_path: Path, suffix: str, gaps: tuple[int, ...]
) -> None:
    steps = [gaps[number % len(gaps)] for number in range(90)]
    path = write(tmp_path / f"v{suffix}", np.cumsum([0, *steps]).tolist())
    info, _, decoded = times_of(path)
    assert len(decoded) == info.frames
    for position in (0.0, 0.3, 0.5, 1.0):
        clip = clip_indices(info, THIRTY, position).tolist()
        assert clip == nearest_frames(decoded, clip[0], 16, Fraction(2, 30))


@pytest.mark.parametrize(
    "name", ["vfr_webcam_fall.mp4", "vp9_no_duration.webm", "wlasl_1080p_60fps.mp4"]
)
def test_real_uneven_videos(real_data: Path, name: str) -> None:
    info, times, decoded = times_of(real_data / "odd" / name)
    assert info.uneven_times
    np.testing.assert_allclose(times, [float(time) for time in decoded], atol=1e-9)
    for position in np.linspace(0, 1, 9):
        clip = clip_indices(info, THIRTY, float(position)).tolist()
        assert clip == nearest_frames(decoded, clip[0], 16, Fraction(2, 30))


def test_only_what_does_not_follow_from_the_rate_is_kept() -> None:
    ms = Fraction(1, 1000)
    matroska = [round(1000 * number / 30) for number in range(900)]
    assert pack_uneven_times(matroska, ms, 30.0) == ""
    assert pack_uneven_times(matroska, ms, 29.97) != ""  # a header that lies
    assert pack_uneven_times(matroska, ms, 0.0) != ""  # one that says nothing
    for unusable in ([0], [], [0, None, 66], [0, 33, 33], [0, 66, 33]):
        assert pack_uneven_times(unusable, ms, 25.0) == ""
    assert pack_uneven_times([0, 50, 66], None, 25.0) == ""


def test_an_hour_of_a_phones_times_is_small() -> None:
    rng = np.random.default_rng(0)
    ticks = np.cumsum(np.append(0, rng.integers(2900, 3100, 108_000)))
    text = pack_uneven_times(ticks.tolist(), Fraction(1, 90_000), 30.0)
    np.testing.assert_allclose(unpack_uneven_times(text), ticks / 90_000, rtol=1e-12)
    print(f"measured: {len(text)} bytes, {len(text) / len(ticks):.2f} a frame")
    assert len(text) < 2 * len(ticks)


@pytest.mark.parametrize("text", ["1/30000", "1/30000 ?", "0 c", "1/0 c", "x c", "1/30 000"])
def test_what_is_no_such_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        unpack_uneven_times(text)


def test_of_a_file_with_one_keyframe_few_packets_are_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_disc(tmp_path / "a.mp4", 96, 128, None, frames=60, options={"g": "600"})
    monkeypatch.setattr(packets, "KEEP_BYTES", 2000)
    with open_video(path) as (container, stream):
        scan = packets._scan(container, stream)
        sizes = [packet.size for packet in scan.start]
    assert (sum(scan.keys), len(scan.times)) == (1, 60) and scan.kept is None
    assert sum(sizes[:-1]) <= 2000 < sum(sizes)
