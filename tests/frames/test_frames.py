"""The comparison of every frame with FFmpeg's full decode: it finds what it is there for."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.reader import read_frames
from tests.frames import __main__ as frames
from tests.frames import compare, make
from tests.frames.compare import Comparison, compare_file

A, B, C, D = (bytes([number]) for number in range(4))


@pytest.mark.parametrize(
    "got, wrong, missing",
    [
        ([A, B, C, D], 0, 0),
        ([A, C, B, D], 2, 0),
        ([B, C, D, D], 3, 0),
        ([A, C, D], 0, 1),
        ([A, B, C, D, D], 1, 0),
        ([], 0, 4),
    ],
)
def test_frames_that_are_wrong_and_missing_are_counted(
    got: list[bytes], wrong: int, missing: int
) -> None:
    found = Comparison()
    found.add("random", [A, B, C, D], got)
    assert (found.wrong, found.missing) == (wrong, missing)


@pytest.fixture
def folder(videos: Any, tmp_path: Path) -> Path:
    for kind in ("H.264 open GOP", "MPEG-4 B-frames AVI", "HEVC a late time"):
        path = videos.path(kind)
        shutil.copy(path, tmp_path / f"{kind}{path.suffix}")
    (tmp_path / "notes.mp4").write_text("no video")
    return tmp_path


def test_a_folder_of_right_frames_is_exit_code_0(folder: Path, capsys: Any) -> None:
    assert frames.main([str(folder), "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    assert "notes.mp4: 0 frames, 0 wrong, 0 missing; refused: text file, not a video" in printed
    # Each read at random, through the index and in sequence.
    counts = "4 files, 3 read: 120 frames, 360 reads; 0 wrong, 0 missing; 1 files refused"
    assert printed.splitlines()[-1].startswith(counts)


def test_a_reader_that_swaps_two_frames_is_found(folder: Path, monkeypatch: Any) -> None:
    real = read_frames

    def swapping(path: Path, numbers: Any, *others: Any) -> Any:
        changed = [{7: 8, 8: 7}.get(number, number) for number in numbers.tolist()]
        return real(path, np.array(changed), *others)

    monkeypatch.setattr(compare, "read_frames", swapping)
    found = Comparison(**compare_file(folder / "H.264 open GOP.mp4"))
    assert found.wrong == 4 and not found.missing  # at random and through the index
    assert frames.summary([found]) == 1


def test_a_good_file_that_is_refused_is_missing(folder: Path, monkeypatch: Any) -> None:
    def refusing(path: Path) -> Any:
        raise DecodeError(path, "no")

    monkeypatch.setattr(compare, "probe_file", refusing)
    found = Comparison(**compare_file(folder / "H.264 open GOP.mp4"))
    assert (found.refused, found.missing) == ("no", 40)


def test_a_file_that_kills_its_process_is_missing(folder: Path, monkeypatch: Any) -> None:
    def killed(*arguments: Any, **options: Any) -> Any:
        return iter([(folder / "notes.mp4", "crashes the decoder (process ended with -11)")])

    monkeypatch.setattr(frames, "map_in_children", killed)
    assert frames.main([str(folder)]) == 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg program")
def test_videos_are_made_by_each_encoder_in_each_container(
    tmp_path: Path, monkeypatch: Any
) -> None:
    def few(names: set[str], real: Any) -> Any:
        return lambda program: [found for found in real(program) if found[0] in names]

    monkeypatch.setattr(make, "_encoders", few({"mpeg2video-b", "qtrle"}, make._encoders))
    monkeypatch.setattr(make, "_muxers", few({"matroska", "mpeg", "mov"}, make._muxers))
    line = make.make_videos(tmp_path / "made", 2)
    # Of these, QuickTime alone holds QuickTime Animation.
    assert line.startswith("4 videos by 2 encoders and their variants (of 2 tried) in 3 containers")
    assert len(list((tmp_path / "made").iterdir())) == 4
    assert frames.main([str(tmp_path / "made")]) == 0
