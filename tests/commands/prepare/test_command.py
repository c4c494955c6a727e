"""A prepared dataset has the same names and classes; stopping and damage cost nothing but time."""

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import psutil
import pytest

from slowfast_dist.commands.prepare import command as prepare
from slowfast_dist.commands.prepare import sources as prepare_sources
from slowfast_dist.commands.prepare.command import run_prepare
from slowfast_dist.commands.prepare.folder import PARTS, Prepared, open_folder, target_names
from slowfast_dist.config.commands.dataset import Prepare
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.data.listing.manifest import list_videos
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.runs.lock import RunLock
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.transcode import KEY_INTERVAL, VERSION
from tests.helpers.child_modules import importable, not_importable
from tests.helpers.shapes import write_disc
from tests.helpers.training_runs import ROOT, hear_ctrl_c

SMALL = Prepare(short_side=32, num_workers=1)
CLASSES = ("moves down", "moves up")


def originals(root: Path, clips: int = 2, size: int = 64) -> Path:
    make_videos(root, clips, 0, size=size, frames=8, classes=CLASSES)
    return root


def contents(folder: Path) -> dict[str, str]:
    """Every file's hash, by path below the folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def record(out: Path) -> dict[str, Prepared]:
    lines = (out / "prepared.jsonl").read_text().splitlines()
    entries = [Prepared(**json.loads(line)) for line in lines if line.endswith("}")]
    return {entry.path: entry for entry in entries}


def forbid_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "clip_costs", None)
    monkeypatch.setattr(prepare, "transcode_or_reason", not_importable)
    monkeypatch.setattr(prepare_sources, "sha256_or_nothing", not_importable)


def cheaper(monkeypatch: pytest.MonkeyPatch) -> None:
    """One video is read before and after, not five."""
    monkeypatch.setattr(prepare, "MEASURED", 1)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """Originals, what was prepared of them, and what was said."""
    folder = tmp_path_factory.mktemp("prepare")
    root, out = originals(folder / "in"), folder / "out"
    down = root / "moves down"
    shutil.copy(down / "clip_000.mp4", down / "clip_000.avi")
    (down / "deeper").mkdir()
    shutil.copy(down / "clip_001.mp4", down / "deeper" / "ü 日本.MOV")
    shutil.copy(down / "clip_001.mp4", down / ".hidden.mp4")
    (down / "notes.txt").write_text("no video")
    (root / "moves up" / "bad.mp4").write_text("no video either")
    before = contents(root)
    command = [sys.executable, "-m", "slowfast_dist", "prepare", str(root), str(out)]
    result = subprocess.run(
        [*command, "--short-side", "32", "--num-workers", "1"], cwd=ROOT, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert contents(root) == before
    return root, out, result.stdout


def test_classes_and_names_are_kept(done: tuple[Path, Path, str]) -> None:
    _, out, _ = done
    assert set(contents(out)) == {
        "moves down/clip_000.mp4",
        "moves down/clip_000.avi.mp4",
        "moves down/clip_001.mp4",
        "moves down/deeper/ü 日本.mp4",
        "moves up/clip_000.mp4",
        "moves up/clip_001.mp4",
        "prepared.jsonl",
        "unreadable_videos.csv",
    }
    listing = list_videos(out, "data.root")
    assert listing.classes == CLASSES and len(listing.videos) == 6
    for video in listing.videos:
        info = probe_file(video.path)
        assert (info.width, info.height, info.frames, info.fps) == (32, 32, 8, 15)


def test_the_record_tells_each_ones_source(done: tuple[Path, Path, str]) -> None:
    root, out, _ = done
    entries = record(out)
    assert len(entries) == 6
    entry = entries["moves down/clip_000.avi.mp4"]
    source = root / entry.source
    assert source.name == "clip_000.avi"
    assert entry.source_sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert (entry.source_size, entry.source_mtime_ns) == (
        source.stat().st_size,
        source.stat().st_mtime_ns,
    )
    assert entry.size == (out / entry.path).stat().st_size
    assert (entry.frames, entry.short_side) == (8, 32)
    assert (entry.key_interval, entry.version) == (KEY_INTERVAL, VERSION)


def test_what_cannot_be_read_is_listed_and_counted(done: tuple[Path, Path, str]) -> None:
    _, out, said = done
    with open(out / "unreadable_videos.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"path": "moves up/bad.mp4", "reason": "text file, not a video"}]
    assert "6 videos are prepared" in said
    assert "1 of 7 cannot be read and are left out, as moves up/bad.mp4: text file" in said
    assert "ms of CPU time to read in place of" in said and "MB in place of" in said
    assert f"python train.py --data.root {out}" in said


def test_a_second_start_does_only_what_is_new(
    done: tuple[Path, Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, out = (shutil.copytree(folder, tmp_path / folder.name) for folder in done[:2])
    (root / "moves up" / "bad.mp4").unlink()
    before = contents(out)
    with monkeypatch.context() as patch:
        forbid_processes(patch)
        run_prepare(root, out, SMALL)
    assert contents(out) | {"unreadable_videos.csv": before["unreadable_videos.csv"]} == before
    assert "6 videos are prepared" in capsys.readouterr().out

    cheaper(monkeypatch)
    down, up = root / "moves down", root / "moves up"
    os.utime(down / "clip_000.mp4", ns=(0, 0))  # the same, copied
    shutil.copy(up / "clip_001.mp4", down / "clip_001.mp4")  # another one
    (out / "moves up" / "clip_000.mp4").unlink()
    (up / "clip_001.mp4").unlink()
    with open(out / "prepared.jsonl", "a") as file:
        file.write('{"path": "moves down/cl')  # where a kill ended the last start
    stamp = (out / "moves down" / "clip_000.mp4").stat().st_mtime_ns
    run_prepare(root, out, SMALL)
    after = contents(out)
    assert (out / "moves down" / "clip_000.mp4").stat().st_mtime_ns == stamp
    assert record(out)["moves down/clip_000.mp4"].source_mtime_ns == 0
    assert after["moves down/clip_001.mp4"] == before["moves up/clip_001.mp4"]
    assert after["moves up/clip_000.mp4"] == before["moves up/clip_000.mp4"]
    said = capsys.readouterr().out
    assert "5 videos are prepared" in said and "3 of them before" in said
    assert "1 prepared before have no source any more and stay, as moves up/clip_001.mp4" in said
    assert after["moves up/clip_001.mp4"] == before["moves up/clip_001.mp4"]


def test_a_csv_gives_a_csv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cheaper(monkeypatch)
    root, out = originals(tmp_path / "in", clips=1), tmp_path / "out"
    (root / "moves down" / "clip_000.mp4").rename(root / "a.mkv")
    (root / "moves up" / "clip_000.mp4").rename(root / "b")
    (root / "mine.csv").write_text("path,label\na.mkv,down\nb,up\n")
    run_prepare(root / "mine.csv", out, SMALL)
    listing = list_videos(out / "mine.csv", "data.root")
    assert [(video.name, listing.classes[video.label]) for video in listing.videos] == [
        ("a.mp4", "down"),
        ("b.mp4", "up"),
    ]
    assert f"--data.root {out / 'mine.csv'}" in capsys.readouterr().out


def test_a_prepared_list_keeps_split_and_group_and_absolute_paths_lie_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cheaper(monkeypatch)
    root, out = originals(tmp_path / "in", clips=1), tmp_path / "out"
    other = tmp_path / "store" / "x.mp4"
    other.parent.mkdir()
    (root / "moves up" / "clip_000.mp4").rename(other)
    (root / "moves down" / "clip_000.mp4").rename(root / "a.mkv")
    table = tmp_path / "mine.csv"
    table.write_text(f"path,label,split,group\na.mkv,down,train,g\n{other},up,test,\n")
    run_prepare(table, out, replace(SMALL, videos=root))
    below = str(other)[1:]
    lines = (out / "mine.csv").read_text().splitlines()
    assert lines == ["path,label,split,group", "a.mp4,down,train,g", f"{below},up,test,"]
    assert (out / below).is_file() and other.is_file()
    run_prepare(table, out, replace(SMALL, videos=root))  # again: all is there already
    with pytest.raises(UserError, match="must lie apart"):
        run_prepare(table, other.parent, replace(SMALL, videos=root))


def test_names_that_would_meet_are_told_apart() -> None:
    absolute = target_names(["/x/a.mp4", "x/a.mp4"])
    assert absolute == {"x/a.mp4": "x/a.mp4", "/x/a.mp4": "x/a.mp4.mp4"}
    names = ["c/a.avi", "c/a.mp4", "c/a.MOV", "c/b.webm", "c/x.avi.mp4", "c/x.avi", "c/x.mp4"]
    assert target_names(names) == {
        "c/a.mp4": "c/a.mp4",
        "c/a.MOV": "c/a.MOV.mp4",
        "c/a.avi": "c/a.avi.mp4",
        "c/b.webm": "c/b.mp4",
        "c/x.avi.mp4": "c/x.avi.mp4",
        "c/x.mp4": "c/x.mp4",
        "c/x.avi": "c/x.avi.mp4.mp4",
    }


def test_what_does_not_go_together_is_refused(
    done: tuple[Path, Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_processes(monkeypatch)
    root, out, _ = done
    before = contents(out)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "link").symlink_to(root)
    others = originals(tmp_path / "others", clips=1)
    (others / "moves up" / "clip_000.mp4").rename(others / "moves up" / "x.mp4")
    (others / "moves down" / "clip_000.mp4").rename(others / "moves down" / "y.mp4")
    for source, target, command, message in (
        (root, out, replace(SMALL, short_side=64), "--short-side 64: .* prepared with 32"),
        (root, root, SMALL, "must lie apart"),
        (root, root / "out", SMALL, "must lie apart"),
        (root, tmp_path / "link" / "out", SMALL, "must lie apart"),
        (root, root.parent, SMALL, "must lie apart"),
        (root, tmp_path / "full", SMALL, "holds other files"),
        (root, tmp_path / "full" / "mine.txt", SMALL, "is a file"),
        (others, out, SMALL, "prepared from others"),
        (tmp_path / "none", tmp_path / "new", SMALL, "^/.*none: there is no such folder"),
    ):
        with pytest.raises(UserError, match=message):
            run_prepare(source, target, command)
    lock = RunLock(out, out)
    with pytest.raises(UserError, match="another prepare works there"):
        run_prepare(root, out, SMALL)
    lock.release()
    assert contents(out) == before
    assert contents(tmp_path / "full") == {"mine.txt": hashlib.sha256(b"mine").hexdigest()}
    assert not (tmp_path / "new").exists()


def test_a_link_to_the_originals_does_not_lead_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cheaper(monkeypatch)
    root, out = originals(tmp_path / "in", clips=1), tmp_path / "out"
    out.mkdir()
    (out / "prepared.jsonl").touch()
    (out / "moves down").symlink_to(root / "moves down")
    before = contents(root)
    with pytest.raises(RunError, match="a link leads out of"):
        run_prepare(root, out, SMALL)
    assert contents(root) == before


STAND_IN = """
import os, signal, time
from slowfast_dist.video import transcode as transcoding
real = transcoding.transcode
def transcode(path, part, short_side, **others):
    part.write_bytes(b"half")
    if "clip_000" in path.name:
        time.sleep(600)
    if "clip_001" in path.name:
        os.kill(os.getpid(), signal.SIGSEGV)
    return real(path, part, short_side, **others)
def answer(path, **arguments):
    transcoding.transcode = transcode
    return transcoding.transcode_or_reason(path, **arguments)
"""
"""A transcoding process with two bugs."""


def test_a_hang_or_a_crash_costs_only_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cheaper(monkeypatch)
    answer = importable(tmp_path, monkeypatch, STAND_IN)
    monkeypatch.setattr(prepare, "transcode_or_reason", answer)
    monkeypatch.setattr(prepare, "TIME_LIMIT", 6.0)
    root, out = originals(tmp_path / "in", clips=3), tmp_path / "out"
    run_prepare(root, out, replace(SMALL, num_workers=2))
    with open(out / "unreadable_videos.csv", newline="") as file:
        reasons = {row["path"]: row["reason"] for row in csv.DictReader(file)}
    assert len(reasons) == 4
    for name, reason in reasons.items():
        assert ("hangs" if "clip_000" in name else "crashes") in reason
    assert sorted(record(out)) == ["moves down/clip_002.mp4", "moves up/clip_002.mp4"]
    assert "4 of 6 cannot be read" in capsys.readouterr().out
    assert not list(out.rglob(".*"))


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    for name in CLASSES:
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "a.mp4").write_text("text")
    with pytest.raises(RunError, match="none of the 2 videos can be read"):
        run_prepare(tmp_path / "in", tmp_path / "out", SMALL)
    assert (tmp_path / "out" / "unreadable_videos.csv").exists()


@pytest.mark.skipif(not shutil.which("mount") or os.geteuid() != 0, reason="mounts, so needs root")
def test_a_full_disk_names_the_file_and_leaves_no_part(tmp_path: Path) -> None:
    root, disk = originals(tmp_path / "in", clips=8, size=96), tmp_path / "disk"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size=40k tmpfs '{disk}' 2>/dev/null") != 0:
        pytest.skip("cannot mount a small file system here")
    try:
        out = disk / "out"
        command = replace(SMALL, short_side=96)
        with pytest.raises(RunError, match=r"/out/moves .*\.mp4: No space left on device"):
            run_prepare(root, out, command)
        assert not [path for path in out.rglob(".*") if path.exists()]
        whole = [path for path in out.rglob("*.mp4") if probe_file(path).frames == 8]
        assert sorted(record(out)) == sorted(p.relative_to(out).as_posix() for p in whole)
        assert len(list(out.rglob("*.mp4"))) == len(whole) < 16
    finally:
        os.system(f"umount '{disk}'")


@pytest.mark.parametrize("moved", [False, True])
def test_a_stop_while_a_video_is_published(
    tmp_path: Path, moved: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What was moved there is known as done, and what was not is prepared again."""
    root, out = originals(tmp_path / "in"), tmp_path / "out"
    cheaper(monkeypatch)
    run_prepare(root, out, SMALL)
    changed = root / CLASSES[0] / "clip_000.mp4"
    shutil.copy(root / CLASSES[1] / "clip_001.mp4", changed)

    def stopped(source: Path, target: Path) -> None:
        if moved or PARTS not in source.parts:
            os.rename(source, target)
        if PARTS in source.parts:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_prepare(root, out, SMALL)
    there = {path.relative_to(out).as_posix() for path in out.rglob("*.mp4")}
    target = changed.relative_to(root).as_posix()
    assert len(there) == 4  # the old one lies there until the new one takes its place
    done = there if moved else there - {target}
    made = {path: (out / path).stat().st_mtime_ns for path in done}
    capfd.readouterr()
    run_prepare(root, out, SMALL)
    assert f"4 videos are prepared in {out}, {len(done)} of them before" in capfd.readouterr().out
    assert {path: (out / path).stat().st_mtime_ns for path in done} == made
    assert record(out)[target].source_sha256 == hashlib.sha256(changed.read_bytes()).hexdigest()


def test_a_stop_before_a_video_takes_the_place_of_one_as_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = Prepared("a.mp4", "a.avi", 1, 1, "x", 8, 32, KEY_INTERVAL, VERSION, size=3)
    with open_folder(tmp_path / "out") as folder:
        (folder.parts / "part").write_bytes(b"old")
        folder.publish("part", entry)
        (folder.parts / "part").write_bytes(b"new")
        monkeypatch.delattr(os, "replace")  # in place of a stop just before it
        with pytest.raises(AttributeError):
            folder.publish("part", replace(entry, source_sha256="y"))
    with open_folder(tmp_path / "out") as folder:
        (found,) = folder.entries.values()
        assert found.source_sha256 == "y" and not folder.holds(found)


STUCK = """
import time
from slowfast_dist.video import transcode as transcoding
real = transcoding.transcode
def transcode(path, part, short_side, **others):
    if "clip_000" in path.name or "clip_001" in path.name:
        return real(path, part, short_side, **others)
    part.write_bytes(b"half")
    time.sleep(600)
def answer(path, **arguments):
    transcoding.transcode = transcode
    return transcoding.transcode_or_reason(path, **arguments)
"""
"""A transcoding process that leaves time to be stopped."""

STOPPED = """
import sys
sys.path.insert(0, sys.argv[1])
import stuck
from slowfast_dist.cli.start import main
from slowfast_dist.commands.prepare import command
command.transcode_or_reason = stuck.answer
main(sys.argv[2:])
"""
"""The command with such processes; its first argument is the folder of their module."""


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_goes_on(tmp_path: Path, stop: signal.Signals) -> None:
    root, out = originals(tmp_path / "in", clips=4), tmp_path / "out"
    words = ("prepare", str(root), str(out), "--num-workers", "2")
    (tmp_path / "stuck.py").write_text(STUCK)
    log = tmp_path / "log"
    with open(log, "w") as file:
        process = psutil.Popen(
            [sys.executable, "-c", STOPPED, tmp_path, *words], cwd=ROOT, stderr=file, stdout=file,
            preexec_fn=hear_ctrl_c,
        )  # fmt: skip
        deadline = time.monotonic() + 300
        while len(list(out.glob("*/clip*.mp4"))) < 2 or len(list(out.glob(".parts/*"))) < 2:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.01)
        workers = process.children()
        process.send_signal(stop)
        code = process.wait(timeout=120)
    assert code == (-9 if stop == signal.SIGKILL else 130), log.read_text()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert len(workers) == 2
    assert [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/clip*.mp4")}
    assert len(before) == 2
    if stop != signal.SIGKILL:
        assert "the same command goes on" in log.read_text()
        assert "Traceback" not in log.read_text()
        assert not (out / ".parts").exists()
    command = [sys.executable, "-m", "slowfast_dist", *words]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"8 videos are prepared in {out}, 2 of them before" in result.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(record(out)) == 8 and not list(out.rglob(".*"))
    assert all(probe_file(out / name).frames == 8 for name in record(out))


def test_copies_that_forgot_the_shape_of_their_pixels_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As version 1 made them; those of square pixels stay."""
    cheaper(monkeypatch)
    root, out = originals(tmp_path / "in", clips=1), tmp_path / "out"
    wide = root / "moves down" / "wide.mp4"
    write_disc(wide, 48, 64, Fraction(16, 11), frames=8)
    run_prepare(root, out, SMALL)
    assert probe_file(out / "moves down" / "wide.mp4").width == 62
    lines = [json.loads(line) for line in (out / "prepared.jsonl").read_text().splitlines()]
    for line in lines:
        assert (line.pop("pixel_aspect"), line["version"]) == ("square", 2)
        line["version"] = 1
    (out / "prepared.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    before = (out / "moves down" / "clip_000.mp4").stat().st_mtime_ns
    made = (out / "moves down" / "wide.mp4").stat().st_mtime_ns
    capsys.readouterr()
    run_prepare(root, out, SMALL)
    said = capsys.readouterr()
    assert "1 of 3 videos that were prepared before are made again: their pixels" in said.err
    assert (out / "moves down" / "clip_000.mp4").stat().st_mtime_ns == before
    assert (out / "moves down" / "wide.mp4").stat().st_mtime_ns > made
    ways = {(entry.version, entry.pixel_aspect) for entry in record(out).values()}
    assert ways == {(2, "square")}
    with pytest.raises(UserError, match="--pixel-aspect stored: .* prepared with square"):
        run_prepare(root, out, replace(SMALL, pixel_aspect="stored"))
    capsys.readouterr()
    run_prepare(root, out, SMALL)
    assert "made again" not in capsys.readouterr().err
