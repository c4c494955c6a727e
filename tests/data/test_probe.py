"""What the probe finds, rejects, remembers, and survives."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest

from slowfast_dist.data import probe_all
from slowfast_dist.data.packets import DecodeError
from slowfast_dist.data.probe import probe_file
from slowfast_dist.data.probe_all import probe_videos
from slowfast_dist.data.probe_cache import default_cache
from slowfast_dist.data.video import VideoInfo

STAND_IN = """
import os, signal, sys, time
from dataclasses import asdict
from slowfast_dist.data.probe import probe_file
from slowfast_dist.data.probe_pool import serve
def answer(path):
    if "hangs" in path.name:
        time.sleep(600)
    if "crashes" in path.name:
        os.kill(os.getpid(), signal.SIGSEGV)
    return asdict(probe_file(path))
serve(answer)
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


def forbid_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_all, "WORKER", (sys.executable, "-c", "raise SystemExit"))


def test_videos_and_rejections_are_told_apart(folder: Path) -> None:
    paths = [*sorted(folder.iterdir()), folder / "gone.mp4"]
    found = probe_videos([*paths, paths[0]], 2, None, show_progress=False)
    assert list(found) == paths
    good = VideoInfo(
        5, 25.0, 128, 64, 0, "h264", decord_exact=True,
        key_interval=5, frame_time=512.0, reorder_depth=2,
    )  # fmt: skip
    assert found[folder / "a.mp4"] == good
    turned = replace(good, width=64, height=128, rotation=90)
    assert found[folder / "ü 日本.b.mp4"] == turned
    assert found[folder / "bad.mp4"] == "text file, not a video"
    assert "No such file" in str(found[folder / "gone.mp4"])


def test_a_name_that_is_not_unicode_is_probed(videos: Any, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4"))
    try:
        path.write_bytes(videos.path("H.264").read_bytes())
    except OSError:
        pytest.skip("this file system wants Unicode names")
    cache = tmp_path / "probe.jsonl"
    for _ in range(2):
        assert isinstance(probe_videos([path], 1, cache, False)[path], VideoInfo)


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
    cache = tmp_path / "deep" / "probe.jsonl"
    good = folder / "a.mp4"
    first = probe_videos([good], 1, cache, show_progress=False)
    with monkeypatch.context() as patch:
        forbid_processes(patch)
        assert probe_videos([good], 1, cache, show_progress=False) == first
        monkeypatch.chdir(folder)  # the same file by another path
        assert probe_videos([Path("a.mp4")], 1, cache, False) == {Path("a.mp4"): first[good]}
        os.utime(good, ns=(0, 0))
        with pytest.raises(RuntimeError, match="does not start"):
            probe_videos([good], 1, cache, show_progress=False)
    assert probe_videos([good], 1, cache, show_progress=False) == first
    assert len(cache.read_text().splitlines()) == 1


def test_a_damaged_cache_costs_its_damaged_lines_only(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache" / "probe.jsonl"
    good, other = folder / "a.mp4", folder / "ü 日本.b.mp4"
    expected = probe_videos([good, other], 2, cache, show_progress=False)
    lines = {json.loads(line)["path"]: line for line in cache.read_text().splitlines()}
    old = {**json.loads(lines[str(other)]), "version": "0", "info": {"frames": 1}}
    junk = [b"\xff\xfe{", b"{}", b"[1]", b'"x"', lines[str(other)].encode()[:-9]]
    entry = lines[str(good)].encode()
    cache.write_bytes(b"\n".join([*junk, entry, json.dumps(old).encode()]))
    with monkeypatch.context() as patch:
        forbid_processes(patch)
        assert probe_videos([good], 1, cache, False) == {good: expected[good]}
    assert probe_videos([good, other], 2, cache, show_progress=False) == expected
    assert len(cache.read_text().splitlines()) == 2


def test_a_cache_that_cannot_be_written_costs_one_warning(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("where a folder should be")
    cache = tmp_path / "file" / "probe.jsonl"
    found = probe_videos([folder / "a.mp4"], 1, cache, show_progress=False)
    assert isinstance(found[folder / "a.mp4"], VideoInfo)
    assert capsys.readouterr().err.count("warning") == 1


def test_a_hang_or_a_crash_costs_only_its_file(
    videos: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_all, "WORKER", (sys.executable, "-c", STAND_IN))
    monkeypatch.setattr(probe_all, "TIME_LIMIT", 2.0)
    monkeypatch.setattr(probe_all, "FILES_WORTH_A_WORKER", 4)
    names = ["0", "hangs 1", "2", "crashes 3", "4", "crashes 5", "6", "7"]
    paths = [tmp_path / f"{name}.mp4" for name in names]
    for path in paths:
        path.write_bytes(videos.path("H.264").read_bytes())
    cache = tmp_path / "probe.jsonl"
    start = time.monotonic()
    found = probe_videos(paths, 2, cache, show_progress=False)
    assert time.monotonic() - start < 30
    for path in paths:
        result = found[path]
        if "hangs" in path.name:
            assert result == "hangs the decoder: given up after 2 s"
        elif "crashes" in path.name:
            assert result == "crashes the decoder (process ended with -11)"
        else:
            assert isinstance(result, VideoInfo)
    assert len(cache.read_text().splitlines()) == 5  # what failed is tried again next time


def test_an_interrupted_probe_keeps_what_it_found(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "probe.jsonl"
    shown = probe_all._shown

    def interrupted(answers: Any, total: int) -> Any:
        for answer in shown(answers, total):
            yield answer
            raise KeyboardInterrupt

    monkeypatch.setattr(probe_all, "_shown", interrupted)
    with pytest.raises(KeyboardInterrupt):
        probe_videos([folder / "a.mp4", folder / "ü 日本.b.mp4"], 1, cache, show_progress=True)
    assert len(cache.read_text().splitlines()) == 1


def test_progress_is_plain_lines_where_there_is_no_terminal(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(probe_all, "LINE_SECONDS", 0.0)
    probe_videos(sorted(folder.iterdir()), 1, None, show_progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"checking the videos: {done} of 3" for done in (1, 2, 3)]


def test_the_cache_lies_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SLOWFAST_DIST_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache/slowfast_dist/probe.jsonl"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "xdg/slowfast_dist/probe.jsonl"
    monkeypatch.setenv("SLOWFAST_DIST_CACHE", str(tmp_path / "own"))
    assert default_cache() == tmp_path / "own/slowfast_dist/probe.jsonl"


def test_a_probing_process_starts_without_torch() -> None:
    code = "import slowfast_dist.data.probe, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
