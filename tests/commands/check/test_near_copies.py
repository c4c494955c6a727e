"""What counts as a copy, what as the same background, and that many are compared in little time."""

import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from slowfast_dist.commands.check.near_copies import (
    FINGERPRINT,
    Fingerprints,
    clusters,
    find_near_copies,
    fingerprint,
    same_background,
)
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.thumbnails import PLACES, read_thumbnails
from slowfast_dist.video.transcode import transcode
from slowfast_dist.video.writer import write_video
from tests.helpers.shapes import write_disc

Frames = NDArray[np.uint8]


def fingerprint_of(path: Path, full: bool = False) -> NDArray[np.void]:
    return fingerprint(read_thumbnails(path, full))


def scene(seed: int, size: tuple[int, int] = (96, 128)) -> Frames:
    """A random place of large and small blotches of colour, uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    height, width = size
    picture = np.zeros((height, width, 3), np.float32)
    for cells in (4, 12):
        coarse = rng.uniform(0, 120, (cells, cells, 3)).astype(np.float32)
        picture += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(picture, 0, 255).astype(np.uint8)


def clip(background: Frames, seed: int, frames: int = 20) -> Frames:
    """A dark square that wanders before it, uint8 (T, H, W, 3)."""
    rng = np.random.default_rng([1, seed])
    height, width = background.shape[:2]
    ends = rng.uniform(0, 0.7, (2, 2))
    video = np.repeat(background[None], frames, axis=0)
    for number, frame in enumerate(video):
        place = ends[0] + (ends[1] - ends[0]) * number / frames
        y, x = (place * (height, width)).astype(int)
        frame[y : y + height // 4, x : x + width // 4] = 10
    return video


def made(path: Path, video: Frames) -> NDArray[np.void]:
    write_video(path, iter(video), fps=25)
    return fingerprint_of(path)


def changed(video: Frames, scale: float, gain: float) -> Frames:
    height, width = (int(length * scale) // 2 * 2 for length in video.shape[1:3])
    small = [cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in video]
    return np.clip(np.stack(small) * gain, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("scale", "gain"), [(1.0, 1.0), (0.5, 1.0), (1.5, 0.7), (0.5, 1.2)])
def test_a_copy_is_found_and_another_clip_of_its_place_is_none(
    tmp_path: Path, scale: float, gain: float
) -> None:
    first = clip(scene(0), 0)
    prints = np.stack(
        [
            made(tmp_path / "first.mp4", first),
            made(tmp_path / "other_clip.mp4", clip(scene(0), 1)),
            made(tmp_path / "copy.mp4", changed(first, scale, gain)),
            made(tmp_path / "other_place.mp4", clip(scene(1), 0)),
            np.zeros((), FINGERPRINT),  # a file that cannot be read
        ]
    )
    assert find_near_copies(prints).tolist() == [[0, 2]]


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_the_same_place_is_known_behind_what_moves(tmp_path: Path, scale: float) -> None:
    prints = np.stack(
        [
            *(made(tmp_path / f"{i}.mp4", changed(clip(scene(0), i), scale, 1)) for i in range(4)),
            *(made(tmp_path / f"{i}.mp4", clip(scene(i), i)) for i in range(4, 8)),
        ]
    )
    first, second = np.triu_indices(8, 1)
    assert (same_background(prints, first, second) == (second < 4)).all()


def test_a_copy_in_square_pixels_is_found(tmp_path: Path) -> None:
    pictures = clip(scene(0, (144, 176)), 0)
    source, copy = tmp_path / "a.mp4", tmp_path / "copy.mp4"
    write_disc(source, 144, 176, Fraction(16, 11), frames=20, draw=lambda number: pictures[number])
    assert transcode(source, copy, 96).width == 170
    prints = np.stack([fingerprint_of(source), fingerprint_of(copy)])
    assert find_near_copies(prints).tolist() == [[0, 1]]


def test_black_videos_are_no_copies_of_each_other(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 3, (20, 64, 64, 3)).astype(np.uint8) for _ in range(2)]
    prints = np.stack([made(tmp_path / f"{i}.mp4", video) for i, video in enumerate(noise)])
    assert not prints["textured"].any()
    assert not len(find_near_copies(prints))
    assert not same_background(prints, np.array([0]), np.array([1])).any()


def test_a_still_picture_is_no_copy_of_a_clip_before_it_nor_of_another(tmp_path: Path) -> None:
    still = np.repeat(scene(3)[None], 20, axis=0)
    moving = still.copy()
    for number, frame in enumerate(moving):
        frame[40:60, 4 * number : 4 * number + 20] = 10
    both = [still, moving, still]
    prints = np.stack([made(tmp_path / f"{i}.mp4", video) for i, video in enumerate(both)])
    assert not len(find_near_copies(prints))


@pytest.mark.parametrize("kind", ["H.264 AVI", "H.264 open GOP, cut", "MPEG-4 B-frames", "VP8"])
def test_frames_are_found_without_decoding_all(videos: Any, kind: str) -> None:
    path = videos.path(kind)
    assert fingerprint_of(path) == fingerprint_of(path, full=True)


@pytest.mark.parametrize("kind", ["HEVC a late time", "H.264 times of decoding"])
def test_frames_are_found_where_the_times_mislead(videos: Any, kind: str) -> None:
    path = videos.path(kind)
    moved = probe_file(path).moved_frames
    for frames in (moved, None):
        found = read_thumbnails(path, False, frames)
        for picture, whole in zip(found, read_thumbnails(path, True), strict=True):
            np.testing.assert_array_equal(picture, whole)


@pytest.mark.parametrize("kind", ["H.264 AVI", "H.264 MPEG-TS", "H.264 mkv", "H.264 mov"])
def test_a_video_is_a_copy_of_itself_in_another_container(videos: Any, kind: str) -> None:
    prints = np.stack([fingerprint_of(videos.path(name)) for name in ("H.264", kind)])
    assert find_near_copies(prints).tolist() == [[0, 1]]


def test_a_turned_video_is_looked_at_upright(tmp_path: Path) -> None:
    upright = clip(scene(5, (96, 96)), 0)
    path = tmp_path / "turned.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 96
        stream.pix_fmt = "yuv420p"
        stream.set_display_rotation(90)
        for frame in upright:
            stored = np.ascontiguousarray(np.rot90(frame, -1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")))
        container.mux(stream.encode(None))
    prints = np.stack([made(tmp_path / "upright.mp4", upright), fingerprint_of(path)])
    assert find_near_copies(prints).tolist() == [[0, 1]]


def test_damage_in_the_middle_is_met_by_full_decoding_alone(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    write_video(path, iter(clip(scene(0), 0, frames=120)), fps=25)
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    start, size = packets[45]  # of a group of 12 in which no frame is looked at
    assert start is not None
    content = bytearray(path.read_bytes())
    content[start + 8 : start + size] = bytes(size - 8)
    path.write_bytes(content)
    assert all(round(place * 119) not in range(36, 48) or place == 0.3 for place in PLACES)
    assert fingerprint_of(path)["textured"].any()
    with pytest.raises(DecodeError, match="decoding failed at frame 4"):
        fingerprint_of(path, full=True)


def random_fingerprints(count: int) -> Fingerprints:
    rng = np.random.default_rng(0)

    def hashes(*shape: int) -> NDArray[np.uint64]:
        return rng.integers(0, 2**64, shape, np.uint64)

    prints = np.zeros(count, FINGERPRINT)
    prints["frames"], prints["background"] = hashes(count, 5), hashes(count)
    prints["textured"] = prints["has_background"] = True
    prints["changes"] = rng.integers(-99, 99, (count, 256))
    prints["colours"] = rng.integers(0, 30, (count, 512))
    prints["place"] = rng.integers(0, 256, (count, 256))
    return prints


def test_few_of_all_pairs_are_compared() -> None:
    count = 30_000
    prints = random_fingerprints(count)
    rng = np.random.default_rng(1)
    planted = rng.permutation(count).reshape(-1, 2)[:200]
    for first, second in planted:  # as many wrong bits as in a copy at a third of the size
        for place in range(5):
            wrong = rng.choice(64, 6, replace=False)
            flips = np.bitwise_or.reduce(np.uint64(1) << wrong.astype(np.uint64))
            prints["frames"][second, place] = prints["frames"][first, place] ^ flips
        prints["changes"][second] = prints["changes"][first]
    begin = time.process_time()
    found = {tuple(pair) for pair in find_near_copies(prints).tolist()}
    assert time.process_time() - begin < 10
    right = {tuple(sorted(pair)) for pair in planted.tolist()}
    assert found <= right and len(found) >= 0.97 * len(right)


def test_a_great_many_of_the_same_do_not_take_for_ever() -> None:
    prints = random_fingerprints(2_000)
    for column in (prints["frames"], prints["changes"], prints["background"]):
        column[:] = column[0]
    begin = time.process_time()
    pairs = find_near_copies(prints)
    assert time.process_time() - begin < 10
    assert [len(rows) for rows in clusters(pairs, len(prints))] == [2_000]


def test_clusters_are_what_pairs_connect() -> None:
    pairs = np.array([(0, 3), (3, 5), (1, 2)])
    assert clusters(pairs, 7) == [[0, 3, 5], [1, 2]]
    assert clusters(np.empty((0, 2), np.int64), 7) == []
