"""What answers fastest is found out at the end of a long training, for the first `predict`."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from slowfast_dist.config.report import ReportConfig
from slowfast_dist.config.training import Config, WandbConfig
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.inference.backends import choice
from slowfast_dist.inference.backends.openvino_network import OpenVinoNetwork
from slowfast_dist.inference.predictor import open_predictor
from slowfast_dist.training.at_end import answers
from slowfast_dist.training.best.tracker import Run
from slowfast_dist.training.run import run_training
from tests.helpers.model_folders import small_config
from tests.helpers.predictors import MOTIONS

pytestmark = pytest.mark.usefixtures("on_cpu")

FASTER = {"difference": 1e-6, "same": True, "ratio": 0.4}
CLIP = np.random.default_rng(0).integers(0, 256, (1, 8, 32, 32, 3), np.uint8)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Of a training of seconds; what is kept is nobody else's."""
    monkeypatch.setenv("SLOWFAST_DIST_CACHE", str(tmp_path / "cache"))
    make_videos(tmp_path / "clips", 3, seed=0, size=48, frames=24, classes=MOTIONS)
    small = small_config(tmp_path / "clips")
    return replace(
        small, epochs=1, output_dir=tmp_path / "run", wandb=WandbConfig(mode="disabled"),
        report=ReportConfig(explain=0), data=replace(small.data, num_workers=0),
    )  # fmt: skip


def end_training(config: Config, caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines about answers of a training that ends well."""
    caplog.set_level(logging.INFO, "slowfast_dist")
    caplog.clear()
    assert run_training(config)["status"] == "finished"
    said = [one.getMessage() for one in caplog.records if one.name == "slowfast_dist"]
    return [line for line in said if line.startswith("answers")]


def test_a_long_training_prepares_the_first_answer(
    config: Config, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="openvino, of the extra 'cpu', is what prepares it")
    monkeypatch.setattr(answers, "LONG_TRAINING", 0.0)
    monkeypatch.setattr(choice, "compare", lambda *_: FASTER)
    (line,) = end_training(config, caplog)
    assert line.startswith("answers on this machine: by OpenVINO, ")
    assert "0.40 of torch's CPU time and the same answer on one clip (" in line
    monkeypatch.setattr(choice, "compare", lambda *_: pytest.fail("compared anew"))
    predictor = open_predictor(config.output_dir, "auto", clips=1)
    assert isinstance(predictor.network, OpenVinoNetwork)
    expected = open_predictor(config.output_dir, "torch", "no").probabilities(CLIP)
    np.testing.assert_allclose(predictor.probabilities(CLIP), expected, rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("slower", "answers on this machine: by torch, as openvino takes 1.25 of its time here ("),
        ("fails", "answers: not prepared on this machine (no such thing)"),
    ],
)
def test_it_is_said_where_torch_answers(
    config: Config, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
    what: str, said: str,
) -> None:  # fmt: skip
    pytest.importorskip("openvino", reason="openvino, of the extra 'cpu', is what prepares it")

    def compare(*_: object) -> Mapping[str, object]:
        if what == "fails":
            raise RuntimeError("no such\nthing")
        return FASTER | {"ratio": 1.25}

    monkeypatch.setattr(answers, "LONG_TRAINING", 0.0)
    monkeypatch.setattr(choice, "compare", compare)
    (line,) = end_training(config, caplog)
    assert line.startswith(said)


def test_nothing_is_prepared_after_a_short_training_or_without_openvino(
    config: Config, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    assert not end_training(config, caplog)
    monkeypatch.setattr(answers, "LONG_TRAINING", 0.0)
    monkeypatch.setattr(choice, "missing_libraries", lambda: "openvino is not installed")
    assert not end_training(replace(config, output_dir=tmp_path / "again"), caplog)
    assert not (tmp_path / "cache" / "slowfast_dist" / "answers").exists()


@pytest.mark.parametrize(
    ("what", "asked"),
    [
        ({}, True), ({"fold": "final", "folds": 2}, True), ({"folds": 2, "fold": 1}, False),
        ({"hours": 0.03}, False), ({"hours": 1.0}, True), ({"ways": True}, False),
        ({"device": "cuda"}, False), ({"seconds": 59.0}, False),
    ],
)  # fmt: skip
def test_which_trainings_are_asked(
    monkeypatch: pytest.MonkeyPatch, what: dict[str, Any], asked: bool
) -> None:
    """Not those whose model answers nobody, nor where there is no time for it."""
    read: list[Path] = []

    def noted(folder: Path) -> None:
        read.append(folder)
        raise RuntimeError("that is enough")

    monkeypatch.setattr(answers, "read_best", noted)
    given = {"folds": None, "fold": None, "hours": None, **what}
    run = SimpleNamespace(
        config=SimpleNamespace(**given), environment={"device": what.get("device", "cpu")},
        videos=SimpleNamespace(ways=what.get("ways", False)), folder=SimpleNamespace(root=Path()),
    )  # fmt: skip
    answers.prepare_answers(cast(Run, run), what.get("seconds", 100.0))
    assert bool(read) == asked
