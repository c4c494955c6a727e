"""`python -m tests.campaigns.fuzz`, small ones: hostile input costs only what is bad."""

import os
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from slowfast_dist.cli import main as cli
from slowfast_dist.cli.commands import Command
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.data import probing as probe_all
from slowfast_dist.data.listing import group_pattern
from slowfast_dist.data.listing.columns import InfoColumns
from slowfast_dist.data.listing.group_pattern import compile_pattern, group_of, time_to_search
from slowfast_dist.data.listing.manifest import list_videos
from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.distributed.failures import faults_as_run_errors
from slowfast_dist.runs.checkpoint import Checkpoint
from slowfast_dist.system.cpus import TooMuchCpuError, cpu_limit
from slowfast_dist.video import container as opening
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import VideoInfo, read_frames
from tests.campaigns import fuzz_left, fuzz_text, fuzz_videos
from tests.campaigns.mutations import MUTATIONS, mutate, promises
from tests.helpers.child_modules import importable
from tests.helpers.training_runs import launch


@pytest.mark.parametrize("target", fuzz_text.TARGETS)
def test_misshapen_text_works_or_is_one_line(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fuzz_text.fuzz_text(tmp_path, 18, seed=1, targets=[target]), capsys.readouterr().out


def test_a_fault_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else the tests above would be worth nothing."""

    def breaks(folder: Path, draw: Random) -> None:
        raise KeyError("bug")

    def executes(folder: Path, draw: Random) -> None:
        (folder / "executed").mkdir()

    def hangs(folder: Path, draw: Random) -> None:
        while True:
            pass

    def babbles(folder: Path, draw: Random) -> None:
        raise UserError("\x1b" * 5000)

    def fills_memory(folder: Path, draw: Random) -> None:
        bytearray(4 * fuzz_text.MORE_BYTES)

    def refuses(folder: Path, draw: Random) -> None:
        raise UserError("--flag value: remedy")

    cases = (breaks, executes, hangs, babbles, fills_memory, refuses)
    monkeypatch.setattr(fuzz_text, "TARGETS", {case.__name__: case for case in cases})
    for case in cases:  # on a busy machine those that end may need their time
        monkeypatch.setattr(fuzz_text, "CASE_SECONDS", 0.3 if case is hangs else 60.0)
        well = fuzz_text.fuzz_text(tmp_path, 1, 0, [case.__name__])
        assert well == (case in (refuses, babbles)), capsys.readouterr().out


@pytest.mark.slow
def test_damaged_videos_cost_only_themselves(tmp_path: Path) -> None:
    """In a small process: the kernel counts what a child's parent held as the child's memory."""
    done = launch(
        "-m", "tests.campaigns.fuzz", "--output", tmp_path / "fuzz", "--seed", "2", "videos",
        "--files", "40", "--good", "10", env={"SLOWFAST_DIST_TEST_DATA": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("; 0 faults") >= 2


def test_the_judge_sees_what_is_amiss() -> None:
    data = fuzz_videos.Dataset(Path("videos"), ["a/1", "a/2", "a/3"], {"b/1": "cut", "b/2": "cut"})
    done = fuzz_videos.Done("train", 1.0, 0, 0)
    fuzz_videos.judge(done, data, {"a/1", "b/1"}, {"a/2": "hangs the decoder: given up"})
    assert [fault.partition(",")[0] for fault in done.faults] == [
        "2 good videos were not used", "1 good videos listed",
        "1 bad videos neither used nor listed",
    ]  # fmt: skip
    assert done.decoded == 1 and done.listed == {"hangs the decoder": 1}


def test_every_mutation_is_one_and_is_repeatable() -> None:
    content, other = os.urandom(5000), os.urandom(3000)
    for size in (1, 2, 5, 100, 5000):
        for name in MUTATIONS:
            MUTATIONS[name](content[:size], other, Random(size))
        for seed in range(50):
            what, changed = mutate(content[:size], other, Random(seed))
            assert changed != content[:size] and what
            assert (what, changed) == mutate(content[:size], other, Random(seed))


# --- videos that promise much --------------------------------------------------------------------


def test_a_picture_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    [path] = fuzz_videos.write_kinds(tmp_path, {"VP8": fuzz_videos.PROMISING["VP8"]})
    assert probe_file(path).width == 128
    path.write_bytes(next(content for what, _, content in promises([path]) if "16000" in what))
    with pytest.raises(DecodeError, match=r"decoding failed at frame 1"):
        probe_file(path)  # else nobody reads it: by no decoder


def test_a_file_whose_header_says_too_much_is_refused_by_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [path] = fuzz_videos.write_kinds(tmp_path, {"H.264": fuzz_videos.PROMISING["H.264"]})
    info = probe_file(path)
    monkeypatch.setattr(opening, "MAX_PIXELS", 128 * 64)
    assert probe_file(path) == info
    monkeypatch.setattr(opening, "MAX_PIXELS", 128 * 64 - 1)
    with pytest.raises(DecodeError, match="pictures of 128 x 64: larger than can be read"):
        probe_file(path)
    with pytest.raises(DecodeError, match="larger than can be read"):
        read_frames(path, np.arange(2), info, "pyav", None)  # opened without a look at its frames


INFO = VideoInfo(30, 25.0, 128, 64, 0, "h264", True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("frames", 0), ("frames", 1 << 63), ("frames", 2.5), ("frames", True), ("frames", None),
        ("width", -1), ("height", 10**400), ("first_time", -(1 << 63) - 1), ("fps", float("inf")),
        ("fps", -1.0), ("frame_time", float("nan")), ("decode_ms", "1"), ("decord_exact", 1),
        ("codec", "x" * 10**6), ("codec", "\x1b[2J"), ("codec", 7),
    ],
)  # fmt: skip
def test_odd_numbers_of_a_probe_are_refused(name: str, value: Any) -> None:
    infos = InfoColumns.of([INFO])
    odd = asdict(INFO) | {"frames": 31, name: value}
    with pytest.raises(ValueError, match=f"not a usable video: {name} ") as raised:
        infos.set(0, odd)
    assert infos[0] == INFO and len(str(raised.value)) < 100 and str(raised.value).isprintable()
    infos.set(0, asdict(INFO) | {"frames": 31, "first_time": -(1 << 62), "fps": 0})
    assert infos[0].frames == 31


def test_a_probe_gone_mad_costs_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        f"info = {asdict(INFO)}\n"
        "def answer(path): return info if path.stem == 'good' else info | {'width': 10**30}\n"
    )
    monkeypatch.setattr(probe_all, "probe_or_reason", importable(tmp_path, monkeypatch, code))
    for name in ("bad", "good"):
        (tmp_path / f"{name}.mp4").touch()
    videos = VideoTable.of_paths([tmp_path / "bad.mp4", tmp_path / "good.mp4"])
    bad, good = probe_all.probe_videos(videos, 1, tmp_path / "cache", show_progress=False)
    assert str(bad).startswith("not a usable video: width 10000") and good == INFO


# --- what is read at the start -------------------------------------------------------------------


def test_a_state_that_no_training_left_is_one_line() -> None:
    trainer, saved = fuzz_left.tiny_training()

    def restore(**odd: Any) -> None:
        state = {**saved.state, **odd}
        trainer.state.restore(
            Checkpoint(saved.model, saved.optimizer, saved.tensors, state), trainer.accelerator
        )

    restore()
    restore(processes=2, statistics={})  # of another number of processes: not looked at
    odd: tuple[dict[str, Any], ...] = (
        {"epoch": "1"}, {"epoch": -1}, {"schedule": None}, {"statistics": {}}, {"rates": 3},
        {"failed": {"a": 1}}, {"config": []}, {"step": 10**30},
    )  # fmt: skip
    for values in odd:
        with pytest.raises(RunError, match="the checkpoint of step 0 is not one of this version"):
            restore(**values)
    with pytest.raises(UserError, match="the videos, their classes or their split"):
        restore(videos="others")


@pytest.mark.parametrize("flag", [(), ("--move-bad",), ("--json",), ("--val-dir",)])
def test_a_path_too_long_to_be_one_is_the_users_mistake(
    flag: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.mp4").touch()
    with pytest.raises(SystemExit) as ended:
        cli.main(["check-data", *([str(tmp_path)] if flag else []), *flag, "x" * 5000])
    assert ended.value.code == 2
    start = " ".join(("error:", *flag, "x" * 100))
    assert capsys.readouterr().err == (
        f"{start}: 5000 characters are more than a path may have, or its name: give a shorter one\n"
    )


def test_a_path_too_long_is_a_mistake_also_where_the_disk_refuses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(command: Command, words: list[str]) -> None:
        with faults_as_run_errors():
            Path(words[0].partition("=")[2], "step_00000001").stat()

    monkeypatch.setattr(cli, "run_command", train)
    for name, code, said in (("x" * 300, 2, "--resume xxx"), ("x", 1, "No such file")):
        with pytest.raises(SystemExit) as ended:
            cli.main(["train", f"--resume={tmp_path / name}"])
        assert ended.value.code == code
        assert said.replace("xxx", str(tmp_path)) in capsys.readouterr().err


# --- patterns ------------------------------------------------------------------------------------


def test_a_pattern_that_takes_for_ever_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_pattern, "SECONDS", 0.3)
    for label in ("one", "two"):
        (tmp_path / label).mkdir()
        (tmp_path / label / f"{'a' * 60}.mp4").touch()
    with pytest.raises(UserError, match=r"--data.group-pattern '\(a\+\)\+\$': takes for ever"):
        list_videos(tmp_path, "data.root", "(a+)+$")


def test_a_limit_of_cpu_time_ends_with_its_block() -> None:
    with pytest.raises(TooMuchCpuError), cpu_limit(0.05):
        while True:
            pass
    with cpu_limit(0.05):
        pass
    sum(range(5_000_000))  # longer than that
    pattern = compile_pattern(r"seq(\d+)_(\w)?")
    with time_to_search(pattern, 1, Path("videos")):
        assert group_of("a/seq12_.mp4", pattern) == "12/"
    assert group_of("a/other.mp4", pattern) is None


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\x1b[2Jb", "a\tb", "a\x85b", "a\u2028b"])
def test_a_name_that_no_list_can_hold_is_refused(name: str, tmp_path: Path) -> None:
    for label in ("one", f"two{name}"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "a.mp4").touch()
    with pytest.raises(UserError, match="holds a control character; rename it"):
        list_videos(tmp_path, "data.root")
