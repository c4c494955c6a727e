"""The result of a cross-validation on wandb, written by wandb itself and read back from disk."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb

from slowfast_dist.commands.cross_validate.result_on_wandb import log_result
from slowfast_dist.config.training import Config, WandbConfig
from slowfast_dist.metrics.uncertainty import Bin
from slowfast_dist.metrics.wrong_labels import Doubt
from tests.helpers.full_runs import cross_validation_facts
from tests.helpers.wandb_files import history, records


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No key and no settings of whoever runs the tests, and no server left behind."""
    wandb.teardown()
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    yield
    wandb.teardown()
    os.environ.pop("WANDB_SERVICE", None)


def tables(folder: Path) -> dict[str, list[list[object]]]:
    """The rows of each table, by its name."""
    stored = {
        entry.path: Path(entry.local_path)
        for record in records(folder) if record.HasField("artifact")
        for entry in record.artifact.manifest.contents
    }  # fmt: skip
    return {name.removesuffix(".table.json"): json.loads(path.read_text())["data"]
            for name, path in stored.items()}  # fmt: skip


def test_folds_curve_calibration_and_doubts_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, facts = tmp_path / "cv", cross_validation_facts(["a", "b"])
    folder.mkdir()
    before = [Bin(0.6, 0.8, 4, 0.7, 0.5), Bin(0.8, 1.0, 0, 0.0, 0.0)]
    doubts = [Doubt(f"secret_{row}.mp4", "a", "b", 0.1, 0.9) for row in range(300)]
    after = [Bin(0.4, 0.6, 4, 0.5, 0.5)]
    wanted = WandbConfig(mode="offline", hardest=5, log_model=True)
    config = Config(output_dir=folder, wandb=wanted)
    kept = log_result(folder, config, facts, before, after, doubts)
    assert kept.keys() == {"wandb_id", "wandb_results"}
    rows = history(folder)
    assert [row for row in rows if "learning_curve/groups" in row] == [
        {"learning_curve/groups": one["groups"], "learning_curve/accuracy": one["accuracy"],
         "learning_curve/f1_macro": one["f1_macro"]}
        for one in facts["learning_curve"]
    ]  # fmt: skip
    assert [row for row in rows if "calibration/confidence" in row] == [
        {"calibration/confidence": pytest.approx(0.7), "calibration/accuracy": 0.5,
         "calibration/videos": 4},
        {"calibration/confidence": 0.5, "calibration/accuracy_with_temperature": 0.5,
         "calibration/videos_with_temperature": 4},
    ]  # fmt: skip
    axes = {r.metric.name: r.metric.step_metric for r in records(folder) if r.HasField("metric")}
    assert axes["calibration/accuracy_with_temperature"] == "calibration/confidence"
    assert axes["learning_curve/f1_macro"] == "learning_curve/groups"
    found = tables(folder)
    assert found["best/wrong_labels"] == [["a", "b", 300]]
    assert found["best/calibration"] == [[0.6, 0.8, 4, 0.7, 0.5, False],
                                         [0.4, 0.6, 4, 0.5, 0.5, True]]  # fmt: skip
    assert found["folds"][0] == ["all", 60, 15, 0.8, 0.75, 0.7]
    assert [row[0] for row in found["folds"]] == ["all", "1", "2", "3", "4", "5"]
    # No video's name goes up, whatever is asked for of each training's own run.
    [written] = folder.glob("wandb/offline-run-*/*.wandb")
    assert b"secret_" not in written.read_bytes()
    # Another result goes on with the same run, and its curves are not drawn over the first ones.
    time.sleep(1.1)  # wandb names folders by the second
    again = log_result(folder, config, facts | kept, before, after, doubts)
    assert again["wandb_id"] == kept["wandb_id"] is not None
    starts = {name.partition("/")[0] for row in history(folder) for name in row}
    assert starts == {"calibration_2", "learning_curve_2", "folds", "best"}
    said = "the curves of this result are calibration_2/ and learning_curve_2/, as those of an"
    assert capsys.readouterr().err.count(said) == 1
    off = Config(output_dir=folder, wandb=WandbConfig(mode="disabled"))
    assert log_result(folder, off, facts | kept, before, after, doubts) == {}
