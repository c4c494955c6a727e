"""A model's temperature: in all that is said of videos after the training, and in it alike."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import slowfast_dist
from slowfast_dist.commands.evaluate.command import run_evaluation
from slowfast_dist.commands.export.command import run_export
from slowfast_dist.commands.predict.videos import (
    predict_segments,
    predict_video,
    probe_video,
)
from slowfast_dist.config.commands.evaluate import EvaluateCommand
from slowfast_dist.config.commands.export import Export
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.inference.predictor import Predictor, open_predictor
from slowfast_dist.inference.windows import score_windows
from slowfast_dist.runs.best_model import DESCRIPTION, read_best
from tests.helpers.predictors import MOTIONS
from tests.helpers.small_model import write_model

pytestmark = pytest.mark.usefixtures("on_cpu")

T = 2.5


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    make_videos(folder, 2, seed=0, size=48, frames=24, classes=MOTIONS)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 2 clips x 3 crops, so that the order of averaging and temperature counts."""
    return write_model(tmp_path_factory.mktemp("run") / "models", MOTIONS, views=(2, 3))


@pytest.fixture
def change(models: Path) -> Any:
    """Puts values into best_model.json for a test."""
    path = models / DESCRIPTION
    before = path.read_bytes()

    def put(**values: Any) -> None:
        path.write_text(json.dumps(json.loads(before) | values))

    yield put
    path.write_bytes(before)


def probabilities(run: Path, video: Path) -> np.ndarray:
    return predict_video(open_predictor(run), video)


def with_temperature(mean: np.ndarray, temperature: float = T) -> np.ndarray:
    powers = mean ** (1 / temperature)
    return powers / powers.sum(axis=-1, keepdims=True)


def test_it_acts_on_the_mean_of_the_views_in_predict_library_and_evaluate(
    models: Path, root: Path, change: Callable[..., None], tmp_path: Path
) -> None:
    videos = sorted(root.rglob("*.mp4"))
    plain = np.array([probabilities(models, video) for video in videos])
    change(temperature=T)
    sharp = np.array([probabilities(models, video) for video in videos])
    assert sharp == pytest.approx(with_temperature(plain), abs=1e-9)
    assert np.array_equal(sharp.argmax(axis=1), plain.argmax(axis=1))
    assert np.abs(sharp - plain).max() > 0.05
    said = slowfast_dist.load(models).predict(videos[0])
    assert [said.probabilities[name] for name in MOTIONS] == pytest.approx(sharp[0], abs=1e-9)

    found = run_evaluation(
        models, EvaluateCommand(data=root, output=tmp_path / "out", num_workers=0)
    )
    with open(tmp_path / "out" / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    table = {row["path"]: [float(row[f"prob_{name}"]) for name in MOTIONS] for row in rows}
    shown = [table[video.relative_to(root).as_posix()] for video in videos]
    assert np.array(shown) == pytest.approx(sharp, abs=1e-6)
    truth = [MOTIONS.index(video.parent.name) for video in videos]
    own = np.arange(len(videos)), truth
    assert found["temperature"] == T
    assert found["loss"] == pytest.approx(-np.log(sharp[own]).mean(), abs=1e-5)
    assert found["uncalibrated"]["loss"] == pytest.approx(-np.log(plain[own]).mean(), abs=1e-5)
    assert found["accuracy"] == pytest.approx((plain.argmax(axis=1) == truth).mean())


def test_windows_and_segments_have_it(
    models: Path, root: Path, change: Callable[..., None]
) -> None:
    video = sorted(root.rglob("*.mp4"))[0]

    def scores() -> tuple[np.ndarray, list[Any]]:
        predictor = open_predictor(models)
        info = probe_video(video)
        found = score_windows(predictor, video, info, None, 0.2, 4)
        return found.probabilities, predict_segments(predictor, video, stride=0.2)

    plain, before = scores()
    change(temperature=T)
    found, after = scores()
    assert found == pytest.approx(with_temperature(plain), abs=1e-9)
    assert before[0].probability != after[0].probability


def test_unknown_is_said_by_the_calibrated_probability(
    models: Path, root: Path, change: Callable[..., None]
) -> None:
    video = sorted(root.rglob("*.mp4"))[0]
    plain = probabilities(models, video).max()
    calm = with_temperature(probabilities(models, video)).max()
    between = (plain + calm) / 2
    change(min_confidence=between)
    assert slowfast_dist.load(models).predict(video).label in MOTIONS
    change(min_confidence=between, temperature=T)
    assert slowfast_dist.load(models).predict(video).label == "unknown"


@pytest.mark.parametrize("written_with", [1.0, T])
def test_an_exported_file_answers_as_the_weights_do(
    models: Path, root: Path, change: Callable[..., None], written_with: float, tmp_path: Path
) -> None:
    """Its logits are the network's; the reader of best_model.json divides them, also where the
    file is of a version, or a time, that knew of no temperature."""
    video = sorted(root.rglob("*.mp4"))[0]
    change(temperature=written_with)
    run_export(models, Export(format="pt2"))
    change(temperature=T)
    one = predict_video(open_predictor(models, mixed_precision="no"), video)
    other = predict_video(open_predictor(models, "pt2"), video)
    assert other == pytest.approx(one, abs=1e-4)


def test_an_older_description_has_a_temperature_of_1(models: Path) -> None:
    assert "temperature" not in json.loads((models / DESCRIPTION).read_text())
    best = read_best(models)
    assert best.temperature == 1
    values = np.array([[0.25, 0.75]])
    assert Predictor(best, lambda clips: np.zeros((1, 2), np.float32)).calibrated(values) is values


@pytest.mark.parametrize("value", [0, -1, 0.01, 1e9, "2", None, [1], True])
def test_one_that_is_none_is_one_line(
    models: Path, change: Callable[..., None], value: Any
) -> None:
    change(temperature=value)
    with pytest.raises(UserError, match=r"best_model.json: is damaged \(temperature is "):
        read_best(models)


def test_several_labels_have_none(models: Path, change: Callable[..., None]) -> None:
    """Their thresholds are of the probabilities as they are."""
    change(loss="bce", thresholds=[0.5] * 3, temperature=T)
    with pytest.raises(UserError, match="for several labels a clip"):
        read_best(models)
