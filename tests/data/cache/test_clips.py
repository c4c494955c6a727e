"""Whether decoded frames are kept never changes a clip; and where they are, nothing is decoded."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from slowfast_dist.config.errors import WorkerError
from slowfast_dist.config.training import Config
from slowfast_dist.data.cache.frames import FrameCache
from slowfast_dist.data.cache.plan import file_frames, make_store, parts_of, plan_cache
from slowfast_dist.data.clips import clip_indices, shown_frames
from slowfast_dist.data.loaders import Loaders, make_loaders
from slowfast_dist.data.sampler import ClipKey
from slowfast_dist.data.samples.batch import Batch
from slowfast_dist.data.samples.training import TrainingClips
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.data.videos.finding import find_videos
from slowfast_dist.data.videos.video_set import VideoSet
from slowfast_dist.data.workers import end_workers
from slowfast_dist.video import guarded_reader as guard
from slowfast_dist.video.cache.store import USED, FrameStore
from slowfast_dist.video.guarded_reader import GuardedReader
from slowfast_dist.video.probe import probe_file

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="frames are kept on Linux alone")

FRAMES, SIZE, EPOCHS = 24, 48, 3
FRAME_BYTES = SIZE * SIZE * 3 // 2

Found = tuple[Config, VideoSet]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    root = tmp_path_factory.mktemp("videos") / "all"
    make_videos(root, 5, seed=0, size=SIZE, frames=FRAMES, classes=("moves up", "moves down"))
    return of_folder(root)


def of_folder(root: Path, **settings: Any) -> Found:
    data = replace(
        Config().data, root=root, num_frames=8, sampling_rate=2, short_side=(36, 48),
        crop_size=32, cache="1GB", **settings,
    )  # fmt: skip
    config = replace(Config(), data=data, epochs=EPOCHS, global_batch_size=2, micro_batch_size=2)
    return config, find_videos(data, 0)


Caches = tuple[FrameCache, FrameCache]


def caches_of(found: Found, budget: int | None = None, folder: Path | None = None) -> Caches:
    config, videos = found
    plan = plan_cache(config.data, videos.train, videos.val, config.epochs)
    plan = replace(plan, budget=budget or plan.budget, folder=folder)
    plan, store = make_store(plan, config.data, videos.train, videos.val)
    assert store is not None
    return parts_of(store, plan, videos.train, config.epochs)


def loaders_of(found: Found, workers: int, caches: Caches | None) -> Loaders:
    config, videos = found
    config = replace(config, data=replace(config.data, num_workers=workers))
    return make_loaders(config, videos, 0, 1, 1, False, caches)


def epochs(loaders: Loaders) -> Iterator[list[Batch]]:
    """The batches of training and validation, epoch by epoch."""
    for epoch in range(EPOCHS):
        loaders.sampler.set_epoch(epoch)
        yield [*loaders.train, *loaders.val]


def require_equal(one: list[Batch], other: list[Batch]) -> None:
    for first, second in zip(one, other, strict=True):
        assert torch.equal(first.frames, second.frames) and len(first)
        assert torch.equal(first.videos, second.videos)
        assert first.failures == second.failures == ()


@pytest.mark.parametrize("where", ["memory", "disk"])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_all_epochs_are_as_without(found: Found, tmp_path: Path, workers: int, where: str) -> None:
    caches = caches_of(found, folder=tmp_path if where == "disk" else None)
    store = caches[0].store
    plain, kept = loaders_of(found, 0, None), loaders_of(found, workers, caches)
    free = []
    try:
        for one, other in zip(epochs(plain), epochs(kept), strict=True):
            require_equal(one, other)
            free.append(store.space.free())
    finally:
        end_workers(kept.train, kept.val)
    _, videos = found
    most = FRAME_BYTES * (FRAMES * len(videos.train) + 8 * len(videos.val))
    assert free[1] == free[0] == free[2] == store.space.budget - most


def no_decoding(*_: Any) -> None:
    raise AssertionError("a decoding process was asked")


def test_later_epochs_decode_nothing(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = loaders_of(found, 0, caches_of(found))
    for number, _ in enumerate(epochs(kept)):
        if not number:
            monkeypatch.setattr(GuardedReader, "_ask", no_decoding)


def test_of_a_budget_that_is_too_small_the_first_stay(found: Found) -> None:
    """No video is thrown out for another one, and what the validation needs is left to it."""
    _, videos = found
    scored = 8 * FRAME_BYTES * len(videos.val)
    budget = scored + 2 * FRAMES * FRAME_BYTES - 1
    caches = caches_of(found, budget)
    plain, kept = loaders_of(found, 0, None), loaders_of(found, 0, caches)
    facts = []
    for one, other in zip(epochs(plain), epochs(kept), strict=True):
        require_equal(one, other)
        facts.append(caches[0].store._facts.copy())
    assert caches[0].store.space.free() == FRAMES * FRAME_BYTES - 1
    assert all(np.array_equal(facts[0], one) for one in facts)
    assert facts[0][:, 0].tolist().count(USED) == 1 + len(videos.val)


def test_a_file_that_changes_is_read_anew(found: Found, tmp_path: Path) -> None:
    root = tmp_path / "all"
    shutil.copytree(found[1].train.root, root)
    copied = of_folder(root)
    config, videos = copied
    caches = caches_of(copied)
    clips, plain = (TrainingClips(videos.train, config.data, config.seed) for _ in range(2))
    clips.keep_frames(caches[0])
    before = clips[ClipKey(0, 0)].frames
    assert caches[0].store.missing(0, np.arange(FRAMES)).size == 0
    os.replace(videos.train.path(1), videos.train.path(0))  # another one in its place
    after, expected = clips[ClipKey(0, 0)], plain[ClipKey(0, 0)]
    assert before is not None and after.frames is not None and expected.frames is not None
    assert torch.equal(after.frames, expected.frames) and not torch.equal(after.frames, before)
    assert not caches[0].store.takes(0)


def test_damage_beside_a_clip_does_not_cost_the_clip(found: Found, tmp_path: Path) -> None:
    """The last frames are damaged after the file was probed: clips of the others are read."""
    root = tmp_path / "all"
    shutil.copytree(found[1].train.root, root)
    copied = of_folder(root)
    config, videos = copied
    path = videos.train.path(0)
    with av.open(str(path)) as container:
        last = [(p.pos, p.size) for p in container.demux(video=0) if p.size][-4:]
    content = bytearray(path.read_bytes())
    for place, size in last:
        assert place is not None
        content[place + 4 : place + size] = b"\xff" * (size - 4)
    path.write_bytes(content)
    clips, plain = (TrainingClips(videos.train, config.data, config.seed) for _ in range(2))
    clips.keep_frames(caches_of(copied)[0])
    keys = [ClipKey(epoch, 0) for epoch in range(12)]
    read = []
    for one, other in ((clips[key], plain[key]) for key in keys):
        assert one.frames is not None and other.frames is not None
        assert torch.equal(one.frames, other.frames)
        assert one.failures == other.failures
        read.append(not one.failures)
    assert any(read) and not all(read)


def test_a_video_that_hangs_when_it_is_kept_is_still_read(
    found: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What hangs may lie beside the clip: the video must not count as one that hangs."""
    config, videos = found
    plain = TrainingClips(videos.train, config.data, config.seed)
    clips = TrainingClips(videos.train, config.data, config.seed)
    clips.keep_frames(caches_of(found)[0])
    clips._reader.seconds = 3.0
    monkeypatch.setattr(guard, "threads", lambda: 1)
    monkeypatch.setattr(guard, "write_frames", lambda *_: signal.pause())
    one, other = clips[ClipKey(0, 0)], plain[ClipKey(0, 0)]
    assert one.failures == () and one.frames is not None and other.frames is not None
    assert torch.equal(one.frames, other.frames)
    assert clips._cache is not None and not clips._cache.store.takes(0)


def test_a_worker_that_is_killed_leaves_what_others_read_rightly(found: Found) -> None:
    caches = caches_of(found)
    kept = loaders_of(found, 1, caches)
    kept.sampler.set_epoch(0)
    batches = iter(kept.train)
    next(batches)
    for worker in batches._workers:  # type: ignore[attr-defined]
        os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(WorkerError):
        list(batches)
    end_workers(kept.train, kept.val)
    again = loaders_of(found, 1, caches)
    try:
        for one, other in zip(epochs(loaders_of(found, 0, None)), epochs(again), strict=True):
            require_equal(one, other)
    finally:
        end_workers(again.train, again.val)


def test_frames_of_parts_are_those_of_the_parts(videos: Any, tmp_path: Path) -> None:
    """Parts of one file that overlap share their frames."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in "abcd":
        shutil.copy(videos.path("H.264"), folder / f"{name}.mp4")
    rows = ["path,label,start,end"]
    for name in "abcd":
        rows += [f"{name}.mp4,up,0.0,0.8", f"{name}.mp4,down,0.4,1.2"]
    (folder / "list.csv").write_text("\n".join(rows))
    found = of_folder(folder / "list.csv", short_segments="context")
    caches = caches_of(found)
    plain, kept = loaders_of(found, 0, None), loaders_of(found, 0, caches)
    for one, other in zip(epochs(plain), epochs(kept), strict=True):
        require_equal(one, other)
    taken = caches[0].store.space.budget - caches[0].store.space.free()
    files = len(file_frames(found[1].train))
    size = 64 * 128 * 3 // 2
    assert 0 < taken <= size * (31 * files + 8 * len(found[1].val))


def test_folders_of_images(tmp_path: Path) -> None:
    """An image that is written over while the training runs is read anew."""
    rng = np.random.default_rng(0)
    for place, name in enumerate(("run/a", "run/b", "run/c", "sit/d", "sit/e", "sit/f")):
        (tmp_path / name).mkdir(parents=True)
        for number in range(FRAMES):
            image = Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8))
            image.save(tmp_path / name / f"{number:03}.{'png' if place % 2 else 'jpg'}")
    found = of_folder(tmp_path, image_fps=10.0)
    videos = found[1]
    caches = caches_of(found)
    plain, kept = loaders_of(found, 0, None), loaders_of(found, 0, caches)
    for number, (one, other) in enumerate(zip(epochs(plain), epochs(kept), strict=True)):
        require_equal(one, other)
        for folder in (videos.train.path(0), videos.val.path(0)):
            for path in folder.iterdir():
                Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(path)
        assert caches[0].store.takes(0) == (number == 0)
    most = 40 * 50 * 3 + 16
    taken = caches[0].store.space.budget - caches[0].store.space.free()
    assert 0 < taken <= most * (FRAMES * len(videos.train) + 8 * len(videos.val))


@pytest.mark.parametrize(
    "settings",
    [{}, {"frame_rate": 30.0}, {"sampling": "uniform"}, {"short_videos": "loop"},
     {"sampling_rate": 6}],
    ids=str,
)  # fmt: skip
def test_the_frames_that_clips_show(videos: Any, settings: dict[str, Any]) -> None:
    data = replace(Config().data, num_frames=8, **settings)
    for kind in ("H.264", "H.264 variable frame rate"):
        info = probe_file(videos.path(kind))
        for span in (None, (5, 31)):
            clips = [clip_indices(info, data, place, span) for place in np.linspace(0, 1, 1000)]
            expected = np.unique(np.concatenate(clips))
            assert shown_frames(info, data, span).tolist() == expected.tolist()


def test_a_store_is_found_by_its_address(found: Found) -> None:
    store = caches_of(found)[0].store
    store._places[3] = 77
    assert FrameStore.open(store.address)._places[3] == 77
