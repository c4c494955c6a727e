"""Whole trainings through train.py: what they leave, and that processes and resumes agree."""

import csv
import json
import shutil
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from slowfast_dist.data.synthetic import make_videos
from tests.helpers.training_runs import ROOT, TINY, launch, predictions, rows, train, trained
from tests.helpers.video_tables import table_of

MOTIONS = ("moves left", "moves right", "turns clockwise")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """7, 5 and 5 small videos: 10 for training, and 7, no multiple of 2 or 3, for validation."""
    root = tmp_path_factory.mktemp("videos") / "all"
    make_videos(root, 7, seed=0, size=32, frames=12, classes=MOTIONS)
    for name in sorted(MOTIONS)[1:]:
        for clip in sorted((root / name).iterdir())[:2]:
            clip.unlink()
    return root


@pytest.fixture(scope="module")
def run(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training of 2 epochs in one process, 3 steps each, the last of them short."""
    output = tmp_path_factory.mktemp("run") / "run"
    return trained(
        output, *TINY, "--data.root", videos, "--data.val-fraction", "0.4", "--epochs", "2",
        "--global-batch-size", "4", "--micro-batch-size", "2", "--checkpoint.every-steps", "2",
        "--model.norm", "local", "--checkpoint.keep", "9",
    )  # fmt: skip


def test_the_run_folder_is_the_documented_one(run: Path) -> None:
    expected = {
        "config.yaml", "environment.json", "classes.json", "split.csv", "metrics.jsonl", "status",
        "unreadable_videos.csv", "logs/training_log.txt", "models/best_model_weights.pth",
        "models/best_model_architecture.pth", "models/best_model.json", "predictions/val_best.csv",
    }  # fmt: skip
    assert {path for path in expected if not (run / path).is_file()} == set()
    assert (run / "status").read_text() == "finished\n"
    assert json.loads((run / "classes.json").read_text()) == dict(
        zip("012", sorted(MOTIONS), strict=True)
    )
    saved = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert saved == ["step_00000002", "step_00000003", "step_00000004", "step_00000006"]
    assert not list(run.rglob("*.tmp"))


def test_metrics_equal_scikit_learn_on_the_predictions(run: Path) -> None:
    best = next(row for row in reversed(rows(run, "epoch")) if row["best"])
    check_against_scikit_learn(best, run)


def check_against_scikit_learn(best: dict[str, Any], run: Path) -> None:
    found, classes = predictions(run), sorted(MOTIONS)
    labels = [row["label"] for row in found]
    predicted = [row["prediction"] for row in found]
    assert len(found) == best["val/videos"]
    for average in ("macro", "weighted"):
        scores = precision_recall_fscore_support(
            labels, predicted, labels=classes, average=average, zero_division=0
        )
        for name, score in zip(("precision", "recall", "f1"), scores, strict=False):
            assert best[f"val/{name}_{average}"] == pytest.approx(score, abs=1e-9)
    assert best["val/accuracy"] == pytest.approx(accuracy_score(labels, predicted), abs=1e-9)
    losses = [-np.log(float(row[f"prob_{row['label']}"])) for row in found]
    assert best["val/loss"] == pytest.approx(np.mean(losses), abs=1e-9)
    matrix = next(r for r in rows(run, "classes") if r["epoch"] == best["epoch"])["confusion"]
    assert matrix == confusion_matrix(labels, predicted, labels=classes).tolist()


def test_every_training_video_is_seen_once_an_epoch(run: Path) -> None:
    for row in rows(run, "epoch"):
        assert row["train/samples_never"] == row["train/samples_more"] == 0
        with open(run / "split.csv", encoding="utf-8", newline="") as file:
            split = [line["split"] for line in csv.DictReader(file)]
        assert row["train/samples_once"] == split.count("train")


def test_the_best_model_is_that_of_the_best_epoch(run: Path, videos: Path) -> None:
    """The full model, loaded by torch alone, gives the probabilities of val_best.csv."""
    from slowfast_dist.config.data import DataConfig
    from slowfast_dist.data.listing.manifest import list_videos
    from slowfast_dist.data.sampler import ViewKey
    from slowfast_dist.data.samples.evaluation import EvaluationClips
    from slowfast_dist.video.probe import probe_file

    description = json.loads((run / "models" / "best_model.json").read_text())
    model = torch.load(run / "models" / "best_model_architecture.pth", weights_only=False)
    weights = torch.load(run / "models" / "best_model_weights.pth", weights_only=True)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    clip = description["clip"]
    data = DataConfig(
        num_frames=clip["num_frames"], sampling=clip["sampling"],
        sampling_rate=clip["sampling_rate"], resize=clip["resize"],
        short_side=(clip["short_side"],) * 2, crop_size=clip["crop_size"],
    )  # fmt: skip
    records = {video.name: video for video in list_videos(videos, "data.root").videos}
    for row in predictions(run):
        record = records[row["path"]]
        clips = EvaluationClips(table_of([record], [probe_file(record.path)]), data)
        frames = clips[ViewKey(0, 0)].frames
        assert frames is not None
        with torch.inference_mode():
            probabilities = model.eval()(frames[None]).double().softmax(dim=1)[0]
        expected = [float(row[f"prob_{name}"]) for name in description["classes"]]
        np.testing.assert_allclose(probabilities.numpy(), expected, atol=1e-6)


def test_config_yaml_repeats_the_run(run: Path, videos: Path, tmp_path: Path) -> None:
    """Also where strings have other hashes, and so sets another order."""
    again = trained(tmp_path / "again", "--config", run / "config.yaml", fork=False)
    for first, second in zip(rows(run, "step"), rows(again, "step"), strict=True):
        assert first["step/loss"] == second["step/loss"]
    assert state(run) == state(again)
    assert yaml.safe_load((again / "config.yaml").read_text())["output_dir"] == str(again)


def state(run: Path) -> dict[str, bytes]:
    """Content of the newest checkpoint's tensors, by file."""
    newest = max((run / "checkpoints").iterdir())
    return {name: (newest / name).read_bytes() for name in ("model.safetensors", "optimizer.pt")}


@pytest.mark.parametrize(
    ("processes", "norm"),
    [
        (2, "local"),
        pytest.param(3, "frozen", marks=pytest.mark.slow),
        pytest.param(2, "frozen", marks=pytest.mark.slow),
        pytest.param(3, "local", marks=pytest.mark.slow),
    ],
)
def test_processes_train_alike(
    videos: Path, tmp_path: Path, processes: int, norm: str, alone: Callable[[str], Path]
) -> None:
    """Same losses at every step, and same validation, at one global batch, short last window."""
    several = trained(tmp_path / "several", *alike(videos, norm), processes=processes)
    one = alone(norm)
    assert len(rows(one, "step")) == len(rows(several, "step"))
    for first, second in zip(rows(one, "step"), rows(several, "step"), strict=True):
        assert second["step/loss"] == pytest.approx(first["step/loss"], abs=1e-4)
        assert second["step/grad_norm"] == pytest.approx(first["step/grad_norm"], rel=1e-3)
    for first, second in zip(rows(one, "epoch"), rows(several, "epoch"), strict=True):
        assert second["val/loss"] == pytest.approx(first["val/loss"], abs=1e-4)
        assert second["train/samples_once"] == first["train/samples_once"]
    check_against_scikit_learn(
        next(row for row in reversed(rows(several, "epoch")) if row["best"]), several
    )


def alike(videos: Path, norm: str) -> tuple[str | Path, ...]:
    """With weights of rows and of classes."""
    table = videos.parent / "weighted.csv"
    if not table.exists():
        clips = sorted(path.relative_to(videos).as_posix() for path in videos.rglob("*.mp4"))
        lines = [f"{clip},{clip.split('/')[0]},{1 + n % 3 / 2:g}" for n, clip in enumerate(clips)]
        table.write_text("\n".join(("path,label,weight", *lines)) + "\n")
    return (
        *TINY, "--data.root", table, "--data.videos", videos, "--loss.class-weights", "balanced",
        "--data.val-fraction", "0.4", "--epochs", "2",
        "--global-batch-size", "6", "--micro-batch-size", "2", "--model.norm", norm,
        "--optimizer.lr", "1e-3",
    )  # fmt: skip


@pytest.fixture(scope="module")
def alone(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The same of one process, trained when it is first asked for."""
    root = tmp_path_factory.mktemp("alone")
    return cache(lambda norm: trained(root / norm, *alike(videos, norm)))


@pytest.mark.parametrize("processes", [1, 2])
def test_a_resumed_run_ends_as_an_undisturbed_one(
    run: Path, tmp_path: Path, processes: int
) -> None:
    """From the middle of an epoch: to the bit with as many processes, else to rounding."""
    resumed = trained(
        tmp_path / "resumed", "--config", run / "config.yaml", "--resume",
        run / "checkpoints" / "step_00000002", processes=processes,
    )  # fmt: skip
    undisturbed = [row for row in rows(run, "step") if row["global_step"] > 2]
    for first, second in zip(undisturbed, rows(resumed, "step"), strict=True):
        assert second["step/loss"] == pytest.approx(first["step/loss"], abs=1e-4)
    for first, second in zip(rows(run, "epoch"), rows(resumed, "epoch"), strict=True):
        for name, value in first.items():
            if name.startswith(("train/", "val/", "grad_norm")):
                tolerance = 0 if processes == 1 else 1e-4
                assert second[name] == pytest.approx(value, abs=tolerance, rel=tolerance), name
    if processes == 1:
        assert state(run) == state(resumed)
        assert predictions(run) == predictions(resumed)


def test_a_changed_setting_is_refused_by_name(run: Path, tmp_path: Path) -> None:
    arguments = (
        "--config", run / "config.yaml", "--resume", run / "checkpoints" / "step_00000004",
        "--output-dir", tmp_path / "changed", "--optimizer.lr", "0.5",
    )  # fmt: skip
    done = train(*arguments)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "--optimizer.lr 0.5 (was 0.001)" in done.stderr
    done = train(*arguments, "--resume-changed")
    assert done.returncode == 0
    assert "resuming with changed settings: --optimizer.lr 0.5 (was 0.001)" in done.stdout
    resumed = rows(tmp_path / "changed", "step")[0]["step/lr"]
    before = next(row for row in rows(run, "step") if row["global_step"] == 5)["step/lr"]
    assert resumed == pytest.approx(500 * before)


def test_a_run_goes_on_with_its_own_videos_where_others_came(
    run: Path, videos: Path, tmp_path: Path
) -> None:
    """As where a newer version lists, or reads, what an older one did not."""
    more = Path(shutil.copytree(videos, tmp_path / "more"))
    shutil.copy(more / MOTIONS[0] / "clip_000.mp4", more / MOTIONS[0] / "new.mp4")
    arguments = ("--config", run / "config.yaml", "--resume", run / "checkpoints" / "step_00000004")
    output = ("--output-dir", tmp_path / "resumed")
    done = train(*arguments, *output, "--data.root", more)
    own = ("--data.root", run / "split.csv")
    assert done.returncode == 2 and "this version reads some that an older one did not" in (
        done.stderr
    )
    assert f"go on with those that the run had ({own[0]} {own[1]}), restore them" in done.stderr
    trained(tmp_path / "resumed", *arguments, *own)
    assert predictions(tmp_path / "resumed") == predictions(run)


def test_a_checkpoint_of_an_older_version_lacks_the_settings_that_are_new(
    run: Path, tmp_path: Path
) -> None:
    step = Path(shutil.copytree(run / "checkpoints" / "step_00000004", tmp_path / "step_00000004"))
    state = json.loads((step / "state.json").read_text())
    del state["config"]["loss"]["class_weights"]
    (step / "state.json").write_text(json.dumps(state))
    manifest = json.loads((step / "manifest.json").read_text())
    manifest["sha256"]["state.json"] = sha256((step / "state.json").read_bytes()).hexdigest()
    (step / "manifest.json").write_text(json.dumps(manifest))
    arguments = ("--config", run / "config.yaml", "--resume", step)
    trained(tmp_path / "resumed", *arguments)
    done = train(*arguments, "--loss.class-weights", "balanced", "--output-dir", tmp_path / "b")
    assert done.returncode == 2 and "--loss.class-weights balanced (was none)" in done.stderr


def test_a_run_that_began_with_stored_pixels_goes_on_with_them(run: Path, tmp_path: Path) -> None:
    """As before --data.pixel-aspect; its checkpoints and config.yaml do not name it."""
    step = Path(shutil.copytree(run / "checkpoints" / "step_00000004", tmp_path / "step_00000004"))
    state = json.loads((step / "state.json").read_text())
    del state["config"]["data"]["pixel_aspect"]
    (step / "state.json").write_text(json.dumps(state))
    manifest = json.loads((step / "manifest.json").read_text())
    manifest["sha256"]["state.json"] = sha256((step / "state.json").read_bytes()).hexdigest()
    (step / "manifest.json").write_text(json.dumps(manifest))
    config = yaml.safe_load((run / "config.yaml").read_text())
    del config["data"]["pixel_aspect"]
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(config))
    arguments = ("--config", tmp_path / "old.yaml", "--resume", step, "--output-dir")
    ways = (("same", (), "stored"), ("new", ("--resume-changed",), "square"))
    for folder, more, expected in ways:
        done = train(*arguments, tmp_path / folder, *more)
        assert done.returncode == 0, done.stderr
        line = "resuming with --data.pixel-aspect stored, as the run began under an older version"
        assert (line in done.stdout) is (expected == "stored")
        kept = yaml.safe_load((tmp_path / folder / "config.yaml").read_text())
        assert kept["data"]["pixel_aspect"] == expected
        best = json.loads((tmp_path / folder / "models" / "best_model.json").read_text())
        assert best["clip"]["pixel_aspect"] == expected
    assert "--data.pixel-aspect square (was stored)" in done.stdout


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        pytest.param(
            "--optimizer.name", "sgd", "--optimizer.name sgd (was adamw), which a checkpoint",
            marks=pytest.mark.slow,
        ),
        ("--seed", "4", "the split depends on --seed 4 (was 0)"),
    ],
)  # fmt: skip
def test_what_a_checkpoint_cannot_change_is_refused_even_so(
    run: Path, tmp_path: Path, flag: str, value: str, words: str
) -> None:
    done = train(
        "--config", run / "config.yaml", "--resume", run / "checkpoints" / "step_00000004",
        "--output-dir", tmp_path / "other", flag, value, "--resume-changed",
    )  # fmt: skip
    assert done.returncode == 2 and words in done.stderr


@pytest.mark.slow
def test_too_many_videos_that_fail_to_decode_stop_every_process(
    videos: Path, tmp_path: Path
) -> None:
    """Videos that the probe accepts and that are damaged further on."""
    root = tmp_path / "videos"
    shutil.copytree(videos, root)
    damaged = sorted((root / "moves left").iterdir())[:4]
    for path in damaged:
        content = bytearray(path.read_bytes())
        middle = content.index(b"mdat") + (len(content) - content.index(b"mdat")) // 2
        content[middle : middle + 200] = bytes(200)
        path.write_bytes(content)
    arguments = (
        *TINY, "--data.root", root, "--data.decoder", "pyav", "--global-batch-size", "4",
        "--micro-batch-size", "2", "--epochs", "1",
    )  # fmt: skip
    done = train(*arguments, "--output-dir", tmp_path / "stopped", processes=2)
    assert done.returncode != 0
    messages = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(messages) == 1, done.stderr
    assert "--data.max-bad-fraction 0.05" in messages[0] and "moves left" in messages[0]
    assert (tmp_path / "stopped" / "status").read_text() == "failed\n"

    run = trained(tmp_path / "goes_on", *arguments, "--data.max-bad-fraction", "1")
    (epoch,) = rows(run, "epoch")
    assert epoch["train/samples_replaced"] > 0 and epoch["train/samples_never"] == 0
    with open(run / "unreadable_videos.csv", encoding="utf-8", newline="") as file:
        listed = {row["path"]: row["where"] for row in csv.DictReader(file)}
    assert set(listed) <= {f"moves left/{path.name}" for path in damaged}
    assert "training" in listed.values()


def test_a_loss_that_is_no_number_stops_every_process_and_saves_nothing(
    videos: Path, tmp_path: Path
) -> None:
    done = train(
        *TINY, "--data.root", videos, "--output-dir", tmp_path / "nan", "--optimizer.lr", "1e30",
        "--global-batch-size", "4", "--micro-batch-size", "2", "--optimizer.name", "sgd",
        "--model.norm", "local", processes=2,
    )  # fmt: skip
    assert done.returncode != 0
    messages = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(messages) == 1 and "step 1: 190 of 230 tensors are not finite" in messages[0]
    assert not (tmp_path / "nan" / "checkpoints").exists()
    assert (tmp_path / "nan" / "status").read_text() == "failed\n"


@pytest.mark.slow  # tests/test_library.py has the same of its train
def test_a_program_that_trains_hears_of_it_by_logging_alone(run: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from slowfast_dist.cli.parser import parse_training; "
        "from slowfast_dist.training.run import run_training; "
        "run_training(parse_training(sys.argv[1:]))"
    )
    words = ("--config", run / "config.yaml", "--epochs", "1", "--output-dir", tmp_path / "run")
    done = launch("-c", code, *words, env={"PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_second_run_in_the_folder_is_refused(run: Path, videos: Path) -> None:
    done = train("--data.root", videos, "--output-dir", run)
    assert done.returncode == 2
    line = done.stderr.strip().splitlines()
    assert len(line) == 1 and "--resume auto" in line[0] and "--output-dir" in line[0]


def test_a_finished_run_is_left_alone(run: Path) -> None:
    before = (run / "metrics.jsonl").read_bytes()
    done = train("--config", run / "config.yaml", "--output-dir", run, "--resume", "auto")
    assert done.returncode == 0
    assert "finished, nothing to do (more --epochs than its 2 train it further)" in done.stdout
    assert (run / "metrics.jsonl").read_bytes() == before
