"""`python -m tests.fuzz`, small ones: hostile input costs only what is bad."""

import os
from pathlib import Path
from random import Random

import pytest

from slowfast_dist.config import UserError
from slowfast_dist.cpu_limit import TooMuchCpuError, cpu_limit
from slowfast_dist.data.group_pattern import compile_pattern, group_of, time_to_search
from slowfast_dist.data.manifest import list_videos
from tests import fuzz_text, fuzz_videos
from tests.mutations import MUTATIONS, mutate


@pytest.mark.parametrize("target", fuzz_text.TARGETS)
def test_misshapen_text_works_or_is_one_line(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fuzz_text.fuzz_text(tmp_path, 25, seed=1, targets=[target]), capsys.readouterr().out


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
    monkeypatch.setattr(fuzz_text, "CASE_SECONDS", 0.3)
    for case in cases:
        well = fuzz_text.fuzz_text(tmp_path, 1, 0, [case.__name__])
        assert well == (case in (refuses, babbles)), capsys.readouterr().out


@pytest.mark.slow
def test_damaged_videos_cost_only_themselves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    well = fuzz_videos.fuzz_videos(tmp_path, None, files=40, good=10, seed=2)
    printed = capsys.readouterr().out
    assert well, printed
    assert printed.count("; 0 faults") >= 2


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


# --- patterns ------------------------------------------------------------------------------------


def test_a_pattern_that_takes_for_ever_is_refused(tmp_path: Path) -> None:
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
    assert group_of("a/other.mp4", pattern) == "a/other.mp4"


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\x1b[2Jb", "a\tb", "a\x85b", "a\u2028b"])
def test_a_name_that_no_list_can_hold_is_refused(name: str, tmp_path: Path) -> None:
    for label in ("one", f"two{name}"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "a.mp4").touch()
    with pytest.raises(UserError, match="holds a control character; rename it"):
        list_videos(tmp_path, "data.root")
