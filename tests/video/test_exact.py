"""Every frame read of every kind of file is the one that a decode of the whole file gives."""

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slowfast_dist.data.clips import dense_indices, uniform_indices
from slowfast_dist.data.listing.video_table import VideoRecord
from slowfast_dist.video import reader as video
from slowfast_dist.video import seeking
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.guarded_reader import GuardedReader
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import VideoInfo, chosen_decoder, decoder_reasons, read_frames
from slowfast_dist.video.transcode import transcode
from slowfast_dist.video.views import SpatialView, apply_view
from tests.helpers.video_tables import table_of

VIEW = SpatialView(top=5, left=21, height=49, width=63, size=48, flip=True)


def selections(frames: int) -> list[np.ndarray]:
    """All frames, each of the last alone, clips of both kinds, and some at random, out of order."""
    rng = np.random.default_rng(0)
    chosen = [np.arange(frames), np.arange(frames)[::-1], uniform_indices(frames, 5)]
    chosen += [dense_indices(frames, 32, 2, position) for position in (0.0, 0.5, 1.0)]
    chosen += [np.array([frames - back]) for back in (1, 2, 3)]
    return chosen + [rng.integers(0, frames, int(rng.integers(1, 12))) for _ in range(12)]


def no_index(*arguments: Any, **options: Any) -> None:
    raise AssertionError("read all packets")


def test_the_frames_are_those_of_a_full_decode(
    videos: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = videos.path(kind)
    info = probe_file(path)
    whole = videos.whole(path)
    numbers = [videos.number(frame) for frame in whole]
    assert numbers == list(range(videos.kinds[kind].frames))[-len(numbers) :]
    assert info.frames == len(whole)
    assert (info.height, info.width) == whole[0].shape[:2]
    assert (info.frame_time > 0) == videos.kinds[kind].even
    by_index = replace(info, frame_time=0.0, seekable=False)
    for indices in selections(info.frames):
        expected = np.stack([whole[index] for index in indices])
        np.testing.assert_array_equal(read_frames(path, indices, by_index, "auto", None), expected)
        with monkeypatch.context() as patch:
            # Where frames lean on what was before their keyframe, the index helps out.
            if (info.frame_time or info.seekable) and not kind.startswith("H.264 open GOP"):
                patch.setattr(video, "index_packets", no_index)
            frames = read_frames(path, indices, info, "auto", None)
        assert frames.dtype == np.uint8 and frames.flags.c_contiguous
        np.testing.assert_array_equal(frames, expected)


def test_clips_through_the_guard_are_those_of_a_full_decode(videos: Any, kind: str) -> None:
    path = videos.path(kind)
    info = probe_file(path)
    whole = apply_view(np.stack(videos.whole(path)), VIEW)
    reader = GuardedReader()
    try:
        for indices in selections(info.frames)[3:]:
            frames = reader.read(path, indices, info, "auto", VIEW)
            np.testing.assert_array_equal(frames, whole[indices])
    finally:
        reader.close()


def test_a_far_frame_is_sought_and_not_read_up_to(
    videos: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = videos.path("H.264 many groups")
    info = probe_file(path)
    sizes: list[int] = []
    real = seeking.SeekingReader

    def counting(container: Any, stream: Any, *others: Any) -> Any:
        def demux(stream: Any) -> Any:
            for packet in container.demux(stream):
                sizes.append(packet.size)
                yield packet

        spy = type("Spy", (), {"demux": staticmethod(demux), "seek": container.seek})
        spy.streams = container.streams  # type: ignore[attr-defined]
        return real(spy, stream, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(video, "SeekingReader", counting)
    read_frames(path, np.array([3, 120, 240]), info, "auto", None)
    assert 3 < len(sizes) < 3 * 4 * info.key_interval < info.frames


def test_frames_are_right_also_where_the_probe_was_wrong_or_the_file_changed(videos: Any) -> None:
    path = videos.path("H.264 open GOP")
    info = probe_file(path)
    whole = np.stack(videos.whole(path))
    for told in (
        replace(info, file_size=1),
        replace(info, key_interval=1),
        replace(info, reorder_depth=0),
    ):
        for indices in selections(info.frames):
            frames = read_frames(path, indices, told, "auto", None)
            np.testing.assert_array_equal(frames, whole[indices])


def test_decord_is_taken_only_where_it_is_asked_for_and_right() -> None:
    info = VideoInfo(10, 25.0, 64, 64, 0, "h264", decord_exact=True)
    assert chosen_decoder(info, "auto") == chosen_decoder(info, "pyav") == "pyav"
    assert chosen_decoder(info, "decord") == "decord"
    assert chosen_decoder(replace(info, decord_exact=False), "decord") == "pyav"


def test_the_choice_is_told_by_reason_and_count() -> None:
    h264 = VideoInfo(10, 25.0, 64, 64, 0, "h264", decord_exact=True)
    wrong = replace(h264, decord_exact=False)
    infos = [h264] * 5 + [wrong, replace(h264, codec="vp9"), replace(wrong, codec="av1")]
    records = [VideoRecord(Path(f"{n}.mp4"), f"{n}.mp4", 0, "") for n in range(len(infos))]
    kinds = table_of(records, infos).kinds()
    assert decoder_reasons(kinds, "auto") == [
        "PyAV reads 5 h264 videos: 1.5 times as fast as Decord",
        "PyAV reads 1 vp9 videos: 1.4 times as fast as Decord",
        "PyAV reads 2 videos in which Decord's frames are wrong or missing",
    ]
    assert decoder_reasons(kinds, "pyav") == ["PyAV reads all 8 videos (--data.decoder pyav)"]
    assert decoder_reasons(kinds, "decord") == [
        "Decord reads 6 videos (--data.decoder decord)",
        "PyAV reads 2 videos in which Decord's frames are wrong or missing",
    ]


def test_blank_packets_at_the_end_are_no_frames(videos: Any, tmp_path: Path) -> None:
    """As where a file was given its full size before it was downloaded."""
    kind = replace(videos.kinds["H.264"], movflags="faststart")
    path = videos.write(tmp_path / "a.mp4", kind)
    whole = videos.whole(path)
    content = path.read_bytes()
    kept = len(content) * 6 // 10
    path.write_bytes(content[:kept] + bytes(len(content) - kept))
    try:
        info = probe_file(path)
    except DecodeError as error:
        pytest.fail(str(error))
    assert 10 < info.frames < len(whole)


MATRICES = {
    "mirrored": ((-1, 0, 0, 1), lambda frame: frame[:, ::-1]),
    "upside down in a mirror": ((1, 0, 0, -1), lambda frame: frame[::-1]),
    "transposed": ((0, 1, 1, 0), lambda frame: frame.transpose(1, 0, 2)),
    "turned by 90 degrees": ((0, 1, -1, 0), lambda frame: np.rot90(frame, -1)),
}
"""Display matrices (ISO/IEC 14496-12, 6.2.2) as a, b, c, d, and what they do to a frame."""


@pytest.mark.parametrize("name", MATRICES)
def test_mirrored_videos_are_shown_as_their_matrix_says(
    name: str, videos: Any, tmp_path: Path
) -> None:
    (a, b, c, d), shown = MATRICES[name]
    source = videos.path("H.264")
    content = bytearray(source.read_bytes())
    place = content.index(b"tkhd") + 44
    content[place : place + 36] = struct.pack(
        ">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30
    )
    path = tmp_path / "matrix.mp4"
    path.write_bytes(content)
    info = probe_file(path)
    assert info.decord_exact == (name == "turned by 90 degrees")
    indices = np.array([3, 20])
    plain = read_frames(source, indices, probe_file(source), "pyav", None)
    expected = np.stack([shown(frame) for frame in plain])
    assert np.array_equal(read_frames(path, indices, info, "auto", None), expected)
    height, width = expected.shape[1:3]
    for flip in (False, True):
        view = SpatialView(height // 4, width // 8, height // 2, width // 2, 48, flip)
        assert (info.height, info.width) == (height, width)
        found = read_frames(path, indices, info, "auto", view)
        assert np.abs(found.astype(int) - apply_view(expected, view)).max() <= 1
    prepared = tmp_path / "prepared.mp4"
    transcode(path, prepared, 64)
    after = probe_file(prepared)
    assert (after.rotation, after.mirrored) == (0, False)
    found = read_frames(prepared, indices, after, "auto", None)
    assert np.abs(found.astype(int) - expected).mean() < 6
