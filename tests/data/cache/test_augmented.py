"""An augmented clip of frames that are kept is the one of frames that were just decoded."""

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from slowfast_dist.config.augment import AugmentConfig
from slowfast_dist.config.data import DataConfig
from slowfast_dist.data.cache.frames import FrameCache
from slowfast_dist.data.cache.plan import file_frames
from slowfast_dist.data.listing.video_table import VideoRecord, VideoTable
from slowfast_dist.data.sampler import ClipKey
from slowfast_dist.data.samples.training import TrainingClips
from slowfast_dist.video.cache.store import FrameStore
from slowfast_dist.video.probe import probe_file
from tests.helpers.video_kinds import Kind
from tests.helpers.video_tables import table_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="frames are kept on Linux alone")

EPOCHS = 4
DATA = DataConfig(num_frames=8, sampling_rate=2, short_side=(36, 48), crop_size=32)
ALL = AugmentConfig(crop_scale=(0.3, 1.0), rand_augment=15.0, erasing=0.5, speed=(0.5, 2.0))
KINDS = {
    "plain": Kind(".mp4"),
    "turned": Kind(".mp4", rotation=90),
    "upside down": Kind(".mp4", rotation=180),
    "uneven": Kind(".mp4", varying=True),
    "odd": Kind(".mp4", size=(97, 131), pix_fmt="yuv444p"),
    "10 bit": Kind(".mp4", pix_fmt="yuv420p10le"),
    "short": Kind(".mp4", frames=5),
}


@pytest.fixture(scope="module")
def table(videos: Any, tmp_path_factory: pytest.TempPathFactory) -> VideoTable:
    """Files of all these kinds, one of them stored mirrored, too, and a folder of images."""
    root = tmp_path_factory.mktemp("kinds")
    paths = [videos.write(root / f"{name}{kind.suffix}", kind) for name, kind in KINDS.items()]
    paths.append(root / "images")
    paths[-1].mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        image = Image.fromarray(rng.integers(0, 256, (60, 50, 3), np.uint8))
        image.save(paths[-1] / f"{number:03}.{'png' if number % 2 else 'jpg'}")
    infos = [probe_file(path, 10.0) for path in paths]
    assert infos[1].rotation == 90
    infos += [replace(infos[0], mirrored=True), replace(infos[1], mirrored=True)]
    for place, name in ((0, "mirrored.mp4"), (1, "mirrored and turned.mp4")):
        paths.append(root / name)
        paths[-1].write_bytes(paths[place].read_bytes())
    records = [VideoRecord(path, path.name, 0, path.name) for path in paths]
    return table_of(records, infos)


def store_of(table: VideoTable) -> FrameStore:
    return FrameStore.create(file_frames(table), 200_000_000)


@pytest.mark.parametrize(
    "settings",
    [
        {}, {"resize": "square"}, {"resize": "pad"}, {"sampling_rate": 6}, {"frame_rate": 30.0},
        {"sampling": "uniform"}, {"short_videos": "loop", "sampling_rate": 5},
        {"crop_box": (0.2, 0.1, 0.5, 0.7)},
    ],
    ids=str,
)  # fmt: skip
def test_every_kind_of_video(table: VideoTable, settings: dict[str, Any]) -> None:
    data, store = replace(DATA, **settings), store_of(table)
    plain, kept = (TrainingClips(table, data, 3, augment=ALL) for _ in range(2))
    kept.keep_frames(FrameCache(store, 0, EPOCHS, least=10))
    for epoch in range(EPOCHS):
        for row in range(len(table)):
            for repeat in range(2 if epoch else 1):
                key = ClipKey(epoch, row, repeat)
                one, other = plain[key], kept[key]
                assert one.failures == other.failures == ()
                assert one.frames is not None and other.frames is not None
                assert torch.equal(one.frames, other.frames), (table.names[row], key)
    assert store.space.free() < store.space.budget
    assert all(store.takes(row) for row in range(len(table)))
