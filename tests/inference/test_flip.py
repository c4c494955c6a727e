"""Views scored mirrored, too: the mean of both, in predict and evaluate alike, where allowed."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from slowfast_dist.cli.parser import parse_training
from slowfast_dist.commands.evaluate.command import run_evaluation
from slowfast_dist.commands.predict.videos import predict_video
from slowfast_dist.config.commands.evaluate import EvaluateCommand
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.training import EvaluationConfig
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.inference.predictor import open_predictor
from slowfast_dist.runs.best_model import DESCRIPTION, read_best
from tests.helpers.predictors import MOTIONS, predictor
from tests.helpers.small_model import write_model

pytestmark = pytest.mark.usefixtures("on_cpu")


def left_half(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits of how light the left half is."""
    mean = clips[:, :, :, : clips.shape[3] // 2].mean(axis=(1, 2, 3, 4), dtype=np.float32)
    return np.asarray(np.stack([127.5 - mean, mean - 127.5], axis=1) / 20, np.float32)


def test_it_is_the_mean_of_both() -> None:
    clips = np.zeros((2, 8, 32, 32, 3), np.uint8)
    clips[0, :, :, :16] = 255
    clips[1] = 90
    plain = predictor(left_half)
    both = replace(plain, best=replace(plain.best, evaluation=EvaluationConfig(flip=True)))
    mirrored = np.ascontiguousarray(clips[:, :, :, ::-1])
    mean = (plain.probabilities(clips) + plain.probabilities(mirrored)) / 2
    assert both.probabilities(clips) == pytest.approx(mean)
    assert both.probabilities(clips)[0] == pytest.approx([0.5, 0.5])
    assert plain.probabilities(clips)[0].max() > 0.9


def test_a_mirrored_view_swaps_classes_that_a_mirror_swaps() -> None:
    clips = np.zeros((2, 8, 32, 32, 3), np.uint8)
    clips[0, :, :, :16] = 255
    clips[1, :, :, 16:] = 255
    plain = predictor(left_half)
    pairs = replace(plain.best.data, flip_pairs=("dark:light",))
    best = replace(plain.best, evaluation=EvaluationConfig(flip=True), data=pairs)
    assert replace(plain, best=best).probabilities(clips) == pytest.approx(
        plain.probabilities(clips), abs=1e-6
    )


def write_paired(folder: Path) -> Path:
    """A model whose training swapped the labels of mirrored clips."""
    models = write_model(folder / "models", MOTIONS)
    path = models / DESCRIPTION
    content = json.loads(path.read_text())
    content["training"] = {"flip": True, "flip_pairs": ["moves left:moves right"]}
    path.write_text(json.dumps(content))
    return models


def test_pairs_are_those_of_the_training_in_predict_and_evaluate(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    make_videos(root, 1, seed=0, size=48, frames=12, classes=MOTIONS)
    models = write_paired(tmp_path)
    one = open_predictor(models)
    videos = sorted(root.rglob("*.mp4"))
    both = np.array([predict_video(one.with_flip(True), video) for video in videos])
    unpaired = replace(one, best=replace(one.best, data=replace(one.best.data, flip_pairs=())))
    wrong = np.array([predict_video(unpaired.with_flip(True), video) for video in videos])
    assert np.abs(both - wrong).max() > 1e-3
    plain = np.array([predict_video(one, video) for video in videos])
    assert 2 * both - plain == pytest.approx((2 * wrong - plain)[:, [1, 0, 2]])
    command = EvaluateCommand(data=root, output=tmp_path / "out", num_workers=0, flip=True)
    run_evaluation(models, command)
    with open(tmp_path / "out" / "predictions.csv", newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    for video, values in zip(videos, both, strict=True):
        row = rows[video.relative_to(root).as_posix()]
        assert [float(row[f"prob_{name}"]) for name in MOTIONS] == pytest.approx(values, abs=1e-6)
    path = models / DESCRIPTION
    path.write_text(path.read_text().replace("moves left:moves right", "moves left:moves up"))
    with pytest.raises(UserError, match="is damaged .*no class 'moves up'"):
        read_best(models)


def test_evaluations_with_and_without_mirrored_views_lie_apart(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    make_videos(root, 1, seed=0, size=48, frames=12, classes=MOTIONS)
    models = write_model(tmp_path / "models", MOTIONS)
    for flip in (True, False):
        run_evaluation(models, EvaluateCommand(data=root, num_workers=0, flip=flip))
    names = ("evaluation-videos", "evaluation-videos-2")
    found = [json.loads((models / name / "metrics.json").read_text())["flip"] for name in names]
    assert found == [True, False]
    segments = EvaluateCommand(data=root, segments=True, flip=True, stride=0.2)
    assert run_evaluation(models, segments)["flip"] is True


def test_predict_and_evaluate_agree_and_the_model_keeps_it(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    make_videos(root, 1, seed=0, size=48, frames=12, classes=MOTIONS)
    models = write_model(tmp_path / "run" / "models", MOTIONS)
    one = open_predictor(models)
    videos = sorted(root.rglob("*.mp4"))
    plain = np.array([predict_video(one, video) for video in videos])
    both = np.array([predict_video(one.with_flip(True), video) for video in videos])
    assert np.abs(plain - both).max() > 1e-3
    command = EvaluateCommand(data=root, output=tmp_path / "out", num_workers=0, flip=True)
    assert run_evaluation(models, command)["flip"] is True
    with open(tmp_path / "out" / "predictions.csv", newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    for video, values in zip(videos, both, strict=True):
        row = rows[video.relative_to(root).as_posix()]
        assert [float(row[f"prob_{name}"]) for name in MOTIONS] == pytest.approx(values, abs=1e-6)
    path = models / DESCRIPTION
    content = json.loads(path.read_text())
    content["clip"]["flip_view"] = True
    path.write_text(json.dumps(content))
    assert read_best(models).evaluation.flip
    assert predict_video(open_predictor(models), videos[0]) == pytest.approx(both[0])
    content["training"] = {"flip": False}
    del content["clip"]["flip_view"]
    path.write_text(json.dumps(content))
    assert not read_best(models).evaluation.flip
    with pytest.raises(UserError, match="--flip True: the model's training mirrored no clips"):
        run_evaluation(models, command)
    with pytest.raises(UserError, match="mirrored no clips"):
        open_predictor(models).with_flip(True)


def test_a_training_without_mirrored_clips_validates_none(tmp_path: Path) -> None:
    words = ["--data.root", str(tmp_path), "--data.flip", "false", "--evaluation.flip"]
    with pytest.raises(UserError, match="--evaluation.flip True: the training mirrors no clips"):
        parse_training(words)
