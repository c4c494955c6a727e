"""Probabilities of files: those of a plain loop and of ``evaluate``, whatever lies between them."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

import slowfast_dist
from slowfast_dist.commands.evaluate.command import run_evaluation
from slowfast_dist.commands.predict.videos import (
    predict_segments,
    predict_video,
    predict_videos,
    probe_video,
)
from slowfast_dist.config.commands.evaluate import EvaluateCommand
from slowfast_dist.config.commands.predict import Predict
from slowfast_dist.config.errors import UserError
from slowfast_dist.data import probing as probe_all
from slowfast_dist.data.clips import dense_indices
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.data.workers import START_METHOD, prepare_workers
from slowfast_dist.inference import scoring
from slowfast_dist.inference.inputs import Input
from slowfast_dist.inference.predictor import Predictor, open_predictor
from slowfast_dist.inference.seen import SeenVideos
from slowfast_dist.inference.segments import find_segments
from slowfast_dist.inference.windows import NOT_A_NUMBER, Stopped, score_windows
from slowfast_dist.runs.predictions import read_predictions
from slowfast_dist.video import guarded_reader as guard
from slowfast_dist.video.container import DecodeError
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import read_frames, read_views
from slowfast_dist.video.views import evaluation_view
from tests.helpers.child_modules import importable
from tests.helpers.model_folders import replace_weights
from tests.helpers.predictors import MOTIONS as CLASSES
from tests.helpers.small_model import CLIP, write_model

pytestmark = pytest.mark.usefixtures("on_cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of 3 videos each, of a size that crops differ in."""
    folder = tmp_path_factory.mktemp("videos")
    make_videos(folder, 3, seed=0, size=48, frames=20, classes=CLASSES)
    return folder


@pytest.fixture(scope="module")
def files(root: Path) -> list[Path]:
    return sorted(root.rglob("*.mp4"))


@pytest.fixture(scope="module")
def predictor(model: Path) -> Predictor:
    return open_predictor(model, mixed_precision="no")


def predict(predictor: Predictor, paths: list[Path], **options: Any) -> list[Any]:
    command = Predict(**({"num_workers": 0} | options))
    return list(predict_videos(predictor, map(Input, paths), command))


def stacked(found: list[Any]) -> np.ndarray:
    assert [one.reason for one in found] == [None] * len(found)
    return np.stack([one.probabilities for one in found])


def plain_loop(model: Path, path: Path, clips: int, crops: int) -> np.ndarray:
    """View by view: the whole file decoded, torch's softmax, the mean."""
    network = torch.load(model / "best_model_architecture.pth", weights_only=False).eval()
    info = probe_file(path)
    found = []
    for clip in range(clips):
        position = clip / (clips - 1) if clips > 1 else 0.5
        indices = dense_indices(info.frames, CLIP.num_frames, CLIP.sampling_rate, position)
        for crop in range(crops):
            view = evaluation_view(info.height, info.width, CLIP, crop, crops)
            frames = torch.from_numpy(read_frames(path, indices, info, "pyav", view))
            with torch.inference_mode():
                logits = network(frames.permute(0, 3, 1, 2)[None])
            found.append(torch.softmax(logits.double(), dim=1)[0])
    return torch.stack(found).mean(dim=0).numpy()


@pytest.mark.parametrize(("clips", "crops"), [(1, 1), (2, 3)])
def test_a_video_is_the_mean_of_a_plain_loop_over_its_views(
    predictor: Predictor, model: Path, files: list[Path], clips: int, crops: int
) -> None:
    for path in files[::3]:
        found = predict_video(predictor, path, probe_file(path), clips, crops, batch_size=4)
        expected = plain_loop(model, path, clips, crops)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
        assert found.max() - found.min() > 0.05  # not all alike, so this test can fail


@pytest.mark.parametrize("views", [pytest.param((1, 1), marks=pytest.mark.slow), (2, 3)])
def test_probabilities_are_those_of_an_evaluation(
    tmp_path: Path, root: Path, files: list[Path], views: tuple[int, int]
) -> None:
    """With the views of the run's own validation."""
    models = write_model(tmp_path / "models", CLASSES, views)
    run_evaluation(models, EvaluateCommand(root, tmp_path / "out", "no", num_workers=0))
    expected = read_predictions(tmp_path / "out" / "predictions.csv")
    found = predict(open_predictor(models, mixed_precision="no"), files)
    assert [str(one.path.relative_to(root)) for one in found] == expected.names
    np.testing.assert_allclose(stacked(found), expected.probabilities, rtol=0, atol=1e-6)


def test_views_that_would_all_be_the_same_are_refused(predictor: Predictor) -> None:
    """As by an evaluation: ten views of a whole video take ten times as long, and say the same."""
    data = replace(CLIP, sampling="uniform", resize="square")
    alike = replace(predictor, best=replace(predictor.best, data=data))
    with pytest.raises(UserError, match="--temporal-views 2: the run samples uniform"):
        predict(alike, [Path("a.mp4")], temporal_views=2)
    with pytest.raises(UserError, match="--spatial-crops 3: the run resizes square"):
        predict(alike, [Path("a.mp4")], spatial_crops=3)


def test_it_ends_between_two_batches_when_it_is_asked_to(
    predictor: Predictor, files: list[Path]
) -> None:
    """As where nobody waits any more for what a server computes."""
    asked = iter([False, True])
    with pytest.raises(Stopped):
        predict_video(predictor, files[0], probe_file(files[0]), 3, 1, 1, lambda: next(asked))
    assert next(asked, None) is None


def test_workers_and_batches_change_nothing(predictor: Predictor, files: list[Path]) -> None:
    many = [*files[:5], files[0]]
    expected = stacked(predict(predictor, many, temporal_views=2))
    for workers, batch_size in ((2, 5), (0, 1)):
        found = predict(
            predictor, many, temporal_views=2, num_workers=workers, batch_size=batch_size
        )
        assert [one.path for one in found] == many
        np.testing.assert_allclose(stacked(found), expected, rtol=0, atol=1e-6)
    alone = predict_video(predictor, files[0], probe_file(files[0]), 2, 1)
    np.testing.assert_allclose(alone, expected[0], rtol=0, atol=1e-6)


def test_a_path_alone_gives_the_scores_and_the_segments_of_the_commands(
    predictor: Predictor, files: list[Path]
) -> None:
    info = probe_file(files[0])
    np.testing.assert_array_equal(
        predict_video(predictor, files[0]), predict_video(predictor, files[0], info)
    )
    found = predict_segments(predictor, files[0], 0.2, 0.1, 0.0)
    scores = score_windows(predictor, files[0], info, 0.2, 0.1, 3)
    assert len(scores.starts) > 3
    expected = find_segments(scores, CLASSES, 0.0)
    assert [one.label for one in found] == [one.label for one in expected]
    spans = [(one.start, one.end, one.probability) for one in found]
    np.testing.assert_allclose(
        spans, [(one.start, one.end, one.probability) for one in expected], atol=1e-6
    )
    assert found[0].start == 0 and found[-1].end == scores.duration


def test_a_page_says_that_whole_pictures_are_seen_without_naming_a_flag(
    predictor: Predictor, files: list[Path]
) -> None:
    of_regions = replace(predictor, best=replace(predictor.best, regions=3))
    for remedy, words in (None, "--crop-box X Y W H shows one"), ("it", "give videos that show"):
        seen = SeenVideos(of_regions, whole=True, remedy=remedy)
        assert not any("regions" in line for line in seen.notes())  # of no video
        for path in files[:2]:
            seen.add(path.name, probe_file(path))
        [line] = [line for line in seen.notes() if "regions" in line]
        assert "3 training rows" in line and words in line


def test_a_folder_of_images_plays_as_the_training_was_told(
    predictor: Predictor, tmp_path: Path
) -> None:
    images, models = tmp_path / "images", tmp_path / "run" / "models"
    models.mkdir(parents=True)
    images.mkdir()
    for number in range(16):
        image = np.full((32, 32, 3), 15 * number, np.uint8)
        Image.fromarray(image).save(images / f"{number:02}.png")
    (models.parent / "config.yaml").write_text("data:\n  image_fps: 8.0\n")
    own = replace(predictor, best=replace(predictor.best, folder=models))
    library = slowfast_dist.Predictor(own)
    assert library.predict_segments(images)[-1].end == pytest.approx(2.0)
    expected = predict_video(own, images, probe_video(images, 8.0))
    assert library.predict(images).probability == expected.max()
    with pytest.raises(slowfast_dist.UserError, match="does not tell how many are shown"):
        slowfast_dist.Predictor(predictor).predict(images)


@pytest.mark.parametrize("predict_one", [predict_video, predict_segments])
def test_a_path_that_cannot_be_read_is_an_error_with_the_path_and_the_reason(
    predictor: Predictor, tmp_path: Path, predict_one: Any
) -> None:
    with pytest.raises(DecodeError) as error:
        predict_one(predictor, tmp_path / "nothing.mp4")
    assert error.value.path == tmp_path / "nothing.mp4"
    assert error.value.reason == "No such file or directory"


def test_what_is_no_video_costs_only_itself(
    predictor: Predictor, files: list[Path], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    os.symlink("loop.mp4", tmp_path / "loop.mp4")
    os.symlink("nothing", tmp_path / "dangling.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / os.fsdecode(b"\xffa\nb.mp4")).write_bytes(files[0].read_bytes())
    with pytest.raises(ValueError) as null:  # its words are others in Python 3.13
        os.stat("a\0b")
    reasons = {
        tmp_path / "pipe.mp4": "a named pipe, no file",
        tmp_path / "text.mp4": "text file, not a video",
        tmp_path / "loop.mp4": "Too many levels of symbolic links",
        tmp_path / "dangling.mp4": "No such file or directory",
        tmp_path / "folder.mp4": "a folder, no file",
        Path("/dev/zero"): "a device, no file",
        Path("a\0b"): str(null.value),
    }
    named = tmp_path / os.fsdecode(b"\xffa\nb.mp4")
    start = time.monotonic()
    given = [path for pair in zip(reasons, files, strict=False) for path in pair]
    found = predict(predictor, [*given, named], num_workers=1, batch_size=2)
    assert time.monotonic() - start < 60  # /dev/zero has no end
    assert {one.path: one.reason for one in found if one.reason} == reasons
    assert [one.path for one in found] == [*given, named]
    np.testing.assert_allclose(found[-1].probabilities, found[1].probabilities, atol=1e-6)
    assert probe_video(named) == found[-1].info
    for path, reason in reasons.items():
        if path.name != "text.mp4":  # for which a process would start
            with pytest.raises(DecodeError) as error:
                probe_video(path)
            assert (error.value.path, error.value.reason) == (path, reason)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the guard is for Linux alone")
@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_what_hangs_or_crashes_the_decoder_costs_only_itself(
    predictor: Predictor,
    files: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
) -> None:
    def read(path: Path, *others: Any) -> Any:
        if path.name == "hangs.mp4":
            time.sleep(60)
        if path.name == "crashes.mp4":
            os.kill(os.getpid(), signal.SIGSEGV)
        return read_views(path, *others)

    monkeypatch.setattr(guard, "read_views", read)
    monkeypatch.setattr(guard, "DECODE_SECONDS", 4.0)
    # Forked, so that what is patched here is so there.
    monkeypatch.setenv(START_METHOD, "fork")
    monkeypatch.setattr(guard, "threads", lambda: 1)
    for name in ("hangs.mp4", "crashes.mp4"):
        os.symlink(files[0], tmp_path / name)
    given = [tmp_path / "hangs.mp4", files[0], tmp_path / "crashes.mp4", *files[1:4]]
    found = predict(predictor, given, num_workers=workers, batch_size=2, temporal_views=3)
    assert [one.reason for one in found] == [
        "hangs the decoder: given up after 4 s", None,
        "crashes the decoder (signal SIGSEGV)", None, None, None,
    ]  # fmt: skip
    expected = stacked(predict(predictor, files[:4], temporal_views=3))
    read_well = [one for one in found if one.reason is None]
    np.testing.assert_allclose(stacked(read_well), expected, rtol=0, atol=1e-6)


def test_what_hangs_the_probe_is_given_up(
    predictor: Predictor, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probing process is stopped, as by a network drive that does not answer."""
    code = (
        "import os, signal\n"
        "from slowfast_dist.video.probe import probe_or_reason\n"
        "def answer(path):\n"
        "    if path.name == 'hangs.mp4': os.kill(os.getpid(), signal.SIGSTOP)\n"
        "    return probe_or_reason(path)\n"
    )
    monkeypatch.setattr(probe_all, "probe_or_reason", importable(tmp_path, monkeypatch, code))
    monkeypatch.setattr(probe_all, "TIME_LIMIT", 4.0)
    os.symlink(files[0], tmp_path / "hangs.mp4")
    found = predict(predictor, [files[0], tmp_path / "hangs.mp4", files[1]])
    assert [one.reason for one in found] == [None, "hangs the decoder: given up after 4 s", None]


def test_results_come_before_the_last_file_is_looked_at(
    predictor: Predictor, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a million inputs, the first is not kept waiting for the last."""
    monkeypatch.setattr(scoring, "FIRST_FILES", 2)
    taken: list[Path] = []

    def endless() -> Iterator[Input]:
        while True:
            for path in files:
                taken.append(path)
                yield Input(path)

    found = predict_videos(predictor, endless(), Predict(num_workers=1, batch_size=1))
    first = [next(found) for _ in range(3)]
    assert [one.path for one in first] == files[:3] and len(taken) == 2 + 8
    found.close()


@pytest.mark.slow
def test_closed_in_the_middle_it_leaves_no_process(
    predictor: Predictor, files: list[Path]
) -> None:
    prepare_workers(2)  # which starts the process that workers are forked from, and that stays
    before = set(psutil.Process().children(recursive=True))
    found = predict_videos(predictor, map(Input, files), Predict(num_workers=2, batch_size=1))
    next(found)
    during = set(psutil.Process().children(recursive=True)) - before
    assert len(during) >= 2
    found.close()
    psutil.wait_procs(during, timeout=60)
    assert not [process for process in during if process.is_running()]


@pytest.mark.parametrize("weight", [3e38, -3e38])
def test_what_is_not_a_number_is_no_prediction(
    weight: float, tmp_path: Path, files: list[Path]
) -> None:
    """Weights that are numbers, and too large: a logit of -inf would be a probability of 0."""
    broken = write_model(tmp_path / "models", CLASSES)
    state = torch.load(broken / "best_model_weights.pth")
    state["blocks.6.proj.weight"][0] = weight
    replace_weights(broken, state)
    predictor = open_predictor(broken, mixed_precision="no")
    [found] = predict(predictor, files[:1])
    assert found.probabilities is None and found.reason == NOT_A_NUMBER
    with pytest.raises(DecodeError, match=NOT_A_NUMBER):
        predict_segments(predictor, files[0])
