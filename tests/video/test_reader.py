"""The right frames of every kind of file, or an error that says why not."""

import pickle
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import pytest

from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.clips import dense_indices, uniform_indices
from slowfast_dist.video import packets
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import read_frames
from slowfast_dist.video.views import apply_view, evaluation_view
from tests.video.test_exact import selections


@pytest.mark.usefixtures("decord")
def test_decord_is_trusted_where_it_is_right_and_only_there(videos: Any, kind: str) -> None:
    path = videos.path(kind)
    info = probe_file(path)
    assert info.decord_exact == videos.kinds[kind].decord_exact
    if info.decord_exact:
        for indices in selections(info.frames):
            frames = read_frames(path, indices, info, "decord", None)
            assert [videos.number(frame) for frame in frames] == indices.tolist()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["H.264 MPEG-TS", "H.264 AVI", "H.264 cut"])
def test_decord_is_kept_from_streams_on_which_it_hangs_or_errs(videos: Any, kind: str) -> None:
    path = videos.path(kind)
    info = probe_file(path)
    frames = read_frames(path, np.arange(4), info, "decord", None)
    np.testing.assert_array_equal(frames, read_frames(path, np.arange(4), info, "pyav", None))


READ = """
import sys, numpy as np
from pathlib import Path
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import read_frames
path, other, decoder = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
info = probe_file(path)
read_frames(path, np.arange(2), info, decoder, None)
loaded = sys.modules.get("decord") is not None  # None: the tests run without it
path.write_bytes(other.read_bytes())  # which no probe looked at
sys.modules["decord"] = None
try:
    read_frames(path, np.arange(2), info, decoder, None)
except Exception as error:
    assert "frames" in str(error) and "Decord" not in str(error), error
print(loaded)
"""


@pytest.mark.parametrize(("decoder", "loaded"), [("auto", "False"), ("decord", "True")])
def test_decord_is_imported_only_where_it_is_asked_for_on_files_that_were_probed(
    videos: Any, tmp_path: Path, decoder: str, loaded: str
) -> None:
    if loaded == "True":
        pytest.importorskip("decord")
    path = videos.write(tmp_path / "a.mp4", videos.kinds["H.264"])
    other = videos.write(tmp_path / "b.mp4", replace(videos.kinds["H.264"], frames=20))
    done = subprocess.run(
        [sys.executable, "-c", READ, path, other, decoder], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stdout == f"{loaded}\n", done.stderr


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_rotated_videos_come_upright(
    videos: Any, tmp_path: Path, rotation: int, suffix: str
) -> None:
    plain = videos.path("H.264")
    stored = read_frames(plain, np.arange(5), probe_file(plain), "pyav", None)
    kind = replace(videos.kinds["H.264"], rotation=rotation, suffix=suffix)
    path = videos.write(tmp_path / f"video{suffix}", kind)
    info = probe_file(path)
    assert info.rotation == rotation
    assert (info.height, info.width) == ((128, 64) if rotation != 180 else (64, 128))
    upright = np.rot90(stored, rotation // 90, axes=(1, 2))
    for decoder in ("auto", "pyav"):
        np.testing.assert_array_equal(read_frames(path, np.arange(5), info, decoder, None), upright)


@pytest.mark.parametrize("kind", ["H.264", "H.264 open GOP", "H.264 odd size 4:4:4"])
def test_a_view_is_applied_to_the_displayed_frames(videos: Any, kind: str) -> None:
    path = videos.path(kind)
    info = probe_file(path)
    view = evaluation_view(info.height, info.width, DataConfig(), 2, 3)
    indices = dense_indices(info.frames, 32, 2, 0.0)
    expected = apply_view(read_frames(path, indices, info, "auto", None), view)
    frames = read_frames(path, indices, info, "auto", view)
    np.testing.assert_array_equal(frames, expected)
    assert frames.shape == (32, 224, 224, 3)


def test_gray_becomes_three_equal_channels(videos: Any) -> None:
    path = videos.path("H.264 gray")
    for decoder in ("decord", "pyav") if find_spec("decord") else ("pyav",):
        frames = read_frames(path, np.arange(3), probe_file(path), decoder, None)
        assert np.ptp(frames.astype(int), axis=-1).max() <= 1
        assert frames.std() > 20


@pytest.mark.usefixtures("decord")
def test_what_decord_cannot_open_is_read_all_the_same(videos: Any, tmp_path: Path) -> None:
    kind = replace(videos.kinds["H.264"], size=(16, 16), frames=6)
    path = videos.write(tmp_path / "video.mp4", kind)
    info = probe_file(path)
    with pytest.raises(DecodeError, match="Decord"):
        read_frames(path, np.arange(6), info, "decord", None)
    frames = read_frames(path, np.arange(6), info, "auto", None)
    np.testing.assert_array_equal(frames, np.stack(videos.whole(path)))


@pytest.mark.parametrize("kind", ["H.264", "H.264 open GOP", "H.264 cut", "H.264 AVI"])
def test_a_large_file_is_read_through_its_seek_table(
    videos: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = videos.path(kind)
    info = probe_file(path)
    expected = [read_frames(path, i, info, "pyav", None) for i in selections(info.frames)]
    monkeypatch.setattr(packets, "KEEP_BYTES", 1000)
    for indices, frames in zip(selections(info.frames), expected, strict=True):
        np.testing.assert_array_equal(read_frames(path, indices, info, "pyav", None), frames)


def test_a_change_of_size_within_the_stream_is_scaled_to_the_first(
    videos: Any, tmp_path: Path
) -> None:
    kind = replace(videos.kinds["H.264 MPEG-TS"], frames=10)
    small = videos.write(tmp_path / "small.ts", kind)
    large = videos.write(tmp_path / "large.ts", replace(kind, size=(96, 160)))
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    info = probe_file(both)
    assert (info.frames, info.height, info.width) == (20, 64, 128)
    frames = read_frames(both, np.arange(20), info, "auto", None)
    assert [videos.number(frame) for frame in frames] == [*range(10), *range(10)]


def damaged(path: Path, target: Path) -> Path:
    """The packets of frames 20 to 25 filled with zeros."""
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        found = [packet for packet in container.demux(video=0) if packet.size]
    for packet in found[20:26]:
        assert packet.pos is not None
        content[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    target.write_bytes(content)
    return target


def test_damage_is_an_error_where_it_matters_and_says_at_which_frame(
    videos: Any, tmp_path: Path
) -> None:
    path = damaged(videos.path("H.264 cut"), tmp_path / "damaged.mp4")
    info = probe_file(path)
    with pytest.raises(DecodeError, match=rf"decoding failed at frame \d+ of {info.frames}") as got:
        read_frames(path, np.arange(info.frames), info, "auto", None)
    assert got.value.path == path
    whole = videos.whole(videos.path("H.264 cut"))
    frames = read_frames(path, np.arange(10), info, "auto", None)
    np.testing.assert_array_equal(frames, np.stack(whole[:10]))


def test_damage_is_found_by_the_probe_where_it_has_to_decode_everything(
    videos: Any, tmp_path: Path
) -> None:
    path = damaged(videos.path("MPEG-4 B-frames AVI"), tmp_path / "damaged.avi")
    with pytest.raises(DecodeError, match=r"decoding failed at frame (19|2\d)"):
        probe_file(path)


def test_a_file_cut_off_gives_the_frames_that_it_has(videos: Any, tmp_path: Path) -> None:
    path = videos.write(tmp_path / "a.mp4", replace(videos.kinds["H.264"], movflags="faststart"))
    whole = videos.whole(path)
    half = tmp_path / "half.mp4"
    half.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    info = probe_file(half)
    assert 10 < info.frames < len(whole) and not info.decord_exact
    frames = read_frames(half, np.arange(info.frames), info, "auto", None)
    np.testing.assert_array_equal(frames, np.stack(whole[: info.frames]))


@pytest.mark.parametrize("kind", ["H.264 MPEG-TS", "H.264 open GOP"])
def test_a_recording_that_starts_in_the_middle_gives_what_follows_its_first_keyframe(
    videos: Any, tmp_path: Path, kind: str
) -> None:
    path = videos.write(tmp_path / "a.ts", replace(videos.kinds[kind], format="mpegts"))
    content, unit = path.read_bytes(), 188
    later = len(content) // unit * 2 // 5 * unit
    path.write_bytes(content[: 3 * unit] + content[later:])  # the stream's tables come first
    info = probe_file(path)
    assert info.frames >= 12
    for indices in selections(info.frames):
        frames = read_frames(path, indices, info, "auto", None)
        first = videos.kinds[kind].frames - info.frames
        assert [videos.number(frame) for frame in frames] == (first + indices).tolist()


def test_leading_pictures_that_decode_are_frames(videos: Any, tmp_path: Path) -> None:
    """As in the segments of a stream: RADL pictures come after their keyframe and are shown before
    it, and lean on nothing that was cut away."""
    x265 = "open-gop=0:radl=2:keyint=12:min-keyint=12:bframes=3:pools=1:log-level=none"
    kind = replace(videos.kinds["HEVC closed GOP"], options={"x265-params": x265})
    whole = videos.write(tmp_path / "whole.ts", replace(kind, format="mpegts"))
    path = tmp_path / "segment.ts"
    with av.open(str(whole)) as source, av.open(str(path), "w", format="mpegts") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        keyframes = 0
        for packet in source.demux(stream):
            keyframes += packet.is_keyframe
            if packet.size and keyframes > 1:
                packet.stream = copy
                target.mux(packet)
    expected = [videos.number(frame) for frame in videos.whole(path)]
    assert expected[0] < 12 and expected == list(range(expected[0], 40))
    info = probe_file(path)
    assert info.frames == len(expected)
    for indices in selections(info.frames):
        frames = read_frames(path, indices, info, "auto", None)
        assert [videos.number(frame) for frame in frames] == [expected[i] for i in indices]


@pytest.mark.parametrize("lost", [60, 1000])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_a_recording_that_was_cut_off_loses_its_damaged_picture_alone(
    videos: Any, tmp_path: Path, b_frames: int, lost: int
) -> None:
    """``lost`` bytes of an MPEG-TS, whose last picture then begins and does not end."""
    kind = replace(videos.kinds["MPEG-2"], b_frames=b_frames, size=(192, 256))
    path = videos.write(tmp_path / "a.ts", kind)
    path.write_bytes(path.read_bytes()[:-lost])
    info = probe_file(path)
    assert info.frames >= 37
    frames = read_frames(path, np.arange(info.frames), info, "auto", None)
    numbers = [videos.number(frame) for frame in frames]
    assert numbers == sorted(set(numbers))
    assert b_frames or numbers == list(range(info.frames))
    whole = [videos.number(frame) for frame in videos.whole(path)]
    assert set(numbers) <= set(whole) and len(whole) - info.frames <= 1


@pytest.mark.parametrize("decoder", ["auto", "pyav", "decord"])
def test_a_file_that_changed_since_it_was_probed_is_an_error(
    videos: Any, tmp_path: Path, decoder: Literal["auto", "pyav", "decord"],
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    if decoder == "decord":
        request.getfixturevalue("decord")
    path = videos.write(tmp_path / "a.mp4", videos.kinds["H.264"])
    info = probe_file(path)
    videos.write(path, replace(videos.kinds["H.264"], frames=20))
    with pytest.raises(DecodeError, match="20"):
        read_frames(path, np.arange(4), info, decoder, None)
    path.unlink()
    with pytest.raises(DecodeError):
        read_frames(path, np.arange(4), info, decoder, None)


def test_the_error_survives_the_way_out_of_a_loaders_process() -> None:
    error = pickle.loads(pickle.dumps(DecodeError(Path("a b/ü.mp4"), "empty file")))
    assert (error.path, error.reason) == (Path("a b/ü.mp4"), "empty file")
    assert str(error) == "a b/ü.mp4: empty file"


def test_a_black_picture_that_is_not_compressed_is_a_frame(tmp_path: Path) -> None:
    """Its packet begins with zeros, as one does that a download did not fill."""
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("rawvideo", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr24"
        for brightness in (200, 100, 0, 0):
            picture = np.full((48, 64, 3), brightness, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    info = probe_file(path)
    assert (info.frames, info.lost) == (4, 0)
    frames = read_frames(path, np.arange(4), info, "auto", None)
    assert frames.mean((1, 2, 3)).round().tolist() == [200, 100, 0, 0]


UNREADABLE = {
    "audio_only.mp4": "no video stream",
    "corrupt_mid_stream.mp4": "decoding failed at frame 29 of 50",
    "corrupt_no_timescale.mp4": "decoding failed at frame 1 of 182",
    "derived_text_named.mp4": "text file",
    "derived_truncated_half.mp4": "cut off",
    "derived_zero_byte.mp4": "empty file",
    "lfs_pointer_not_video.mp4": "git lfs pull",
}


def test_every_odd_file_yields_its_clips_or_a_reason(videos: Any, real_data: Path) -> None:
    data, rng = DataConfig(), np.random.default_rng(0)
    reasons: dict[str, str] = {}
    for path in sorted((real_data / "odd").iterdir()):
        try:
            info = probe_file(path)
            view = evaluation_view(info.height, info.width, data, 0, 1)
            n = info.frames
            clips = [dense_indices(n, 32, 2, 0.5), uniform_indices(n, 32), np.arange(n)[-3:]]
            clips += [rng.integers(0, n, 8) for _ in range(3)]
            read = [read_frames(path, indices, info, "auto", view) for indices in clips]
        except DecodeError as error:
            reasons[path.name] = error.reason
            continue
        whole = videos.whole(path, lambda frame, view=view: apply_view(frame[None], view)[0])
        if path.name.startswith("made_cut_full"):  # FFmpeg invents the rest of its last picture
            del whole[-1]
        assert len(whole) == info.frames, path.name
        for indices, frames in zip(clips, read, strict=True):
            assert frames.shape == (len(indices), 224, 224, 3) and frames.dtype == np.uint8
            for index, frame in zip(indices, frames, strict=True):
                assert np.array_equal(frame, whole[index]), (path.name, index)
    assert reasons.keys() == UNREADABLE.keys()
    for name, reason in UNREADABLE.items():
        assert reason in reasons[name]
