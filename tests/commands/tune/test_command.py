"""A search in real trainings: its files, what is refused, two processes at once and kill -9."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna", reason="optuna is of the extra 'tune'")

from slowfast_dist.cli.commands import COMMANDS
from slowfast_dist.cli.parser import parse_command, parse_training
from slowfast_dist.cli.tuning import run_tune
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.runs.best_model import read_best
from tests.helpers.training_runs import TINY, command_of, launch

pytestmark = pytest.mark.usefixtures("on_cpu")

SEARCH = ("--search", "optimizer.lr=0.001,1e20", "--search", "loss.label-smoothing=0,0.1")
"""Four combinations, two of which diverge at once."""


def words(root: Path, output: Path, *more: str) -> list[str]:
    return [
        *TINY, "--data.root", str(root), "--data.group-pattern", r"c_\d", "--epochs", "1",
        "--global-batch-size", "4", "--folds", "2", "--output-dir", str(output), *more,
    ]  # fmt: skip


def tune(root: Path, output: Path, *more: str) -> dict[str, Any]:
    parsed = parse_command(COMMANDS["tune"], words(root, output, *more))
    assert parsed is not None
    return run_tune(*parsed)


def content(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 classes of 6 videos in 3 groups, c_0 to c_2."""
    folder = tmp_path_factory.mktemp("videos")
    make_videos(folder, 6, seed=0, size=32, frames=10, classes=("moves left", "moves right"))
    for path in sorted(folder.rglob("*.mp4")):
        number = int(path.stem[-3:])
        path.rename(path.with_name(f"c_{number % 3}_{number}.mp4"))
    return folder


@pytest.fixture(scope="module")
def done(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All four combinations, of ten trials that were asked for."""
    output = tmp_path_factory.mktemp("studies") / "tune"
    found = tune(root, output, *SEARCH, "--trials", "10")
    assert found["status"] == "finished"
    return output


def test_each_combination_is_tried_once_and_what_diverges_is_pruned(done: Path) -> None:
    facts = content(done / "tune.json")
    trials = facts["trials"]
    assert len(trials) == 4 and facts["status"] == "finished"
    assert trials[0]["params"] == {"optimizer.lr": "0.001", "loss.label-smoothing": "0.1"}
    assert len({tuple(one["params"].values()) for one in trials}) == 4
    for one in trials:
        diverges = one["params"]["optimizer.lr"] == "1e+20"
        assert one["state"] == ("pruned" if diverges else "complete")
        assert one["after_folds"] == [0] if diverges else len(one["after_folds"]) == 2
        if not diverges:
            kept = content(done / f"trial_{one['number']:03d}" / "cross_validation.json")
            assert one["f1_macro"] == one["after_folds"][-1] == kept["metrics"]["f1_macro"]
    best = max((one for one in trials if one["f1_macro"] is not None), key=lambda o: o["f1_macro"])
    assert facts["best"]["f1_macro"] == best["f1_macro"]
    assert facts["corrected"]["trials"] == 2


def test_the_best_settings_are_a_file_that_train_takes(done: Path, root: Path) -> None:
    facts = content(done / "tune.json")
    config = parse_training(["--config", str(done / "best.yaml")])
    assert config is not None
    best = facts["best"]["params"]
    assert config.optimizer.lr == float(best["optimizer.lr"])
    assert config.loss.label_smoothing == float(best["loss.label-smoothing"])
    assert (config.data.root, config.epochs, config.folds) == (root, 1, None)
    # The flags to copy say the same.
    flags = parse_training([*words(root, done)[:-4], *facts["flags"], "--folds", "none"])
    assert flags is not None
    assert (flags.optimizer, flags.loss) == (config.optimizer, config.loss)


def test_the_page_says_what_was_found_and_that_it_flatters(done: Path) -> None:
    page = (done / "tune.html").read_text()
    for text in ("How much to believe", "To expect of the best", "optimizer.lr", "diverged",
                 "best.yaml", "Trial by trial"):  # fmt: skip
        assert text in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page


def test_weights_of_trials_are_gone_and_the_rest_is_there(done: Path) -> None:
    own = done / "trial_000" / "fold_1"
    assert not (own / "checkpoints").exists()
    assert [path.name for path in (own / "models").iterdir()] == ["best_model.json"]
    assert (own / "predictions" / "val_best.csv").exists() and (own / "config.yaml").exists()
    with pytest.raises(UserError, match="tune keeps the weights of its trials with --keep-weights"):
        read_best(own).load()


def test_the_page_of_a_fold_has_what_the_model_that_is_gone_was_like(done: Path) -> None:
    facts = content(done / "tune.json")["trials"]
    number = next(one["number"] for one in facts if one["state"] == "complete")
    own = done / f"trial_{number:03d}" / "fold_1"
    page = (own / "report.html").read_text()
    assert 'id="folds"' in page  # it was written when all folds were there
    assert "No temperature is fitted: 8 videos are too few" in page
    assert 'id="missing"' not in page  # all that it names would need the weights


def test_a_study_that_is_over_does_nothing_more(done: Path, root: Path) -> None:
    before = (done / "trial_000" / "fold_1" / "metrics.jsonl").stat().st_mtime_ns
    assert tune(root, done, *SEARCH, "--trials", "10")["status"] == "finished"
    assert (done / "trial_000" / "fold_1" / "metrics.jsonl").stat().st_mtime_ns == before
    assert len(content(done / "tune.json")["trials"]) == 4


def test_other_settings_another_search_or_other_videos_are_refused_by_name(
    done: Path, root: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"^--data.crop-size 16: the study in .* is of"):
        tune(root, done, *SEARCH, "--data.crop-size", "16")
    with pytest.raises(UserError, match=r"^--search epochs=1,2: the study in .* searches"):
        tune(root, done, "--search", "epochs=1,2")
    shutil.copytree(root, tmp_path / "fewer")
    (tmp_path / "fewer" / "moves left" / "c_0_0.mp4").unlink()
    gone = r"is of another list of videos: 1 video is gone \(moves left/c_0_0.mp4\)"
    with pytest.raises(UserError, match=gone):
        tune(tmp_path / "fewer", done, *SEARCH)
    with pytest.raises(UserError, match="holds a run: a study needs a folder of its own"):
        tune(root, done / "trial_000" / "fold_1", *SEARCH)


def test_without_optuna_one_line_says_what_to_install(root: Path, tmp_path: Path) -> None:
    (tmp_path / "optuna.py").write_text("raise ModuleNotFoundError('no', name='optuna')")
    done = launch(
        "-m", "slowfast_dist", "tune", *words(root, tmp_path / "out"),
        env={"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    line = "error: tune: needs optuna, which is not here: pip install '.[tune]'\n"
    assert (done.returncode, done.stderr) == (2, line)
    assert not (tmp_path / "out").exists()


def test_a_search_in_which_nothing_is_complete_ends_as_a_failure(
    root: Path, tmp_path: Path
) -> None:
    output = tmp_path / "tune"
    bad = ("--optimizer.lr", "1e20", "--search", "loss.label-smoothing=0,0.1")
    ended = launch("-m", "slowfast_dist", "tune", *words(root, output, *bad, "--trials", "5"))
    last = ended.stderr.splitlines()[-1]
    assert ended.returncode == 1
    assert last.startswith("error: ") and "no trial is complete (2 pruned), so there is no" in last
    assert "give other values to --search (a smaller --optimizer.lr" in last
    facts = content(output / "tune.json")
    assert facts["status"] == "finished" and facts["best"] is None
    assert "diverged" in (output / "tune.html").read_text()
    assert not (output / "best.yaml").exists()


@pytest.mark.slow  # several real processes
def test_two_processes_and_one_that_is_killed_end_as_one_does(root: Path, tmp_path: Path) -> None:
    def start(output: Path) -> subprocess.Popen[str]:
        command, environment = command_of(
            "-m", "slowfast_dist", "tune",
            *words(root, output, "--trials", "4", "--epochs", "3", "--checkpoint.every-steps", "1"),
        )  # fmt: skip
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    alone = start(tmp_path / "alone")
    assert alone.wait(timeout=900) == 0
    shared = tmp_path / "shared"
    first = start(shared)
    end = time.monotonic() + 300
    while not list(shared.glob("trial_000/fold_1/checkpoints/step_*")):
        assert first.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    both = [start(shared), start(shared)]
    told = [one.communicate(timeout=900)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], told
    assert sum("trial 0 (of 4, from 0) goes on where" in one for one in told) == 1
    facts, other = (content(place / "tune.json") for place in (tmp_path / "alone", shared))
    assert [one["state"] for one in other["trials"]] == ["complete"] * 4
    for one, its in zip(facts["trials"], other["trials"], strict=True):
        assert one["params"] == its["params"] and one["after_folds"] == its["after_folds"]
        name = f"trial_{one['number']:03d}/out_of_fold.csv"
        assert (shared / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert facts["best"]["number"] == other["best"]["number"]
