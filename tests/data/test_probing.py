"""What the probe finds, rejects, remembers, and survives."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import av
import numpy as np
import pytest

from slowfast_dist.data import probe_cache
from slowfast_dist.data import probe_cache as probe_segment
from slowfast_dist.data import probing as probe_all
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.probe_cache import default_cache, read_segment
from slowfast_dist.data.probing import probe_videos
from slowfast_dist.system import progress
from slowfast_dist.system.log import log_to_console
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import VideoInfo
from slowfast_dist.video.writer import write_video
from tests.helpers.child_modules import importable, not_importable
from tests.helpers.training_runs import ROOT

STAND_IN = """
import os, signal, time
from dataclasses import asdict
from slowfast_dist.video.probe import probe_file
def answer(path):
    if "hangs" in path.name:
        time.sleep(600)
    if "crashes" in path.name:
        os.kill(os.getpid(), signal.SIGSEGV)
    return asdict(probe_file(path))
"""
"""A probing process on a decoder with two bugs."""


@pytest.fixture
def folder(videos: Any, tmp_path: Path) -> Path:
    """Two good videos, one of them oddly named, and a bad one."""
    kind = replace(videos.kinds["H.264"], frames=5)
    videos.write(tmp_path / "a.mp4", kind)
    videos.write(tmp_path / "ü 日本.b.mp4", replace(kind, rotation=90))
    (tmp_path / "bad.mp4").write_text("not a video")
    return tmp_path


def table(*paths: Path) -> VideoTable:
    return VideoTable.of_paths(paths)


def probe(paths: Sequence[Path], cache: Path | None, workers: int = 2) -> list[VideoInfo | str]:
    return list(probe_videos(table(*paths), workers, cache, show_progress=False))


def segments(cache: Path) -> list[Path]:
    """The files of the cache, of all roots."""
    return sorted(cache.glob("*/*"))


def remembered(cache: Path) -> int:
    """How many files the cache knows."""
    found = [read_segment(path) for path in segments(cache)]
    return sum(len(segment) for segment in found if segment is not None)


def forbid_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_all, "probe_or_reason", not_importable)


def test_videos_and_rejections_are_told_apart(folder: Path) -> None:
    paths = [*sorted(folder.iterdir()), folder / "gone.mp4"]
    assert [path.name for path in paths] == ["a.mp4", "bad.mp4", "ü 日本.b.mp4", "gone.mp4"]
    probed = probe_videos(table(*paths, paths[0]), 2, None, show_progress=False)
    found = list(probed)
    good = found[0]
    assert isinstance(good, VideoInfo) and probe_file(paths[0]) == good == found[4]
    assert good == VideoInfo(
        5, 25.0, 128, 64, 0, "h264", decord_exact=True,
        key_interval=5, frame_time=512.0, reorder_depth=2,
    )  # fmt: skip
    assert found[1] == "text file, not a video"
    assert found[2] == replace(good, width=64, height=128, rotation=90)
    assert "No such file" in str(found[3])
    assert probed.readable.tolist() == [True, False, True, False, True]
    assert sorted(probed.reasons) == [1, 3] and probed.infos[2] == found[2]


def test_a_name_that_is_not_unicode_is_probed(videos: Any, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4"))
    try:
        path.write_bytes(videos.path("H.264").read_bytes())
    except OSError:
        pytest.skip("this file system wants Unicode names")
    for _ in range(2):
        assert isinstance(probe([path], tmp_path / "cache")[0], VideoInfo)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>403 Forbidden</html>", "web page"),
        (b"hello\n", "text file"),
        (bytes(5000), "zeros"),
        (b"\0\0\0\x20ftypisom" + bytes(3000), "cut off"),
        (bytes(range(1, 256)) * 40, "not a video"),
    ],
)
def test_the_reason_says_what_the_file_is(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(content)
    with pytest.raises(DecodeError, match=reason):
        probe_file(path)


def test_a_stream_whose_pictures_cannot_be_decoded_is_rejected(videos: Any, tmp_path: Path) -> None:
    content = bytearray(videos.path("MPEG-4").read_bytes())
    with av.open(str(videos.path("MPEG-4"))) as container:
        found = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    for start, size in found:
        assert start is not None
        content[start : start + size] = bytes(size)
    path = tmp_path / "video.mp4"
    path.write_bytes(content)
    with pytest.raises(DecodeError, match="broken or blank"):
        probe_file(path)


def test_sound_alone_is_no_video(real_data: Path) -> None:
    with pytest.raises(DecodeError, match="no video stream"):
        probe_file(real_data / "odd" / "audio_only.mp4")


def test_the_cache_spares_the_files_until_they_change(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "deep" / "cache"
    good, other = folder / "a.mp4", folder / "ü 日本.b.mp4"
    first = probe([good, other], cache)
    with monkeypatch.context() as patch:
        forbid_processes(patch)
        assert probe([good, other], cache) == first
        assert probe([other], cache) == first[1:]
        patch.chdir(folder)  # the same file by another path
        assert probe([Path("a.mp4")], cache) == first[:1]
        os.utime(good, ns=(0, 0))
        with pytest.raises(RuntimeError, match="does not start"):
            probe([good, other], cache)
    assert probe([good, other], cache) == first
    with monkeypatch.context() as patch:
        forbid_processes(patch)
        assert probe([good, other], cache) == first


def test_the_cache_keeps_uneven_times(
    videos: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also once many segments are made one."""
    cache, folder = tmp_path / "cache", tmp_path / "videos"
    folder.mkdir()
    kind, paths = videos.kinds["H.264 variable frame rate"], []
    for number in range(probe_cache.MOST_SEGMENTS + 2):
        path = folder / f"{number}.mp4"
        videos.write(path, replace(kind, frames=4 + number, varying=number % 4 != 1))
        paths.append(path)
        probe([path], cache)
    expected = [probe_file(path) for path in paths]
    assert [bool(info.uneven_times) for info in expected] == [n % 4 != 1 for n in range(len(paths))]
    assert probe(paths, cache) == expected and len(segments(cache)) < len(paths)
    with monkeypatch.context() as patch:
        forbid_processes(patch)
        assert probe(paths[::-1], cache) == expected[::-1]


def test_a_folder_of_the_same_name_elsewhere_is_not_mistaken_for_it(tmp_path: Path) -> None:
    """Also where sizes and times are the same, as archives may leave them."""
    cache, found = tmp_path / "cache", []
    for place, rate in (("one", 25), ("two", 50)):
        path = tmp_path / place / "videos" / "a.mp4"
        path.parent.mkdir(parents=True)
        images = (np.full((64, 64, 3), 9 * n, np.uint8) for n in range(rate // 5))
        write_video(path, images, rate)
        path.write_bytes(path.read_bytes().ljust(20_000, b"\0"))
        os.utime(path, (0, 0))
        found += probe([path], cache)
    assert [info.frames for info in found if isinstance(info, VideoInfo)] == [5, 10]


def test_a_damaged_cache_costs_another_probe_only(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    good, other = folder / "a.mp4", folder / "ü 日本.b.mp4"
    expected = probe([good], cache) + probe([other], cache)
    first = segments(cache)[0]
    content = first.read_bytes()
    random = Random(0)
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(random.randint(1, 3)):
            damaged[random.randrange(len(damaged))] ^= 1 << random.randrange(8)
        spoilt = bytes(damaged[: random.choice((len(content), random.randrange(len(content))))])
        if spoilt != content:
            first.write_bytes(spoilt)
            assert read_segment(first) is None
    with monkeypatch.context() as patch:
        forbid_processes(patch)
        assert probe([other], cache) == expected[1:]
    assert probe([good, other], cache) == expected
    assert all(read_segment(path) for path in segments(cache)) and remembered(cache) == 2


def test_what_another_version_found_is_probed_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    with monkeypatch.context() as patch:
        patch.setattr(probe_segment, "VERSION", "0")
        probe([folder / "a.mp4"], cache)
    assert remembered(cache) == 0
    probe([folder / "a.mp4"], cache)
    assert remembered(cache) == len(segments(cache)) == 1


def test_a_cache_that_cannot_be_written_costs_one_warning(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log_to_console()
    monkeypatch.setattr(probe_cache, "SAVE_SECONDS", 0.0)
    (tmp_path / "file").write_text("where a folder should be")
    found = probe([folder / "a.mp4", folder / "ü 日本.b.mp4"], tmp_path / "file" / "cache")
    assert all(isinstance(info, VideoInfo) for info in found)
    assert capsys.readouterr().err.count("warning: ") == 1


def test_many_saves_are_made_one_and_keep_what_was_not_asked_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of another CSV in the folder; what has been deleted is forgotten."""
    cache, paths = tmp_path / "cache", [folder / f"{number}.mp4" for number in range(12)]
    for path in paths:
        path.write_bytes((folder / "a.mp4").read_bytes())
    gone = probe([folder / "ü 日本.b.mp4", folder / "a.mp4"], cache)
    (folder / "ü 日本.b.mp4").unlink()
    monkeypatch.setattr(probe_cache, "SAVE_SECONDS", 0.0)
    probe(paths, cache, workers=1)
    assert len(segments(cache)) == 1 and remembered(cache) == 13
    forbid_processes(monkeypatch)
    assert probe([*paths, folder / "a.mp4"], cache) == [gone[1]] * 13


def test_two_runs_at_once_lose_nothing(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for number in range(12):
        (folder / f"{number}.mp4").write_bytes((folder / "a.mp4").read_bytes())
    code = (
        "import sys; from pathlib import Path; from tests.data.test_probing import *\n"
        "probe_cache.SAVE_SECONDS = 0.0\n"
        "paths = [Path(sys.argv[1], f'{n}.mp4') for n in range(12)]\n"
        "for _ in range(3):\n"
        "    probe_cache.MOST_SEGMENTS = 1\n"
        "    assert len(set(probe(paths, Path(sys.argv[2])))) == 1\n"
        "    os.utime(paths[int(sys.argv[3])])\n"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", code, folder, cache, str(number)], cwd=ROOT)
        for number in range(2)
    ]
    assert [run.wait(300) for run in runs] == [0, 0]
    assert all(read_segment(path) for path in segments(cache))
    assert remembered(cache) >= 12


def test_a_hang_or_a_crash_costs_only_its_file(
    videos: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = importable(tmp_path, monkeypatch, STAND_IN)
    monkeypatch.setattr(probe_all, "probe_or_reason", answer)
    monkeypatch.setattr(probe_all, "TIME_LIMIT", 2.0)
    monkeypatch.setattr(probe_all, "BYTES_PER_SECOND", 500.0)  # for the good ones on a busy machine
    monkeypatch.setattr(probe_all, "FILES_WORTH_A_WORKER", 4)
    names = ["0", "hangs 1", "2", "crashes 3", "4", "crashes 5", "6", "7"]
    paths = [tmp_path / f"{name}.mp4" for name in names]
    for path in paths:
        path.write_bytes(b"x" if "hangs" in path.name else videos.path("H.264").read_bytes())
    cache = tmp_path / "cache"
    start = time.monotonic()
    found = probe(paths, cache)
    assert time.monotonic() - start < 300  # it would hang for 600
    for path, result in zip(paths, found, strict=True):
        if "hangs" in path.name:
            assert result == "hangs the decoder: given up after 2 s"
        elif "crashes" in path.name:
            assert result == "crashes the decoder (process ended with -11)"
        else:
            assert isinstance(result, VideoInfo)
    assert remembered(cache) == 5  # what failed is tried again next time


def test_an_interrupted_probe_keeps_what_it_found(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    shown = progress.over_files

    def interrupted(answers: Any, total: int, title: str) -> Any:
        for answer in shown(answers, total, title):
            yield answer
            raise KeyboardInterrupt

    monkeypatch.setattr(probe_all, "over_files", interrupted)
    with pytest.raises(KeyboardInterrupt):
        probe_videos(table(folder / "a.mp4", folder / "ü 日本.b.mp4"), 1, cache, True)
    assert remembered(cache) == 1


def test_progress_is_plain_lines_where_there_is_no_terminal(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    probe_videos(table(*sorted(folder.iterdir())), 1, None, show_progress=True)
    lines = capsys.readouterr().err.splitlines()
    expected = [f"checking the videos: {done} of 3 ETA 00:0" for done in (1, 2, 3)]
    assert [re.sub(r"\d:\d\d$", "", line) for line in lines] == expected


def test_the_cache_lies_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SLOWFAST_DIST_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache/slowfast_dist/probe"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "xdg/slowfast_dist/probe"
    monkeypatch.setenv("SLOWFAST_DIST_CACHE", str(tmp_path / "own"))
    assert default_cache() == tmp_path / "own/slowfast_dist/probe"


def test_a_probing_process_starts_without_torch() -> None:
    code = "import slowfast_dist.video.probe, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
