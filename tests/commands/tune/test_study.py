"""Trials shared by processes: none twice, none lost, the same whoever does them; and the pruner."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

optuna = pytest.importorskip("optuna", reason="optuna is of the extra 'tune'")
from optuna.trial import TrialState  # noqa: E402
from sqlalchemy import event  # noqa: E402

from slowfast_dist.commands.tune.study import (  # noqa: E402
    BEFORE_PRUNING,
    MOST_STARTS,
    OfThisFold,
    Trials,
    progress,
)
from slowfast_dist.config.commands.tune import Choices, Range  # noqa: E402
from slowfast_dist.config.errors import RunError  # noqa: E402

ROOT = Path(__file__).parents[3]
SPACE: list[Range | Choices] = [
    Range("optimizer.lr", 1e-4, 1e-2, True, False),
    Choices("model.freeze", ("none", "2"), ("none", 2)),
]
FIRST = {"optimizer.lr": 1e-3, "model.freeze": "none"}
FEW: list[Range | Choices] = [
    Choices("loss.label-smoothing", ("0.0", "0.1"), (0.0, 0.1)),
    Range("epochs", 1, 2, False, True),
]

CLAIMS = """
import sys, time
from pathlib import Path
from tests.commands.tune.test_study import opened
trials = opened(Path(sys.argv[1]))
claimed = trials.next(10)
print(trials.new, claimed.number, claimed.params["optimizer.lr"], claimed.again, flush=True)
time.sleep(float(sys.argv[2]))
"""
"""A process that opens the study, claims a trial, and lives on."""


def opened(folder: Path) -> Trials:
    folder.mkdir(exist_ok=True)
    return Trials(folder, SPACE, FIRST, 0, {"settings": {}, "search": []})


def process(folder: Path, seconds: float = 300) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", CLAIMS, str(folder), str(seconds)], cwd=ROOT, env=environment,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def said(one: subprocess.Popen[str]) -> list[str]:
    assert one.stdout is not None
    return one.stdout.readline().split()


def kill(one: subprocess.Popen[str]) -> None:
    one.send_signal(signal.SIGKILL)
    one.wait()
    assert one.stdout is not None
    one.stdout.close()


def test_a_trial_that_is_good_in_an_easy_fold_alone_is_pruned_after_the_next() -> None:
    study = optuna.create_study(direction="maximize", pruner=OfThisFold())
    for _ in range(BEFORE_PRUNING):
        trial = study.ask()
        trial.report(0.9, 1)
        trial.report(0.6, 2)
        study.tell(trial, 0.6)
    trial = study.ask()
    assert not trial.should_prune()
    trial.report(0.9, 1)
    assert not trial.should_prune()
    trial.report(0.5, 2)
    assert trial.should_prune()
    # What it is for: Optuna's own one looks at the best fold, which all have.
    study.pruner = optuna.pruners.MedianPruner(BEFORE_PRUNING)
    assert not trial.should_prune()


def test_processes_that_start_at_once_make_one_study_and_share_its_trials(tmp_path: Path) -> None:
    several = [process(tmp_path / "tune") for _ in range(3)]
    lines = [said(one) for one in several]
    try:
        assert sorted(line[0] for line in lines) == ["False", "False", "True"]
        assert sorted(line[1] for line in lines) == ["0", "1", "2"]
        assert len({line[2] for line in lines}) == 3
        assert all(line[3] == "False" for line in lines)
        rest = opened(tmp_path / "tune").next(10)
        assert rest is not None and rest.number == 3  # those of the living stay theirs
        rest.lock.release()
    finally:
        for one in several:
            kill(one)


def test_a_killed_process_leaves_its_trial_to_the_next_one_until_that_is_hopeless(
    tmp_path: Path,
) -> None:
    for start in range(MOST_STARTS):
        one = process(tmp_path / "tune")
        line = said(one)
        kill(one)
        assert line == [str(start == 0), "0", "0.001", str(start > 0)]
    trials = opened(tmp_path / "tune")
    claimed = trials.next(10)
    assert claimed is not None and claimed.number == 0 and claimed.given_up
    trials.finish(claimed, TrialState.FAIL)
    assert [one.state for one in trials.all()] == [TrialState.FAIL]
    after = trials.next(10)
    assert after is not None and (after.number, after.again, after.given_up) == (1, False, False)
    after.lock.release()


def test_starts_that_get_further_and_stops_with_care_are_no_reason_to_give_up(
    tmp_path: Path,
) -> None:
    trials = opened(tmp_path / "tune")
    for start in range(3 * MOST_STARTS):
        claimed = trials.next(10)
        assert claimed is not None and claimed.number == 0 and not claimed.given_up
        assert claimed.again == (start > 0)  # also after a stop with care
        if start % 2:
            trials.take_back(claimed)
        else:
            (claimed.folder / "fold_1" / "checkpoints" / f"step_{start:08d}").mkdir(parents=True)
        claimed.lock.release()


def numbers(trials: list[Trials]) -> list[dict[str, Any]]:
    """Parameters of 12 trials, done by these in turn, with scores that follow from them."""
    found = []
    for place in range(12):
        doer = trials[place % len(trials)]
        claimed = doer.next(12)
        assert claimed is not None and claimed.number == place
        doer.report(claimed, 0.5, 1)
        doer.report(claimed, 0.4, 1)  # a fold that is told again after a kill stays
        doer.finish(claimed, TrialState.COMPLETE, -abs(claimed.params["optimizer.lr"] - 3e-3))
        assert doer.scores(claimed) == {1: 0.5}
        found.append(claimed.params)
    assert doer.next(12) is None
    return found


def test_the_trials_do_not_depend_on_who_does_them(tmp_path: Path) -> None:
    alone = numbers([opened(tmp_path / "one")])
    shared = numbers([opened(tmp_path / "two"), opened(tmp_path / "two")])
    assert alone == shared
    assert alone[0] == FIRST
    assert len({one["optimizer.lr"] for one in alone}) == 12
    assert all(one["optimizer.lr"] == float(f"{one['optimizer.lr']:.3g}") for one in alone)


def test_no_combination_is_tried_twice_and_when_all_were_it_ends(tmp_path: Path) -> None:
    first = {"loss.label-smoothing": "0.1", "epochs": 2}
    trials = Trials(tmp_path, FEW, first, 0, {"settings": {}, "search": []})
    found: list[dict[str, Any]] = []
    while (claimed := trials.next(100)) is not None:
        assert not trials.all_tried() or len(found) == 3
        found.append(claimed.params)
        trials.finish(claimed, TrialState.COMPLETE, 0.5)
    assert found[0] == first
    assert len(found) == len({tuple(one.values()) for one in found}) == 4
    assert trials.all_tried()


def test_a_database_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "optuna.sqlite3").write_bytes(b"no database" * 100)
    with pytest.raises(RunError, match=r"is no study that can be gone on with .*--output-dir"):
        opened(tmp_path)


def test_progress_of_a_fold_counts_though_one_that_is_done_keeps_its_checkpoints(
    tmp_path: Path,
) -> None:
    (tmp_path / "fold_1" / "checkpoints" / "step_00000100").mkdir(parents=True)
    (tmp_path / "fold_1" / "status").write_text("finished\n")
    before = progress(tmp_path)
    (tmp_path / "fold_2" / "checkpoints" / "step_00000010").mkdir(parents=True)
    assert progress(tmp_path) != before


def test_a_database_that_cannot_be_written_is_one_line_and_the_study_goes_on(
    tmp_path: Path,
) -> None:
    trials = opened(tmp_path / "tune")
    claimed = trials.next(10)
    assert claimed is not None
    database = trials.place / "optuna.sqlite3"
    with closing(sqlite3.connect(database)) as other:  # as SQLite itself answers: no page more
        kept = other.execute("PRAGMA page_count").fetchone()[0]

    def full(connection: sqlite3.Connection, _: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {kept}")

    engine = trials.study._storage._backend.engine  # type: ignore[attr-defined]
    event.listen(engine, "connect", full)
    with pytest.raises(RunError, match=r"optuna.sqlite3: .*full: is the disk full\?"):
        trials.note(claimed, large="x" * 100_000)
    event.remove(engine, "connect", full)
    trials.finish(claimed, TrialState.COMPLETE, 0.5)
    assert [one.value for one in trials.all()] == [0.5]
