"""Videos in columns: the same as records, in a few buffers, and no memory a video in workers."""

import pickle
import subprocess
import sys
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path
from random import Random

import numpy as np
import pytest

from slowfast_dist.data.listing.columns import CHUNK, Categorical, InfoColumns, Texts
from slowfast_dist.data.listing.video_table import VideoRecord, VideoTable
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.video.seeking import pack_uneven_times, rate_of_times
from tests.helpers.training_runs import ROOT
from tests.helpers.video_tables import table_of

NAMES = ["a/1.mp4", "", "zoë läuft/走る.webm", "b/caf\udce9.mp4", "a/1.mp4.mp4", "x" * 300]

INFO = VideoInfo(40, 29.97, 340, 256, 90, "h264", decord_exact=True)


def records(groups: bool) -> list[VideoRecord]:
    names = [name for name in NAMES if name]
    return [
        VideoRecord(Path("root", name), name, i % 3, f"g{i % 2}" if groups and i else name)
        for i, name in enumerate(names)
    ]


def infos(count: int) -> list[VideoInfo]:
    kinds = ["h264", "hevc", "av1"]
    return [
        replace(INFO, frames=7**row, fps=row / 3, codec=kinds[row % 3], decord_exact=row % 2 == 0)
        for row in range(count)
    ]


@pytest.mark.parametrize("groups", [False, True])
def test_a_table_gives_back_the_records(groups: bool) -> None:
    expected, found = records(groups), infos(len(NAMES) - 1)
    table = table_of(expected, found)
    for same in (table, pickle.loads(pickle.dumps(table)), table.select(range(len(table)))):
        assert list(same) == expected and len(same) == len(expected)
        assert [same[i] for i in range(-5, 5)] == expected * 2
        assert [same.path(i) for i in range(5)] == [video.path for video in expected]
        assert [same.info(i) for i in range(5)] == found
        assert list(same.group_names()) == [video.group for video in expected]
        assert list(same.names) == [video.name for video in expected]
    chosen = table.select([4, 0, 0])
    assert list(chosen) == [expected[4], expected[0], expected[0]]
    assert chosen.info(0) == found[4] and list(table[1:3]) == expected[1:3]
    with pytest.raises(IndexError):
        table[5]
    assert list(table_of([])) == []


def test_files_of_any_folders_make_a_table() -> None:
    for paths in ([Path("/a/b/1.mp4"), Path("/a/2.mp4")], [Path("1.mp4"), Path("c/2.mp4")], []):
        table = VideoTable.of_paths(paths)
        assert [video.path for video in table] == paths


def test_uneven_times_survive_selections_and_pickles() -> None:
    """Of some videos of many, in rows that are set in any order."""
    texts = [
        pack_uneven_times([0, 30 + row, 99], Fraction(1, 1000), 30.0) if row % 3 else ""
        for row in range(9)
    ]
    found = [replace(INFO, frames=3, uneven_times=text, uneven_rate=rate_of_times(text))
             for text in texts]  # fmt: skip
    columns = InfoColumns.empty(9)
    for row in (4, 0, 8, 1, 2, 3, 7, 6, 5):
        columns.set(row, vars(found[row]))
    names = Texts.of(f"{row}.mp4" for row in range(9))
    table = VideoTable(Path("root"), names, np.zeros(9, np.int32)).probed(columns)
    for same in (table, table.select(range(9)), pickle.loads(pickle.dumps(table.select(range(9))))):
        assert [same.info(row).uneven_times for row in range(9)] == texts
        rates = [29.97 if not row % 3 else 2 / 0.099 for row in range(9)]
        assert same.rates().tolist() == pytest.approx(rates)
    chosen = table.select([5, 2, 2]).select([0, 2, 1, 0])  # none of them has the empty text
    assert [video.uneven_times for video in map(chosen.info, range(4))] == [
        texts[5], texts[2], texts[2], texts[5],
    ]  # fmt: skip
    assert chosen.rates() == pytest.approx(2 / 0.099)
    counted = table.select(range(9)).without_times()
    assert [counted.info(row).uneven_times for row in range(9)] == [""] * 9
    assert counted.rates().tolist() == table.rates().tolist()
    assert pickle.loads(pickle.dumps(counted)).info(5).mean_rate() == pytest.approx(2 / 0.099)
    with pytest.raises(ValueError, match="uneven_times"):
        columns.set(0, vars(replace(INFO, uneven_times="1/1000 no times")))


def test_every_field_of_an_info_survives_with_its_type() -> None:
    [info] = [InfoColumns.of([INFO])[0]]
    assert info == INFO
    assert {f.name: type(getattr(info, f.name)) for f in fields(VideoInfo)} == {
        f.name: type(getattr(INFO, f.name)) for f in fields(VideoInfo)
    }
    big = [replace(INFO, frames=-(2**62)), replace(INFO, frames=2**62)]
    assert list(map(InfoColumns.of(big).take(np.arange(2)).__getitem__, (0, 1))) == big


def test_columns_put_together_keep_their_texts() -> None:
    first, second = InfoColumns.of(infos(3)), InfoColumns.of(infos(3)[::-1])
    both = InfoColumns.empty(6)
    both.put(np.arange(3), first.take(np.arange(3)), np.arange(3))
    both.put(np.arange(3, 6), second, np.arange(3))
    assert [both[row] for row in range(6)] == infos(3) + infos(3)[::-1]


def test_texts_of_more_than_one_chunk() -> None:
    random = Random(0)
    words = [f"{'ü' * random.randint(0, 3)}{i}" for i in range(2 * CHUNK + 5)]
    texts = Texts.of(words)
    assert list(texts) == words and texts[-1] == words[-1]
    rows = random.choices(range(len(words)), k=CHUNK + 9)
    assert list(texts.take(rows)) == [words[row] for row in rows]
    assert list(Texts.concatenated([texts, Texts.of(NAMES), Texts.of([])])) == words + NAMES
    wanted = Texts.of([words[7], "none", words[CHUNK + 1]])
    assert texts.places(wanted).tolist() == [7, -1, CHUNK + 1]
    assert texts.places(texts).tolist() == list(range(len(words)))
    coded = Categorical.of(word[-1] for word in words)
    assert list(coded) == [word[-1] for word in words] and len(coded.texts) == 10


def test_a_pickled_table_is_its_buffers() -> None:
    """100 bytes a video besides its name at most, so that a broadcast of a million is seconds."""
    count = 10_000
    names = [f"class_{i // 1000}/clip_{i:06d}.mp4" for i in range(count)]
    table = VideoTable(Path("root"), Texts.of(names), np.zeros(count, np.int32))
    table = table.probed(InfoColumns.of(infos(3) * (count // 3) + infos(1))).select(range(count))
    assert len(pickle.dumps(table)) < sum(map(len, names)) + 100 * count


USS = """
import sys
from pathlib import Path
import numpy as np
from slowfast_dist.commands.benchmark.reading.index import _worker_memory
from slowfast_dist.data.listing.columns import InfoColumns, Texts
from slowfast_dist.data.sampler import DistributedBatchSampler
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.data.listing.video_table import VideoTable
count = int(sys.argv[1])
infos = InfoColumns.empty(count)
info = InfoColumns.of([VideoInfo(40, 25.0, 340, 256, 0, "h264", True)])
infos.put(np.arange(count), info, np.zeros(count, np.int64))
names = Texts.of(f"class_{i // 1000}/clip_{i:06d}.mp4" for i in range(count))
videos = VideoTable(Path("root"), names, np.zeros(count, np.int32), infos=infos)
print(_worker_memory(videos, DistributedBatchSampler(count, 256, 256, 0))["worker_uss_mb"])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="workers share memory by fork")
def test_the_memory_of_a_loaders_worker_does_not_grow_with_the_videos() -> None:
    used = {}
    for count in (10_000, 300_000):
        done = subprocess.run(
            [sys.executable, "-c", USS, str(count)], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        used[count] = float(done.stdout)
    print(f"measured: MB of a worker's own memory by videos: {used}")
    assert used[300_000] < used[10_000] + 1.5  # MB; a reference counted is a page of 4 kB copied
