"""One video, read by a fork while the process imports: what any other way gives, to the number."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slowfast_dist.commands.predict.videos import predict_video, predict_videos
from slowfast_dist.config.commands.predict import Predict
from slowfast_dist.config.training import EvaluationConfig
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.inference import one_video
from slowfast_dist.inference.inputs import Input
from slowfast_dist.inference.one_video import EarlyVideo, start_early
from slowfast_dist.inference.predictor import Predictor, open_predictor
from slowfast_dist.inference.scoring import FileRow, rows_of_files
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.reader import VideoInfo
from tests.helpers.predictors import MOTIONS
from tests.helpers.small_model import write_model

pytestmark = [
    pytest.mark.usefixtures("on_cpu"),
    pytest.mark.skipif(sys.platform != "linux", reason="nothing is forked elsewhere"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),  # this process has threads
]


@pytest.fixture(scope="module")
def model(on_cpu: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "models", MOTIONS)


@pytest.fixture(scope="module")
def predictor(model: Path) -> Predictor:
    return open_predictor(model, mixed_precision="no")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    make_videos(folder, 1, seed=0, size=48, frames=20, classes=MOTIONS[:1])
    return next(folder.rglob("*.mp4"))


def early(predictor: Predictor, path: Path, views: EvaluationConfig | None = None) -> FileRow:
    best = predictor.best
    return EarlyVideo(path, best.data, views or best.evaluation, None).row(predictor.probabilities)


@pytest.mark.parametrize(("clips", "crops"), [(1, 1), (2, 3)])
def test_the_row_is_that_of_any_other_way(
    predictor: Predictor, video: Path, clips: int, crops: int
) -> None:
    found = early(predictor, video, EvaluationConfig(clips, crops))
    expected = predict_video(predictor, video, None, clips, crops)
    assert found.row is not None
    np.testing.assert_allclose(found.row, expected, rtol=0, atol=1e-12)
    [other] = rows_of_files(predictor.best, predictor.probabilities, [Input(video)], Predict())
    assert found.info == other.info


@pytest.mark.parametrize("box", [(0.5, 0.5, 0.25, 0.25), (400.0, 0.0, 8.0, 8.0)])
def test_a_region_of_interest_is_looked_at_alike(
    predictor: Predictor, video: Path, box: tuple[float, float, float, float]
) -> None:
    """Also one that holds nothing of the picture."""
    looking = replace(predictor, best=predictor.best.looking_at(box))
    found = early(looking, video)
    [expected] = rows_of_files(looking.best, looking.probabilities, [Input(video)], Predict())
    assert found.reason == expected.reason and (found.row is None) == (box[0] == 400)
    if found.row is not None and expected.row is not None:
        np.testing.assert_allclose(found.row, expected.row, rtol=0, atol=1e-12)


def test_what_cannot_be_read_says_why(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, video: Path
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    assert early(predictor, tmp_path / "a.mp4").reason == "empty file"

    def crash(*_: Any) -> VideoInfo:
        os._exit(7)

    monkeypatch.setattr(one_video, "_probed", crash)
    assert early(predictor, video).reason == "crashes the decoder (exit code 7)"

    def hang(*_: Any) -> VideoInfo:
        while True:
            pass

    monkeypatch.setattr(one_video, "_probed", hang)
    monkeypatch.setattr(one_video, "TIME_LIMIT", 0.5)
    assert str(early(predictor, video).reason).startswith("hangs the decoder: given up after")

    def refuse(path: Path, _: Any) -> VideoInfo:
        raise DecodeError(path, "of no kind")

    monkeypatch.setattr(one_video, "_probed", refuse)
    assert early(predictor, video).reason == "of no kind"


def test_it_is_made_where_a_fork_can_be_and_one_batch_is_enough(
    predictor: Predictor, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best, one = predictor.best, EvaluationConfig(1, 1)
    assert start_early([Input(video)], best, one, 8, None) is None  # this process has threads
    monkeypatch.setattr(one_video, "threads", lambda: 1)
    begun = start_early([Input(video)], best, one, 8, None)
    assert begun is not None
    begun.close()
    for files, views in (
        ([Input(video)] * 2, one), ([Input(tmp_path / "none.mp4")], one),
        ([Input(video, "a reason")], one), ([Input(video)], EvaluationConfig(3, 3)),
    ):  # fmt: skip
        assert start_early(files, best, views, 8, None) is None


def test_another_model_reads_anew(predictor: Predictor, video: Path) -> None:
    """As where a training wrote one that looks at other frames since."""
    begun = EarlyVideo(video, replace(predictor.best.data, sampling_rate=2),
                       EvaluationConfig(1, 1), None)  # fmt: skip
    [found] = predict_videos(predictor, [Input(video)], Predict(num_workers=0), begun)
    assert found.probabilities is not None
    expected = predict_video(predictor, video)
    np.testing.assert_allclose(found.probabilities, expected, rtol=0, atol=1e-12)


IMPORTED = """
import sys
from slowfast_dist.cli.start import main
try:
    main(sys.argv[1:])
finally:
    print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


@pytest.mark.slow
def test_predict_imports_only_what_it_uses(model: Path, video: Path) -> None:
    """By torch no library of trainings, of an exported file not even torch."""
    pytest.importorskip("onnxruntime")
    subprocess.run(
        [sys.executable, "-m", "slowfast_dist", "export", model, "--format", "onnx"],
        check=True, capture_output=True,
    )  # fmt: skip
    answers = []
    for backend in ("torch", "onnx"):
        words = ("predict", model, video, "--backend", backend, "--mixed-precision", "no", "--json")
        done = subprocess.run(
            [sys.executable, "-c", IMPORTED, *words], capture_output=True, text=True, check=True
        )
        imported = set(done.stderr.splitlines()[-1].split())
        assert not imported & {"sklearn", "scipy", "wandb", "onnx", "torchvision", "pandas"}
        assert ("torch" in imported) == (backend == "torch")
        answers.append(json.loads(done.stdout))
    for one, other in zip(*(answer["top"] for answer in answers), strict=True):
        assert one["class"] == other["class"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-4)
