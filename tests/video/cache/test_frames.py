"""Frames that are kept give what decoding gives, bit for bit, of every kind of video."""

import errno
import os
import signal
import sys
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slowfast_dist.video import guarded_reader as guard
from slowfast_dist.video.cache.frames import read_stored, write_frames
from slowfast_dist.video.cache.space import Space
from slowfast_dist.video.cache.store import FrameStore, stamp_now
from slowfast_dist.video.container import OpenFiles
from slowfast_dist.video.guarded_reader import GuardedReader
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import VideoInfo, read_views
from slowfast_dist.video.views import SpatialView

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="frames are kept on Linux alone")

INDICES = np.array([3, 0, 3, 17, 21])
BUDGET = 50_000_000


def views_of(info: VideoInfo) -> list[SpatialView]:
    """Regions at odd places, a mirrored one, and the whole picture with borders."""
    height, width = info.height, info.width
    odd = SpatialView(5, 3, height - 12, width - 7, 40, False)
    whole = SpatialView(0, 0, height, width, 40, True, (5, 0, 30, 40))
    return [odd, replace(odd, top=0, left=1, flip=True), whole]


def kept(path: Path, info: VideoInfo) -> np.ndarray:
    """The clip of the frames that are kept."""
    store = FrameStore.create(np.array([1, info.frames]), BUDGET)
    numbers = np.arange(0, info.frames)
    written = write_frames(path, numbers, info, store.space, OpenFiles())
    assert written is not None
    store.add(1, numbers, written)
    places = store.places(1, INDICES)
    assert places is not None and store.stamp(1) == stamp_now(path)
    return read_stored(store, 1, places, info, views_of(info))


def test_every_kind_of_video(videos: Any, kind: str) -> None:
    path = videos.path(kind)
    info = probe_file(path)
    expected = read_views(path, INDICES, info, "pyav", views_of(info))
    np.testing.assert_array_equal(kept(path, info), expected)


@pytest.mark.parametrize(("rotation", "mirrored"), [(90, False), (180, True), (270, True)])
@pytest.mark.parametrize("kind", ["H.264", "H.264 odd size 4:4:4", "H.264 10 bit"])
def test_turned_and_mirrored_videos(
    videos: Any, kind: str, rotation: int, mirrored: bool
) -> None:
    path = videos.path(kind)
    info = probe_file(path)
    if rotation != 180:
        info = replace(info, width=info.height, height=info.width)
    info = replace(info, rotation=rotation, mirrored=mirrored)
    expected = read_views(path, INDICES, info, "pyav", views_of(info))
    np.testing.assert_array_equal(kept(path, info), expected)


@pytest.fixture
def path(videos: Any) -> Path:
    found: Path = videos.path("H.264")
    return found


def test_what_does_not_fit_is_not_kept_and_takes_no_room(path: Path) -> None:
    info = probe_file(path)
    size = info.width * info.height * 3 // 2
    store = FrameStore.create(np.array([info.frames]), 10 * size)
    numbers = np.arange(10)
    assert write_frames(path, np.arange(11), info, store.space, OpenFiles()) is None
    assert store.space.free() == 10 * size
    written = write_frames(path, numbers, info, store.space, OpenFiles())
    assert written is not None and written.stride == size and store.space.free() == 0
    assert store.missing(0, INDICES).tolist() == [0, 3, 17, 21]
    store.add(0, numbers, written)
    assert store.missing(0, INDICES).tolist() == [17, 21]
    assert store.places(0, INDICES) is None and store.places(0, np.array([9, 0])) is not None


def test_a_full_disk_ends_the_keeping(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    info = probe_file(path)
    store = FrameStore.create(np.array([info.frames]), BUDGET)
    monkeypatch.setattr(Space, "write", full)
    monkeypatch.setattr(guard, "threads", lambda: 1)
    reader = GuardedReader()
    reader.space = store.space
    assert reader.write_frames(path, INDICES[:1], info, 1) is None and store.space.free() == 0
    reader.close()


def test_another_file_of_that_name_drops_what_is_kept(path: Path) -> None:
    info = probe_file(path)
    store = FrameStore.create(np.array([info.frames]), BUDGET)
    written = write_frames(path, np.array([0, 1]), info, store.space, OpenFiles())
    assert written is not None
    store.add(0, np.array([0, 1]), written)
    size, moment = written.stamp
    store.add(0, np.array([2, 3]), replace(written, stamp=(size, moment + 1)))
    assert store.places(0, np.array([0])) is None and not store.takes(0)
    store.add(0, np.array([0, 1]), written)
    assert store.places(0, np.array([0])) is None


@pytest.mark.parametrize("threads", [1, 2])
def test_a_decoding_process_that_is_killed_leaves_nothing_that_counts(
    path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """In the middle of the fifth frame. The next one, forked or started anew, keeps the frames."""
    info, count, write = probe_file(path), 0, Space.write

    def die_later(space: Space, parts: Any, place: int) -> None:
        nonlocal count
        count += 1
        if count == 5:
            os.pwrite(space.fd, parts[0][:5].tobytes(), place)
            os.kill(os.getpid(), signal.SIGKILL)
        write(space, parts, place)

    store, reader = FrameStore.create(np.array([info.frames]), BUDGET), GuardedReader()
    reader.space, numbers = store.space, np.arange(info.frames)
    with monkeypatch.context() as patch:
        patch.setattr(guard, "threads", lambda: 1)
        patch.setattr(Space, "write", die_later)
        assert reader.write_frames(path, numbers, info, 1) is None
    assert store.missing(0, INDICES).size == 4 and store.space.free() < BUDGET
    monkeypatch.setattr(guard, "threads", lambda: threads)
    written = reader.write_frames(path, numbers, info, 1)
    assert written is not None
    store.add(0, numbers, written)
    places = store.places(0, INDICES)
    assert places is not None
    expected = read_views(path, INDICES, info, "pyav", views_of(info))
    np.testing.assert_array_equal(
        read_stored(store, 0, places, info, views_of(info)), expected
    )
    reader.close()


def test_a_lock_ends_with_a_process_that_is_killed() -> None:
    store = FrameStore.create(np.array([1]), BUDGET)
    context = get_context("fork")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(store.space, ready))
    holder.start()
    assert ready.wait(60)
    holder.kill()
    holder.join()
    with store.space.locked():
        pass


def _hold(space: Space, ready: Any) -> None:
    with space.locked():
        ready.set()
        time.sleep(600)


def test_processes_that_take_at_once_get_parts_of_their_own() -> None:
    store = FrameStore.create(np.array([1]), 400 * 64)
    context = get_context("fork")
    results = context.Queue()
    takers = [context.Process(target=_take, args=(store.space, results)) for _ in range(4)]
    for taker in takers:
        taker.start()
    found = [place for _ in takers for place in results.get(timeout=60)]
    for taker in takers:
        taker.join()
    places = [place for place in found if place is not None]
    assert len(found) == 800 and len(places) == len(set(places)) == 400


def _take(space: Space, results: Any) -> None:
    results.put([space.take(64) for _ in range(200)])


def test_nothing_of_a_disk_is_seen_or_left(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "cache"
    store = FrameStore.create(np.array([40]), BUDGET, folder)
    written = write_frames(path, np.array([0]), probe_file(path), store.space, OpenFiles())
    assert written is not None and list(folder.iterdir()) == []
    other = FrameStore.open(store.address)
    store.add(0, np.array([0]), written)
    assert other.places(0, np.array([0])) is not None


def test_a_file_system_that_has_no_unnamed_files_keeps_none_with_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def no_unnamed(path: Any, flags: int, *mode: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return opened(path, flags, *mode)

    monkeypatch.setattr(os, "open", no_unnamed)
    store = FrameStore.create(np.array([4]), BUDGET, tmp_path)
    assert list(tmp_path.iterdir()) == [] and store.space.take(5) is not None


def test_kinds_are_kept_as_they_are_decoded(videos: Any) -> None:
    """1.5 bytes a pixel of most videos, 3 where a region cannot be converted alone."""
    bytes_a_pixel = {}
    for kind in ("H.264", "H.264 4:2:2", "H.264 10 bit", "H.264 interlaced"):
        path = videos.path(kind)
        info = probe_file(path)
        store = FrameStore.create(np.array([info.frames]), BUDGET)
        written = write_frames(path, np.array([0]), info, store.space, OpenFiles())
        assert written is not None
        bytes_a_pixel[kind] = written.stride / (info.width * info.height)
    assert list(bytes_a_pixel.values()) == [1.5, 2, 3, 3]
