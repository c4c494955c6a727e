"""A training that ends before its last epoch, by patience or by time: well, and saying so."""

import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from slowfast_dist.cli.parser import parse_training
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.runs.checkpoint import list_checkpoints
from slowfast_dist.runs.folder import RunFolder
from slowfast_dist.training import evaluation, trainer
from slowfast_dist.training.recorder import Recorder
from slowfast_dist.training.run import run_training
from tests.helpers.training_runs import TINY, launch, rows

pytestmark = pytest.mark.usefixtures("on_cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    make_videos(folder, 3, seed=0, size=32, frames=10, classes=("moves left", "moves right"))
    return folder


def train(root: Path, output: Path, *flags: str) -> dict[str, Any]:
    config = parse_training([
        *TINY, "--data.root", str(root), "--global-batch-size", "4", "--output-dir", str(output),
        *flags,
    ])  # fmt: skip
    assert config is not None
    return run_training(config)


NO_PROGRESS = ("--optimizer.lr", "1e-12", "--epochs", "9", "--checkpoint.every-epochs", "9",
               "--checkpoint.monitor", "val/accuracy", "--checkpoint.mode", "max")  # fmt: skip
"""A training that stays as it is, but for BatchNorm's statistics, and is saved at its end alone."""


def test_patience_ends_a_training_that_gets_no_better(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "slowfast_dist")
    summary = train(root, tmp_path / "run", *NO_PROGRESS, "--patience", "2")
    assert summary["status"] == "finished"
    last = rows(tmp_path / "run", "epoch")[-1]["epoch"]
    assert last == summary["best"]["epoch"] + 2 < 9
    said = f"epoch {last} of 9 is the last: no better val/accuracy for 2 epochs (--patience 2)"
    assert said in caplog.messages
    assert (tmp_path / "run" / "status").read_text() == "finished\n"
    assert len(list_checkpoints(tmp_path / "run" / "checkpoints")) == 1


def test_a_run_killed_between_its_end_and_its_word_goes_on_to_the_word_alone(
    root: Path, tmp_path: Path
) -> None:
    killed = (
        "import os, sys; from pathlib import Path; from tests.training import test_early_end as t; "
        "from slowfast_dist.training.recorder import Recorder; "
        "Recorder.finish = lambda self: os.kill(os.getpid(), 9); "
        "t.train(Path(sys.argv[1]), Path(sys.argv[2]), *t.NO_PROGRESS, '--patience', '1')"
    )
    done = launch("-c", killed, root, tmp_path / "run")
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (tmp_path / "run" / "status").read_text() == "running\n"
    before = rows(tmp_path / "run", "epoch")
    words = (*NO_PROGRESS, "--patience", "1", "--resume", "auto")
    assert train(root, tmp_path / "run", *words)["status"] == "finished"
    assert rows(tmp_path / "run", "epoch") == before


def test_hours_end_a_training_after_a_validated_epoch_and_more_hours_go_on(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "slowfast_dist")
    flags = ("--epochs", "2", "--evaluation.every", "9", "--resume", "auto")
    summary = train(root, tmp_path / "run", *flags, "--hours", "1e-6")
    (epoch,) = rows(tmp_path / "run", "epoch")
    assert epoch["val/videos"] == 2 and summary["best"]["epoch"] == 1
    said = "epoch 1 of 2 is the last: another one would go beyond --hours 1e-06"
    assert said in caplog.messages and summary["status"] == "finished"
    train(root, tmp_path / "run", *flags, "--hours", "1e-6")
    assert "nothing to do (after epoch 1 of 2, by --hours 1.0e-06: with more" in caplog.text
    train(root, tmp_path / "run", *flags, "--hours", "9")
    assert [row["epoch"] for row in rows(tmp_path / "run", "epoch")] == [1, 2]


def test_hours_count_the_validations_that_are_still_to_come(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the next epoch, which may be the last, and of this one where it is due anyway."""
    asked: dict[int, tuple[float, float]] = {}
    validated: list[float] = []

    def validation(*arguments: Any, **named: Any) -> Any:
        scores = evaluation.evaluate(*arguments, **named)
        time.sleep(0.3)
        validated.append(time.monotonic())
        return scores

    def time_is_up(_: Recorder, epoch: int, seconds: float) -> bool:
        asked[epoch] = (seconds, time.monotonic())
        return False

    monkeypatch.setattr(trainer, "evaluate", validation)
    monkeypatch.setattr(Recorder, "time_is_up", time_is_up)
    train(root, tmp_path / "run", "--epochs", "4", "--evaluation.every", "2")
    of = {row["epoch"]: row["epoch_seconds"] for row in rows(tmp_path / "run", "epoch")}
    assert asked[2][0] > of[2] > 0.3 and asked[2][1] > validated[0]
    assert asked[3][0] > 0.3 and asked[3][1] < validated[1]


def test_patience_counts_validated_epochs(root: Path, tmp_path: Path) -> None:
    flags = ("--patience", "2", "--evaluation.every", "2")
    summary = train(root, tmp_path / "run", *NO_PROGRESS, *flags)
    last = rows(tmp_path / "run", "epoch")[-1]
    assert last["epoch"] % 2 == 0 and "val/loss" in last and summary["best"]["epoch"] % 2 == 0
    with pytest.raises(UserError, match="^--patience 3: it counts epochs, and validates every 2"):
        train(root, tmp_path / "run", "--patience", "3", "--evaluation.every", "2")


def test_patience_counts_from_where_another_metric_was_taken(root: Path, tmp_path: Path) -> None:
    """A resume with another --checkpoint.monitor, which knows no best epoch yet."""
    run, flags = RunFolder(tmp_path / "run"), ("--epochs", "3", "--checkpoint.keep", "9")
    train(root, run.root, *flags)
    *_, last = sorted(list_checkpoints(run.checkpoints))
    shutil.rmtree(last)
    run.set_status("running")
    monitor = ("--checkpoint.monitor", "val/accuracy", "--checkpoint.mode", "max")
    again = train(root, run.root, *flags, *monitor, "--patience", "2", "--resume", "auto")
    assert again["best"]["epoch"] == 3 and again["best"]["monitor"] == "val/accuracy"
    assert [row["epoch"] for row in rows(run.root, "epoch")] == [1, 2, 3]


def test_patience_and_folds_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="^--patience 2: chooses an epoch by the videos"):
        train(root, tmp_path / "run", "--patience", "2", "--folds", "2")
