import inspect
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_origin

import pytest

from slowfast_dist.cli import main as cli
from slowfast_dist.cli.commands import COMMANDS, GROUPS, Command, find, load
from slowfast_dist.cli.parser import parse_command
from slowfast_dist.cli.reach import check_reach
from slowfast_dist.config.errors import UserError
from slowfast_dist.runs.lock import RunLock
from tests.helpers.permissions import as_ordinary_user, closed_folder

CALLS: list[Any] = []
"""What `record` was called with."""


def record(*given: Any) -> None:
    CALLS.append((given, os.environ.get("OMP_WAIT_POLICY")))


def fail_to_print(*given: Any) -> None:
    raise BrokenPipeError


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name by which rows of the table find the functions of this module."""
    monkeypatch.setitem(sys.modules, "slowfast_dist.test_commands", sys.modules[__name__])
    monkeypatch.setenv("OMP_WAIT_POLICY", "")  # so that it is restored behind the test
    del os.environ["OMP_WAIT_POLICY"]
    CALLS.clear()
    yield "test_commands"


@pytest.mark.parametrize("command", COMMANDS.values(), ids=lambda command: command.name)
def test_every_row_names_a_function_that_takes_its_words_and_settings(command: Command) -> None:
    assert command.settings is None or is_dataclass(load(command.settings))
    settings = () if command.settings is None else (load(command.settings)(),)
    words = [name.strip("[].") for name in command.words]
    taken = inspect.signature(load(command.run)).bind(*command.values_of(words), *settings)
    for value, parameter in zip(taken.args, taken.signature.parameters.values(), strict=True):
        kind = parameter.annotation
        many = get_origin(kind) is Sequence  # as Sequence[Path], of which none is an instance
        assert isinstance(value, Sequence if many else kind), (command.name, parameter)
    assert not command.words or command.words[0] in command.usage_line


def test_words_become_what_the_functions_take() -> None:
    predict, loader = COMMANDS["predict"], COMMANDS["benchmark loader"]
    address = "rtsp://camera//1"
    assert predict.values_of(["runs/a", address, "0"]) == [Path("runs/a"), [address, "0"]]
    assert loader.values_of([]) == [None] and loader.values_of(["d"]) == [Path("d")]
    assert COMMANDS["report"].values_of(["a", "b"]) == [[Path("a"), Path("b")]]


def test_a_command_is_found_by_its_words() -> None:
    assert find(["benchmark", "step", "--json"]) is COMMANDS["benchmark step"]
    assert find(["train"]) is find(["train", "demo"]) is COMMANDS["train"]
    assert find([]) is find(["benchmark"]) is find(["x"]) is find(["step"]) is None
    assert {name.partition(" ")[0] for name in COMMANDS if " " in name} == set(GROUPS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["benchmark", "xyz"], "benchmark xyz: there is none: give one of step, train, "),
        (["benchmark", "stp"], "benchmark stp: there is none: did you mean step?"),
        (["benchmark", "benchmark"], "benchmark benchmark: there is none"),
        (["benchmark step"], "benchmark step: no such command"),
        (["prepare", "a"], "prepare: OUT is missing: python -m slowfast_dist prepare DIR OUT"),
        (["evaluate"], "evaluate: RUN is missing: give a run's folder, or its models folder"),
        (["make-demo", "-x"], "make-demo takes the folder to make: python -m slowfast_dist "),
        (["serve", "a", "--host"], "--host: a value is missing: give a word"),
        (["benchmark", "index", "--json", "maybe"], "maybe: belongs to no flag"),
    ],
)
def test_what_is_not_in_the_table_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        chosen = cli.choose(words)
        assert chosen is not None
        parse_command(*chosen)
    assert str(error.value).startswith(message)


def test_the_benchmarks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.choose(["benchmark"]) is cli.choose(["benchmark", "--help"]) is None
    listed = capsys.readouterr().out
    assert listed.count("usage: python -m slowfast_dist benchmark WHAT ...\n\n  step  ") == 2
    assert "\n  loader      CPU time of reading clips" in listed


def test_a_command_without_flags_shows_its_usage(capsys: pytest.CaptureFixture[str]) -> None:
    cli.run_command(COMMANDS["make-demo"], ["--help"])
    assert capsys.readouterr().out == "usage: python -m slowfast_dist make-demo DIR\n"


@pytest.mark.parametrize("computes", [False, True])
def test_threads_sleep_where_a_command_computes(here: str, computes: bool) -> None:
    row = Command("x", f"{here}:record", None, ("DIR",), "", computes=computes)
    cli.run_command(row, ["d"])
    assert CALLS.pop() == ((Path("d"),), "PASSIVE" if computes else None)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the lock is met later")
def test_a_training_in_a_folder_that_is_held_waits_for_no_torch(tmp_path: Path) -> None:
    """And by then its settings say which signal stops it."""
    code = (
        "import signal, sys\nfrom slowfast_dist.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n"
        "    print('torch' in sys.modules, signal.getsignal(signal.SIGHUP) is signal.SIG_DFL)\n"
    )
    words = ["demo", f"--output-dir={tmp_path}", "--distributed.preempt-signal=SIGHUP"]
    lock = RunLock(tmp_path, tmp_path)
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, "train", *words], capture_output=True, text=True
        )
    finally:
        lock.release()
    assert (done.returncode, done.stdout) == (2, "False False\n")
    assert f"--output-dir {tmp_path} is in use by a run on " in done.stderr


def test_a_path_where_one_may_not_look_is_not_called_missing() -> None:
    def said(given: list[Any]) -> str:
        try:
            check_reach(given)
        except UserError as error:
            return str(error)
        return "nothing"

    with closed_folder() as closed:
        why = f"{closed}/a: Permission denied: change the permissions of the folders that it lies"
        for words, flag in {
            "check-data {}": "", "check-data . --move-bad {}": "--move-bad ",
            "report runs/a {}": "", "train --data.root {}": "--data.root ",
        }.items():  # fmt: skip
            name, *rest = words.format(closed / "a").split()
            given = parse_command(COMMANDS[name], rest)
            assert given is not None
            assert as_ordinary_user(partial(said, given)) == f"{flag}{why} in"
        assert as_ordinary_user(partial(said, [closed])) == "nothing"


@pytest.mark.parametrize(
    ("words", "folds"),
    [(["--seeds", "3"], 5), (["--fold", "2"], 5), (["--learning-curve", "--folds", "4"], 4)],
)
def test_cross_validate_has_folds_without_a_word(words: list[str], folds: int) -> None:
    parsed = parse_command(COMMANDS["cross-validate"], [*words, "--data.root", "videos"])
    assert parsed is not None and parsed[0].folds == folds
