"""A pretraining without labels: resumed to the bit, at any number of processes, and loaded."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from slowfast_dist.cli.commands import COMMANDS
from slowfast_dist.cli.main import main
from slowfast_dist.cli.parser import parse_command, parse_training
from slowfast_dist.config.training import Config
from slowfast_dist.data.pretext.ways import WAYS
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.runs.folder import RunFolder
from slowfast_dist.training.run import run_training
from tests.helpers.training_runs import TINY, launch, rows

MORE = (
    *TINY, "--data.sampling", "dense", "--data.val-fraction", "0.25", "--global-batch-size", "8",
    "--micro-batch-size", "4", "--epochs", "2", "--schedule.warmup-epochs", "0",
    "--checkpoint.every-steps", "4", "--checkpoint.keep", "99", "--log-samples",
    "--evaluation.every", "1",
)  # fmt: skip
"""Behind the preset pretrain: 9 training videos in 4 ways each, so 5 steps an epoch."""

KEPT = ("logs/samples.csv", "predictions/val_best.csv", "split.csv", "models/best_model.json")
"""Files that must be the same to the bit, beside the newest checkpoint's weights."""


def settings(*words: str | Path) -> Config:
    parsed = parse_command(COMMANDS["pretrain"], [str(word) for word in words])
    assert parsed is not None
    [config] = parsed
    assert isinstance(config, Config)
    return config


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve videos in one folder, and class folders of the same beside it."""
    root = tmp_path_factory.mktemp("pretrain")
    make_videos(root / "classes", 6, seed=0, size=32, frames=20, classes=("moves up", "moves down"))
    (root / "all").mkdir()
    for number, path in enumerate(sorted((root / "classes").rglob("*.mp4"))):
        shutil.copy(path, root / "all" / f"{number}.mp4")
    return root


@pytest.fixture(scope="module")
def run(videos: Path) -> Path:
    run_training(settings(videos / "all", *MORE, "--output-dir", videos / "run"))
    return videos / "run"


def cut_back(run: Path, step: int) -> None:
    """Leave the run as if it had been killed after it had saved ``step``."""
    for path in (run / "checkpoints").iterdir():
        if int(path.name[5:]) > step:
            shutil.rmtree(path)
    RunFolder(run).set_status("running")


def test_a_killed_run_goes_on_to_the_bit(videos: Path, run: Path) -> None:
    killed = videos / "killed"
    shutil.copytree(run, killed)
    cut_back(killed, 4)  # in the middle of the first epoch
    run_training(settings(videos / "all", *MORE, "--output-dir", killed, "--resume", "auto"))
    newest = max(path.name for path in (run / "checkpoints").iterdir())
    assert newest == "step_00000010"
    for name in (f"checkpoints/{newest}/model.safetensors", *KEPT[:3]):
        assert (killed / name).read_bytes() == (run / name).read_bytes(), name
    lasting = [(row["train/f1_macro"], row["val/loss"]) for row in rows(run, "epoch")]
    assert [(row["train/f1_macro"], row["val/loss"]) for row in rows(killed, "epoch")] == lasting


def test_it_says_how_well_each_way_is_told(run: Path) -> None:
    last = rows(run, "epoch")[-1]
    assert last["val/videos"] == 3 * len(WAYS) and 0 <= last["val/f1_macro"] <= 1
    best = json.loads((run / "models" / "best_model.json").read_text())
    assert best["classes"] == list(WAYS)
    with open(run / "predictions" / "val_best.csv", newline="") as file:
        found = [(row["path"], row["label"]) for row in csv.DictReader(file)]
    assert len(set(found)) == len(found) == 3 * len(WAYS)
    with open(run / "split.csv", newline="") as file:
        split = list(csv.DictReader(file))
    assert len(split) == 12 and {row["class"] for row in split} == {""}
    assert sum(row["split"] == "val" for row in split) == 3
    assert "probably wrong" not in (run / "report.html").read_text()


def test_a_training_starts_from_its_weights_with_a_head_of_its_own(
    videos: Path, run: Path
) -> None:
    config = parse_training([
        *TINY, "--data.root", str(videos / "classes"), "--epochs", "1", "--model.weights", str(run),
        "--global-batch-size", "4", "--schedule.warmup-epochs", "0", "--output-dir",
        str(videos / "fine"),
    ])  # fmt: skip
    assert config is not None
    run_training(config)
    fine = videos / "fine"
    best = json.loads((fine / "models" / "best_model.json").read_text())
    assert best["classes"] == ["moves down", "moves up"]
    head = best["training"]["head"]
    assert head["new"] == best["classes"] and not head["kept"]
    begun = json.loads((fine / "environment.json").read_text())["started_from_sha256"]
    pretrained = json.loads((run / "models" / "best_model.json").read_text())
    assert begun == pretrained["weights_sha256"]


@pytest.mark.slow
def test_one_and_two_processes_have_the_same_curve(videos: Path, run: Path) -> None:
    words = ("--output-dir", videos / "two")
    done = launch(
        "-m", "slowfast_dist", "pretrain", videos / "all", *MORE, *words, processes=2
    )
    assert done.returncode == 0, done.stdout + done.stderr
    log = (run / "logs" / "samples.csv").read_bytes()
    assert (videos / "two" / "logs" / "samples.csv").read_bytes() == log
    for one, two in zip(rows(run, "step"), rows(videos / "two", "step"), strict=True):
        assert two["step/loss"] == pytest.approx(one["step/loss"], abs=1e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "pretrain: DIR is missing: python -m slowfast_dist pretrain DIR [--config FILE ...]"),
        (["{}/none"], "--data.root {}/none: is no folder: give a folder of videos"),
        (["{}/list.csv"], "--data.root {}/list.csv: is a file: give a folder of videos"),
        (["{}/empty"], "--data.root {}/empty: no video in it, or in a folder below it (1 file"),
        (["{}/all", "{}/all"], "{}/all: belongs to no flag"),
        (["{}/all", "--data.root", "b"], "{}/all: is what --data.root would say: leave one of the"),
        (["{}/all", "--model.pretrained", "kinetic"], "--model.pretrained kinetic: give "),
        (["{}/all", "--folds", "5"], "--folds 5: it has no use where ways are learned"),
        (["{}/all", "--loss.name", "bce"], "--loss.name bce: it has no use where ways are lear"),
        (["{}/all", "--data.flip-pairs", "a:b"], "--data.flip-pairs ('a:b',): it has no use wher"),
        (["{}/all", "--augment.speed", "1", "2"], "--augment.speed 1 2: speeds are among what"),
    ],
)
def test_a_mistake_is_one_line(
    videos: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (videos / "empty").mkdir(exist_ok=True)
    (videos / "empty" / "notes.doc").touch()
    (videos / "list.csv").write_text("path,label\nall/0.mp4,a\n")
    monkeypatch.chdir(videos)
    with pytest.raises(SystemExit) as error:
        main(["pretrain", *(word.format(videos) for word in words)])
    said = capsys.readouterr().err
    assert error.value.code == 2 and said.count("\n") == 1, said
    assert said.startswith(f"error: {message.format(videos)}"), said
    assert not (videos / "runs").exists()
