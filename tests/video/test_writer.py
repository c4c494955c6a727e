"""What is written is what was drawn, at its time, with the sound beside it."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import read_frames
from slowfast_dist.video.writer import Sound, VideoWriter, WriteError, can_hold
from tests.helpers.video_kinds import picture

TIMES = [0.0, 0.04, 0.05, 0.3, 0.3000001, 0.9]
"""The fifth is too near to the fourth to be told from it."""


@pytest.mark.parametrize("size", [(16, 16), (97, 131), (720, 400)])
def test_pictures_come_back(tmp_path: Path, size: tuple[int, int]) -> None:
    height, width = size
    pictures = [picture(40 * number, height, width) for number in range(len(TIMES))]
    with VideoWriter(tmp_path / "v.mp4", height, width, 25.0) as writer:
        lengths = [*np.diff(TIMES), 0.5]
        for image, time, seconds in zip(pictures, TIMES, lengths, strict=True):
            writer.write(image, time, seconds)
    info = probe_file(tmp_path / "v.mp4")
    assert (info.height, info.width) == (height + height % 2, width + width % 2)
    frames = read_frames(tmp_path / "v.mp4", np.arange(len(TIMES)), info, "pyav", None)
    for found, image in zip(frames, pictures, strict=True):
        assert np.abs(found[:height, :width].astype(int) - image).mean() < 8
    with av.open(str(tmp_path / "v.mp4")) as container:
        (stream,) = container.streams.video
        assert stream.codec_context.pix_fmt == "yuv420p"
        shown = [float(frame.time) for frame in container.decode(stream)]
        assert stream.duration and stream.time_base
        assert float(stream.duration * stream.time_base) == pytest.approx(1.4, abs=0.01)
    np.testing.assert_allclose(shown, TIMES, atol=2e-5)
    assert len(set(shown)) == len(TIMES)


def with_sound(path: Path, codec: str, rate: int = 25, late: float = 0.0) -> Path:
    """Two seconds of pictures, the first one at ``late`` seconds, and a tone from 0 s on."""
    with av.open(str(path), "w") as container:
        out: Any = container.add_stream("libx264", rate=rate, options={"preset": "ultrafast"})
        out.width = out.height = 32
        out.pix_fmt = "yuv420p"
        tone: Any = container.add_stream(codec, rate=48000)
        tone.layout = "mono"
        for number in range(2 * rate):
            frame = av.VideoFrame.from_ndarray(picture(number, 32, 32), format="rgb24")
            frame.pts, frame.time_base = number + round(late * rate), Fraction(1, rate)
            container.mux(out.encode(frame))
        wave = (8000 * np.sin(np.arange(96000) / 20)).astype(np.int16)
        for first in range(0, 96000, 960):
            sound = av.AudioFrame.from_ndarray(wave[None, first : first + 960], "s16", "mono")
            sound.sample_rate, sound.pts = 48000, first
            container.mux(tone.encode(sound))
        container.mux(tone.encode(None))
        container.mux(out.encode(None))
    return path


def packets_of(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as container:
        return [
            (float(packet.pts * packet.time_base), bytes(packet))
            for packet in container.demux(audio=0)
            if packet.size and packet.pts is not None
        ]


@pytest.mark.parametrize(("codec", "suffix"), [("aac", ".mp4"), ("libopus", ".mkv")])
def test_the_sound_is_copied_in_step(tmp_path: Path, codec: str, suffix: str) -> None:
    source = with_sound(tmp_path / f"source{suffix}", codec, late=0.2)
    with Sound(source) as sound:
        assert sound.stream is not None and can_hold(sound.stream)
        sound.origin = 0.2
        with VideoWriter(tmp_path / "v.mp4", 32, 32, 25.0, sound) as writer:
            for number in range(50):
                writer.write(picture(number, 32, 32), number / 25)
    before, after = packets_of(source), packets_of(tmp_path / "v.mp4")
    assert [data for _, data in after] == [data for _, data in before]
    shift = np.array([time for time, _ in before]) - [time for time, _ in after]
    np.testing.assert_allclose(shift, 0.2, atol=2e-3)


def test_a_sound_that_players_do_not_take_in_an_mp4_is_known(tmp_path: Path) -> None:
    with Sound(with_sound(tmp_path / "source.mkv", "pcm_s16le")) as sound:
        assert sound.stream is not None and not can_hold(sound.stream)


@pytest.mark.parametrize("place", ["no/such/folder/v.mp4", "/dev/full"])
def test_what_cannot_be_written_is_a_write_error(tmp_path: Path, place: str) -> None:
    with pytest.raises(WriteError, match="No such file|No space left"):
        with VideoWriter(tmp_path / place, 64, 64, 25.0) as writer:
            rng = np.random.default_rng(0)
            for number in range(100):
                writer.write(rng.integers(0, 255, (64, 64, 3), np.uint8), number / 25)
