"""Files that stay open between clips give the frames that files opened anew give."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slowfast_dist.video import container
from slowfast_dist.video.container import OpenFiles
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import read_views
from tests.helpers.video_kinds import Kind, read_number, write

SOUGHT = (
    "H.264", "H.264 mkv", "H.264 variable frame rate", "H.264 open GOP", "HEVC", "VP9",
    "MPEG-4", "AV1",
)  # fmt: skip


@pytest.fixture(autouse=True)
def short_files_stay_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "WORTH_KEEPING", 1)


def count_opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    opened: list[Path] = []
    real = container.open_video

    def counted(path: Path, **options: Any) -> Any:
        opened.append(path)
        return real(path, **options)

    monkeypatch.setattr(container, "open_video", counted)
    return opened


def test_clips_of_files_in_turn_are_those_of_a_full_decode(
    videos: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = [kind for kind in SOUGHT if kind in videos.kinds]
    assert len(kinds) > 4
    paths = [videos.path(kind) for kind in kinds]
    infos = [probe_file(path) for path in paths]
    assert infos[kinds.index("H.264 variable frame rate")].seekable
    sought = [place for place, info in enumerate(infos) if info.frame_time or info.seekable]
    assert len(sought) > 4
    opened, files, rng = count_opened(monkeypatch), OpenFiles(), np.random.default_rng(0)
    for _ in range(80):
        place = int(rng.choice(sought))
        info, whole = infos[place], videos.whole(paths[place])
        first = int(rng.integers(0, info.frames))
        clip = np.minimum(first + int(rng.integers(1, 4)) * np.arange(6), info.frames - 1)
        [frames] = read_views(paths[place], clip, info, "pyav", [None], None, files)
        np.testing.assert_array_equal(frames, np.stack([whole[number] for number in clip]))
    # Frames that lean on what was before their keyframe need the index, and the file anew.
    assert len(opened) < 40


def test_a_file_longer_than_all_may_be_stays_open_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "MOST_FRAMES", 10)
    opened, files = count_opened(monkeypatch), OpenFiles()
    paths = [write(tmp_path / f"{name}.mp4", Kind(".mp4", frames=12)) for name in "ab"]
    infos = [probe_file(path) for path in paths]
    opened.clear()
    for number in (0, 0, 0, 1, 1, 0):
        read_views(paths[number], np.array([7]), infos[number], "pyav", [None], None, files)
    assert opened == [paths[0], paths[1], paths[0]]


def test_a_file_that_was_replaced_is_opened_anew_and_the_oldest_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path) -> int:
        [frames] = read_views(path, np.array([7]), probe_file(path), "pyav", [None], None, files)
        return read_number(frames[0])

    opened, files = count_opened(monkeypatch), OpenFiles()
    paths = [write(tmp_path / f"{name}.mp4", Kind(".mp4")) for name in "abc"]
    assert [read(paths[0]) for _ in range(3)] == [7, 7, 7] and opened == paths[:1]
    other = write(tmp_path / "other.mp4", Kind(".mp4", frames=12))
    os.replace(other, paths[0])
    assert read(paths[0]) == 7 and opened == [paths[0]] * 2

    monkeypatch.setattr(container, "MOST_FILES", 2)
    opened.clear()
    for path in (*paths, paths[2], paths[1], paths[0]):
        read(path)
    assert opened == [paths[1], paths[2], paths[0]]
