"""How much a training keeps, where, and what it says of that."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slowfast_dist.config.data import DataConfig, cache_bytes
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.cache import frames, plan
from slowfast_dist.data.cache.frames import FrameCache, Source
from slowfast_dist.data.cache.plan import CachePlan, make_store, plan_cache
from slowfast_dist.data.listing.columns import InfoColumns
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.video.cache.store import FrameStore
from slowfast_dist.video.guarded_reader import GuardedReader
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import IMAGES, VideoInfo
from slowfast_dist.video.views import SpatialView

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="frames are kept on Linux alone")

DATA = DataConfig()  # 32 frames at rate 2: 63 from the first to the last
VIDEO = VideoInfo(
    frames=150, fps=30, width=1000, height=400, rotation=0, codec="h264", decord_exact=True,
    key_interval=12, decode_ms=2.0,
)  # fmt: skip
FRAME = 1.5 * 1000 * 400


def table(*infos: VideoInfo) -> VideoTable:
    paths = [Path(f"{number}.mp4") for number in range(len(infos))]
    return VideoTable.of_paths(paths).probed(InfoColumns.of(infos))


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets how many bytes of memory are free."""
    return lambda count: monkeypatch.setattr(plan, "available_memory", lambda _: float(count))


def planned(
    *infos: VideoInfo, val: int = 0, epochs: int = 20, **settings: Any
) -> CachePlan:
    videos = table(*infos)
    return plan_cache(replace(DATA, **settings), videos, videos.select(range(val)), epochs)


@pytest.mark.parametrize(
    ("text", "count"),
    [("4GB", 4e9), ("1.5 tb", 1.5e12), ("500MB", 5e8), ("4", None), ("GB", None), ("-1GB", None),
     ("4GiB", None), ("٤GB", None)],
)  # fmt: skip
def test_sizes(text: str, count: float | None) -> None:
    assert cache_bytes(text) == count


def test_auto_takes_a_fifth_of_the_free_memory_at_most(free: Any) -> None:
    needed = 10 * 150 * FRAME
    free(20 * needed)
    assert planned(*[VIDEO] * 10).line == (
        "decoded frames are kept in memory: about 900.0 MB, all that clips show (--data.cache "
        "auto: at most 3600.0 MB)"
    )
    free(needed)
    some = planned(*[VIDEO] * 10, val=2)
    assert some.budget == 0.2 * needed and some.memory_left == 0.1 * needed
    assert some.reserve == 2 * 32 * FRAME
    assert some.line == (
        "decoded frames are kept in memory: 180.0 MB, the first that fit; all take about 938.4 MB "
        "(--data.cache auto)"
    )
    videos = table(VIDEO)
    assert plan_cache(DATA, videos, videos, 20, share=0.1).budget == 0.1 * needed
    free(needed / 4)
    none = planned(*[VIDEO] * 10)
    assert none.budget == 0 and none.line == (
        "decoded frames are not kept (--data.cache auto): 45.0 MB are to be had in memory, and all "
        "take about 900.0 MB; --data.cache-dir keeps them on a local disk"
    )


def test_a_size_is_taken_or_refused(free: Any) -> None:
    free(5e9)
    assert planned(VIDEO, cache="4GB").budget == 4 * 10**9
    message = "--data.cache 6GB: 5000.0 MB are free in memory: give less, or auto"
    with pytest.raises(UserError, match=message):
        planned(VIDEO, cache="6GB")
    assert planned(VIDEO, cache="off") == CachePlan(0, "")


def test_a_disk_in_place_of_memory(free: Any, tmp_path: Path) -> None:
    free(0)
    found = planned(VIDEO, cache_dir=tmp_path / "new")
    assert found.budget > 0 and found.memory_left == 0 and found.folder == tmp_path / "new"
    assert found.line.startswith(f"decoded frames are kept on the disk of {tmp_path / 'new'}: ")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--data\.cache-dir .*file: File exists: give another"):
        planned(VIDEO, cache_dir=tmp_path / "file")


def test_only_what_the_epochs_pay_for_is_kept(free: Any) -> None:
    free(1e12)
    assert "training of one epoch" in planned(VIDEO, epochs=1).line
    long = replace(VIDEO, frames=2000)  # 29 clips
    hours = replace(VIDEO, frames=200_000)
    for epochs, kept in ((3, 0), (20, 150), (60, 2150)):
        line = planned(VIDEO, long, hours, epochs=epochs).line
        assert (f"about {kept * FRAME / 1e6:.1f} MB" in line) == bool(kept), (epochs, line)
        assert kept or line.endswith("the epochs would not pay for it")
    assert "those that are validated" in planned(hours, val=1).line
    folder = replace(VIDEO, codec=IMAGES, key_interval=1)  # 5 clips, of 3 bytes a pixel
    assert planned(folder, epochs=5).budget == 0
    assert f"about {150 * 2 * FRAME / 1e6:.1f} MB" in planned(folder).line
    assert f"about {32 * FRAME / 1e6:.1f} MB" in planned(VIDEO, sampling="uniform").line


def test_where_no_memory_can_be_shared_auto_does_without(
    free: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise OSError(12, "Cannot allocate memory")

    free(1e12)
    monkeypatch.setattr(FrameStore, "create", refused)
    videos = table(VIDEO)
    found = plan_cache(DATA, videos, videos, 20)
    without = make_store(found, DATA, videos, videos)
    line = "decoded frames are not kept (--data.cache auto): Cannot allocate memory"
    assert without == (CachePlan(0, line), None)
    with pytest.raises(UserError, match="--data.cache 1GB: cannot be had here"):
        make_store(found, replace(DATA, cache="1GB"), videos, videos)


def test_nothing_more_is_kept_while_memory_is_short(
    videos: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = videos.path("H.264")
    info = probe_file(path)
    left = 1e9
    monkeypatch.setattr(frames, "available_memory", lambda _: left)
    cache = FrameCache(FrameStore.create(np.array([info.frames]), 10**8), 0, 9, memory_left=1e9)
    reader, view = GuardedReader(), SpatialView(0, 0, 32, 32, 32, False)
    arguments = Source(0, path, info), np.array([1, 2]), [view], lambda: None, reader
    assert cache.read(*arguments) is None
    left = 2e9
    assert cache.read(*arguments) is None  # it is not looked again at once
    monkeypatch.setattr(frames, "LOOK_SECONDS", 0.0)
    cache._look = 0.0
    assert cache.read(*arguments) is not None
    reader.close()
