"""Trainings by time: the same where no rate differs, said where one does, kept by a resume."""

import json
import shutil
from pathlib import Path

import pytest

from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.runs.best_model import read_best
from slowfast_dist.runs.checkpoint import load_checkpoint, newest_valid, save_checkpoint
from tests.helpers.training_runs import TINY, launch, train, trained

CLASSES = ("moves left", "moves right")

SHORT = (
    *TINY, "--data.val-fraction", "0.4", "--global-batch-size", "3", "--micro-batch-size", "3",
    "--checkpoint.every-steps", "1", "--checkpoint.keep", "9",
)  # fmt: skip

BY_TIME = ("--data.frame-rate", "30")


@pytest.fixture(scope="module")
def thirty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of 30 frames a second."""
    root = tmp_path_factory.mktemp("videos") / "thirty"
    make_videos(root, 5, seed=0, size=32, frames=16, fps=30, classes=CLASSES)
    return root


@pytest.fixture(scope="module")
def counted(thirty: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 2 epochs that counts frames."""
    output = tmp_path_factory.mktemp("run") / "run"
    return trained(output, *SHORT, "--data.root", thirty, "--epochs", "2")


def weights(run: Path) -> bytes:
    newest, _ = newest_valid(run / "checkpoints")
    assert newest is not None
    return (newest / "model.safetensors").read_bytes()


def test_a_training_on_videos_of_that_rate_is_the_same_to_the_bit(
    thirty: Path, counted: Path, tmp_path: Path
) -> None:
    run = trained(tmp_path / "run", *SHORT, *BY_TIME, "--data.root", thirty, "--epochs", "2")
    assert weights(run) == weights(counted)
    for name, frame_rate in ((run, 30.0), (counted, "video")):
        content = json.loads((name / "models" / "best_model.json").read_text())
        assert content["clip"]["frame_rate"] == frame_rate
        assert content["data"]["frame_rates"] == [{"rate": 30.0, "videos": 6}]
        best = read_best(name)
        assert (best.data.frame_rate, best.video_rates) == (frame_rate, (30.0,))
    card = (run / "models" / "README.md").read_text()
    assert "next to each other of the video at 30 frames a second, whatever its own rate" in card


def test_a_model_of_an_older_version_counts_frames(counted: Path, tmp_path: Path) -> None:
    shutil.copytree(counted / "models", tmp_path / "models")
    path = tmp_path / "models" / "best_model.json"
    content = json.loads(path.read_text())
    del content["clip"]["frame_rate"], content["data"]["frame_rates"]
    path.write_text(json.dumps(content))
    best = read_best(tmp_path)
    assert (best.data.frame_rate, best.video_rates) == ("video", ())


def test_an_older_run_goes_on_as_it_began(tmp_path: Path) -> None:
    """Though the preset says 30 now; and what the user asks for is never lost."""
    videos = tmp_path / "fifteen"
    make_videos(videos, 5, seed=0, size=32, frames=16, fps=15, classes=CLASSES)
    arguments = (*SHORT, "--data.root", videos, "--epochs", "2")
    undisturbed = trained(tmp_path / "undisturbed", *arguments)
    start = tmp_path / "older"
    before = load_checkpoint(undisturbed / "checkpoints" / "step_00000002")
    del before.state["config"]["data"]["frame_rate"]
    save_checkpoint(start / "checkpoints", before, keep=1)
    resume = (*arguments, *BY_TIME, "--resume", start, "--output-dir")
    done = train(*resume, tmp_path / "resumed")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "resuming with --data.frame-rate video, as the run began under an older version; "
        "--resume-changed takes --data.frame-rate 30.0"
    ) in done.stdout + done.stderr
    assert weights(tmp_path / "resumed") == weights(undisturbed)
    assert "frame_rate: video" in (tmp_path / "resumed" / "config.yaml").read_text()
    first = min((tmp_path / "resumed" / "checkpoints").iterdir())  # which names the settings
    again = trained(tmp_path / "again", *arguments, *BY_TIME, "--resume", first)
    assert weights(again) == weights(undisturbed)
    done = train(*resume, tmp_path / "new", "--resume-changed")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "--data.frame-rate 30.0 (was video)" in done.stdout + done.stderr
    assert weights(tmp_path / "new") != weights(undisturbed)


def test_a_run_that_names_its_frame_rate_does_not_change_it(
    thirty: Path, counted: Path, tmp_path: Path
) -> None:
    start = counted / "checkpoints" / "step_00000002"
    done = train(
        *SHORT, *BY_TIME, "--data.root", thirty, "--epochs", "2", "--resume", start,
        "--output-dir", tmp_path / "resumed",
    )  # fmt: skip
    assert done.returncode == 2
    assert "--data.frame-rate 30.0 (was video)" in done.stderr


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 videos of each class at 15 frames a second, 2 at 60."""
    root = tmp_path_factory.mktemp("videos") / "mixed"
    for number, (count, fps) in enumerate(((3, 15), (2, 60))):
        part = root.with_name(f"part{fps}")
        make_videos(part, count, seed=number, size=32, frames=16, fps=fps, classes=CLASSES)
        for clip in part.rglob("*.mp4"):
            target = root / clip.parent.name / f"{fps}_{clip.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(clip, target)
    return root


SPANS = "at 60 a second a clip spans 0.1 s in place of 0.5"


def test_rates_that_differ_are_said_once(mixed: Path, tmp_path: Path) -> None:
    """By the training where frames are counted, and by an evaluation of its model."""
    arguments = (*SHORT, "--data.root", mixed, "--epochs", "1")
    done = train(*arguments, "--output-dir", tmp_path / "run")
    assert done.returncode == 0, done.stdout + done.stderr
    line = (
        "4 of 10 videos have another frame rate than the 6 of 15 a second: 4 have 60; "
        f"{SPANS}: --data.frame-rate 30 takes frames by their times"
    )
    assert (done.stdout + done.stderr).count(line) == 1
    done = train(*arguments, *BY_TIME, "--output-dir", tmp_path / "by_time")
    assert "another frame rate" not in done.stdout + done.stderr
    assert (
        "6 of 10 videos have fewer frames a second than the 30 that a clip takes, as "
    ) in done.stdout + done.stderr
    models = tmp_path / "run" / "models" / "best_model.json"
    content = json.loads(models.read_text())
    assert sum(one["videos"] for one in content["data"]["frame_rates"]) == 6
    content["data"]["frame_rates"] = [{"rate": 15.0, "videos": 6}]
    models.write_text(json.dumps(content))
    evaluated = launch(
        "-m", "slowfast_dist", "evaluate", tmp_path / "run", "--data", mixed, "--num-workers", "0"
    )
    assert evaluated.returncode == 0, evaluated.stdout + evaluated.stderr
    line = (
        "4 of 10 videos have another frame rate than the training videos' 15 a second: 4 have 60; "
        f"{SPANS}: a training with --data.frame-rate 30 takes frames by their times"
    )
    assert (evaluated.stdout + evaluated.stderr).count(line) == 1
