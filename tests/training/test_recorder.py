"""What a training leaves beside its rows: the card, the facts behind it, and its page on wandb."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import wandb
from accelerate.state import AcceleratorState, GradientState
from huggingface_hub import ModelCard as HubCard
from sklearn.metrics import precision_recall_fscore_support

from slowfast_dist.cli.parser import parse_training
from slowfast_dist.commands.hub import run_model_card
from slowfast_dist.config.commands.model_card import ModelCard
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.report import command
from slowfast_dist.report.sections.judged import judge
from slowfast_dist.runs.best_model import read_best
from slowfast_dist.runs.predictions import find_predictions
from slowfast_dist.system.log import log_to_console
from slowfast_dist.training.recorder import Recorder
from slowfast_dist.training.run import run_training
from tests.helpers.training_runs import TINY, predictions, rows, train, trained
from tests.helpers.wandb_files import history, records

pytestmark = pytest.mark.slow  # a training, with wandb

CLASSES = ("moves down", "moves up", "turns clockwise")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A training of 2 epochs with wandb offline, in this process: it is the imports that last."""
    folder = tmp_path_factory.mktemp("recording")
    make_videos(folder / "my clips", 6, 0, size=64, frames=16, classes=CLASSES)
    flags = list(TINY)
    flags[flags.index("disabled")] = "offline"
    config = parse_training([
        *flags, "--output-dir", str(folder / "run"), "--data.root", str(folder / "my clips"),
        "--data.val-fraction", "0.4", "--epochs", "2", "--schedule.warmup-epochs", "0",
        "--global-batch-size", "4", "--wandb.log-model", "--wandb.hardest", "3",
        "--checkpoint.monitor", "train/loss",
    ])  # fmt: skip
    assert config is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        patch.setenv("ACCELERATE_USE_CPU", "true")
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        run_training(config)
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        yield folder / "run"
        wandb.teardown()
        os.environ.pop("WANDB_SERVICE", None)


def best_epoch(run: Path) -> dict[str, Any]:
    return [row for row in rows(run, "epoch") if row["best"]][-1]


def test_best_model_json_has_the_facts_of_its_predictions(run: Path) -> None:
    facts = json.loads((run / "models" / "best_model.json").read_text())
    found = predictions(run)
    labels, guesses = [r["label"] for r in found], [r["prediction"] for r in found]
    scores = precision_recall_fscore_support(labels, guesses, labels=CLASSES, zero_division=0)
    for row, name, *values in zip(facts["per_class"], CLASSES, *scores, strict=True):
        assert row["class"] == name
        assert [row[k] for k in ("precision", "recall", "f1", "support")] == pytest.approx(values)
    low, high = facts["intervals"]["accuracy"]
    assert 0 <= low <= best_epoch(run)["val/accuracy"] <= high <= 1
    wrong = sum(one["count"] for one in facts["confusions"])
    assert wrong == sum(a != b for a, b in zip(labels, guesses, strict=True))
    confident = [max(float(r[f"prob_{name}"]) for name in CLASSES) for r in found]
    right = [a == b for a, b in zip(labels, guesses, strict=True)]
    place = np.ceil(np.array(confident) * 15)
    gaps = [abs(np.sum(np.subtract(confident, right)[place == p])) for p in np.unique(place)]
    assert facts["ece"] == pytest.approx(sum(gaps) / len(found), abs=1e-9)
    data, training = facts["data"], facts["training"]
    assert (data["name"], data["split"]) == ("my clips", "random")
    assert data["train_videos"] + data["val_videos"] == 18
    assert training["started_from"] == "scratch" and training["norm"] == "local"
    assert str(run.parent) not in json.dumps(facts)


def test_the_card_is_that_of_the_best_epoch_and_models_alone_make_it_again(
    run: Path, tmp_path: Path
) -> None:
    models = Path(shutil.copytree(run / "models", tmp_path / "alone"))
    card = (models / "README.md").read_bytes()
    data: Any = HubCard(card.decode()).data
    results = {result.metric_name: result.metric_value for result in data.eval_results}
    assert results["Accuracy"] == pytest.approx(best_epoch(run)["val/accuracy"], abs=1e-6)
    (models / "README.md").unlink()
    run_model_card(models, ModelCard())
    assert (models / "README.md").read_bytes() == card
    # What an older version wrote is still read.
    path = models / "best_model.json"
    facts = json.loads(path.read_text())
    core = ("model", "classes", "clip", "epoch", "metrics")
    path.write_text(json.dumps({name: facts[name] for name in core}))
    assert read_best(models).classes == CLASSES


def calibration(run: Path) -> dict[str, dict[float, int]]:
    """How many videos each bin of confidence has, without and with the temperature, as on wandb."""
    found: dict[str, dict[float, int]] = {}
    for row in history(run):
        for name in row:
            if name.startswith("calibration/videos"):
                found.setdefault(name, {})[row["calibration/confidence"]] = row[name]
    assert "calibration/videos" in found
    return found


def test_the_page_on_wandb(run: Path) -> None:
    best = best_epoch(run)
    shown = [row for row in history(run) if any(name.startswith("best/") for name in row)]
    assert {row.get("epoch") for row in shown} >= {1, best["epoch"]}
    tables = {name.split("/")[1] for row in shown for name in row if name != "epoch"}
    found = find_predictions(run / "predictions" / "val_best.csv")
    assert found is not None
    judged = judge(found, 1.0)
    doubted = {"wrong_labels", "wrong_labels_videos"} if judged.doubts else set()
    assert tables == {"per_class", "hardest", "calibration", *doubted}
    summary: dict[str, Any] = {}
    stored: dict[str, Path] = {}
    models: list[Any] = []
    for record in records(run):
        for item in record.summary.update:
            summary["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
        if record.HasField("artifact"):
            stored |= {e.path: Path(e.local_path) for e in record.artifact.manifest.contents}
            models += [record.artifact] if record.artifact.type == "model" else []
    assert summary["best/epoch"] == best["epoch"]
    assert summary["best/val/accuracy"] == best["val/accuracy"]
    for kind, bins in calibration(run).items():
        assert sum(bins.values()) == len(predictions(run)), kind
    if judged.doubts:
        table_of_doubts = "best/wrong_labels_videos.table.json"
        [told] = [path for name, path in stored.items() if name == table_of_doubts]
        named = [(row[0], row[3], row[6]) for row in json.loads(told.read_text())["data"]]
        assert named == [
            (one.path, one.probable, one.nearest_words) for one in judged.doubts[:3]
        ]
        assert all("nearest clips are labelled" in words for _, _, words in named)
    # The last table of the hardest is that of the best model: worst first by val_best.csv.
    (last,) = [path for name, path in stored.items() if name.endswith("hardest.table.json")]
    table = json.loads(last.read_text())["data"]
    worst = sorted(predictions(run), key=lambda row: float(row[f"prob_{row['label']}"]))[:3]
    assert [row[0] for row in table] == [row["path"] for row in worst]
    for row, known in zip(table, worst, strict=True):
        assert row[2:4] == [known["label"], known["prediction"]]
        assert row[5] == pytest.approx(float(known[f"prob_{known['label']}"]))
        with av.open(stored[row[1]["path"]]) as container:
            assert len(list(container.decode(video=0))) > 5
    (model,) = models
    assert {entry.path for entry in model.manifest.contents} == {
        path.name for path in (run / "models").iterdir()
    }
    assert model.description.startswith("# slowfast_tiny for 3 actions of my clips")
    assert json.loads(model.metadata)["metrics"]["val/accuracy"] == best["val/accuracy"]


def test_a_best_model_is_drawn_on_wandb_once_though_the_run_is_trained_further(
    tmp_path: Path,
) -> None:
    """Which it is not by steps of no length, so that its first epoch stays the best."""
    make_videos(tmp_path / "clips", 4, 0, size=32, frames=12, classes=CLASSES)
    flags = list(TINY)
    flags[flags.index("disabled")] = "offline"
    flags += [
        "--data.root", str(tmp_path / "clips"), "--data.val-fraction", "0.4",
        "--global-batch-size", "4", "--model.norm", "frozen", "--optimizer.lr", "1e-30",
        "--schedule.name", "constant",
    ]  # fmt: skip
    run = trained(tmp_path / "run", *flags, "--epochs", "1")
    assert any("calibration/confidence" in row for row in history(run))
    trained(run, *flags, "--epochs", "2", "--resume", "auto")
    assert best_epoch(run)["epoch"] == 1
    assert any(row.get("epoch") == 2 for row in history(run))
    assert not any("calibration/confidence" in row for row in history(run))
    [told] = rows(run, "wandb")
    assert (told["epoch"], len(list(run.glob("wandb/offline-run-*")))) == (1, 2)
    # Of another metric the next epoch is the best: its curves are not drawn over the first ones.
    flags += ["--checkpoint.monitor", "val/accuracy", "--checkpoint.mode", "max"]
    more = ("--epochs", "3", "--resume", "auto", "--resume-changed")
    done = train(*flags, "--output-dir", run, *more)
    assert done.returncode == 0 and best_epoch(run)["epoch"] == 3
    assert {name for row in history(run) for name in row if name.startswith("calib")} == {
        "calibration_epoch_3/confidence", "calibration_epoch_3/accuracy",
        "calibration_epoch_3/videos",
    }  # fmt: skip
    said = "wandb: the curves of the new best model are calibration_epoch_3/, as those of an"
    assert done.stderr.count(said) == 1
    assert [row.get("curves") for row in rows(run, "wandb")] == [
        "calibration", "calibration_epoch_3",
    ]  # fmt: skip
    # In another folder the run on wandb is the same one, and so is the best model.
    other = trained(tmp_path / "other", *flags, "--epochs", "4", "--resume", run)
    assert json.loads((other / "models" / "best_model.json").read_text())["epoch"] == 3
    assert not any(name.startswith("calib") for row in history(other) for name in row)


class Folder:
    """Of a Recorder what its page needs."""

    def __init__(self, root: Path) -> None:
        self.folder = SimpleNamespace(root=root)
        self.videos = SimpleNamespace(val=None)
        self.report_failed = False


@pytest.mark.parametrize("fault", [RuntimeError("a bug"), OSError(28, "No space left on device")])
def test_whatever_befalls_the_page_costs_a_line_once(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    fault: Exception,
) -> None:  # fmt: skip
    def fail(path: Path, content: bytes) -> None:
        raise fault

    log_to_console()
    recorder: Any = Folder(run)
    with monkeypatch.context() as patch:
        patch.setattr(command, "write_page", fail)
        Recorder._draw_report(recorder)
        Recorder._draw_report(recorder)
    reason = getattr(fault, "strerror", None) or "a bug"
    assert capsys.readouterr().out == f"report.html: cannot be written ({reason})\n"
    Recorder._draw_report(recorder)
    assert not recorder.report_failed


def test_a_card_changed_by_hand_outlives_the_next_best_epoch(tmp_path: Path) -> None:
    make_videos(tmp_path / "clips", 5, 0, size=64, frames=16, classes=CLASSES[:2])
    (tmp_path / "run" / "models").mkdir(parents=True)
    (tmp_path / "run" / "models" / "README.md").write_text("mine\n")
    run = trained(
        tmp_path / "run", *TINY, "--data.root", tmp_path / "clips", "--epochs", "2",
        "--global-batch-size", "4", "--schedule.warmup-epochs", "0",
    )  # fmt: skip
    assert (run / "models" / "README.md").read_text() == "mine\n"
    assert best_epoch(run)


def test_a_run_whose_weights_are_no_numbers_does_not_finish(tmp_path: Path) -> None:
    make_videos(tmp_path / "clips", 5, 0, size=64, frames=16, classes=CLASSES[:2])
    done = train(
        *TINY, "--data.root", tmp_path / "clips", "--output-dir", tmp_path / "run 1",
        "--epochs", "1", "--global-batch-size", "8", "--schedule.warmup-epochs", "0",
        "--optimizer.lr", "1e38",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("error: step 1: ") == 1 and "finite" in done.stderr
    assert (tmp_path / "run 1" / "status").read_text() == "failed\n"
    assert not (tmp_path / "run 1" / "models").exists() and "finished in" not in done.stdout
