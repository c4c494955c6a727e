"""The demo's videos: only their motion tells the classes, and every reader reads them."""

import os
import subprocess
import sys
from itertools import islice, pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from slowfast_dist.config.errors import UserError
from slowfast_dist.data import synthetic
from slowfast_dist.data.listing.manifest import list_videos
from slowfast_dist.data.synthetic import MOTIONS, make_demo_videos, make_videos, moving_disc
from slowfast_dist.video.probe import probe_file


def decode(path: Path, count: int | None = None) -> NDArray[np.uint8]:
    """The first ``count`` frames, or all: (T, H, W, 3)."""
    with av.open(str(path)) as container:
        frames = islice(container.decode(video=0), count)
        return np.stack([frame.to_ndarray(format="rgb24") for frame in frames]).astype(np.uint8)


def logistic_accuracy(features: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Mean accuracy over 5 folds, with scikit-learn's own penalty; ``features`` (N, F).

    With an L2 penalty only inner products count: the same fit in N dimensions instead of F.
    """
    centred = features - features.mean(axis=0)
    scale, axes = np.linalg.eigh(centred @ centred.T)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    with threadpool_limits(1):  # problems this small lose most of their time between threads
        scores = cross_val_score(
            LogisticRegression(max_iter=1000), axes * np.sqrt(scale.clip(0)), labels, cv=folds
        )
    return float(scores.mean())


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "videos"
    assert make_demo_videos(root)
    return root


@pytest.mark.slow
def test_first_frames_do_not_tell_the_class(demo: Path) -> None:
    videos = list_videos(demo, "data.root").videos
    labels = np.array([video.label for video in videos])
    frames = np.stack([decode(video.path, 1)[0] for video in videos]) / 255
    chance = 1 / len(MOTIONS)
    accuracy = logistic_accuracy(frames.reshape(len(frames), -1), labels)
    assert abs(accuracy - chance) < 0.1
    brightness = np.stack([frames.mean(axis=(1, 2, 3)), frames.std(axis=(1, 2, 3))], axis=1)
    assert abs(logistic_accuracy(brightness, labels) - chance) < 0.1


def test_file_by_file_the_demo_is_alike(demo: Path) -> None:
    """As many clips a class; length, size and codec alike; read exactly by Decord."""
    listing = list_videos(demo, "data.root")
    assert listing.classes == tuple(MOTIONS)
    counts = np.bincount([video.label for video in listing.videos])
    assert set(counts) == {synthetic.DEMO_CLIPS_PER_CLASS}
    infos = {probe_file(video.path) for video in listing.videos[::30]}
    assert len(infos) == 1
    info = infos.pop()
    assert info.decord_exact and info.codec == "h264"
    assert (info.frames, info.width, info.height) == (
        synthetic.DEMO_FRAMES,
        synthetic.DEMO_SIZE,
        synthetic.DEMO_SIZE,
    )


def shift(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[int, int]:
    """Rows and columns by which ``after`` is ``before`` moved, both (H, W), round the edges."""
    spectrum = np.fft.fft2(after - after.mean()) * np.fft.fft2(before - before.mean()).conj()
    moved = np.unravel_index(np.fft.ifft2(spectrum).real.argmax(), before.shape)
    rows, columns = (
        (int(m) + n // 2) % n - n // 2 for m, n in zip(moved, before.shape, strict=True)
    )
    return rows, columns


@pytest.mark.parametrize("name", MOTIONS)
def test_it_moves_as_its_class_says(name: str) -> None:
    for seed in range(10):
        frames = moving_disc(MOTIONS[name], 72, 20, np.random.default_rng(seed))
        clip = np.stack([frame.mean(axis=2) for frame in frames])
        if name.startswith("turns"):
            # Centred on what changes, the angle grows clockwise down the rows of the polar picture.
            rows, columns = (centre(clip.std(axis=0).sum(axis=1 - axis)) for axis in (0, 1))
            clip = np.roll(clip, (36 - rows, 36 - columns), axis=(1, 2))
            clip = np.stack([cv2.warpPolar(f, (20, 360), (36, 36), 20, 0) for f in clip])
        moves = [shift(*pair) for pair in pairwise(clip)]
        assert {describe(name, *move) for move in moves} == {name}


def centre(weights: NDArray[np.float64]) -> int:
    """Index of the middle of a hump on a ring."""
    angles = 2 * np.pi * np.arange(len(weights)) / len(weights)
    return round(np.angle((weights * np.exp(1j * angles)).sum()) / (2 * np.pi) * len(weights))


def describe(name: str, rows: int, columns: int) -> str:
    if name.startswith("turns"):
        return {1: "turns clockwise", -1: "turns anticlockwise"}.get(int(np.sign(rows)), "still")
    ways = {(1, 0): "down", (-1, 0): "up", (0, 1): "right", (0, -1): "left"}
    return f"moves {ways.get((int(np.sign(rows)), int(np.sign(columns))), 'otherwise')}"


def test_the_seed_decides_the_pixels(tmp_path: Path) -> None:
    for folder, clips, seed in (("a", 1, 0), ("b", 2, 0), ("c", 1, 1)):
        make_videos(tmp_path / folder, clips, seed, size=32, frames=4, classes=("moves up",))
    a, b, c = (decode(tmp_path / f / "moves up" / "clip_000.mp4") for f in "abc")
    assert a.shape == (4, 32, 32, 3)
    assert np.array_equal(a, b) and not np.array_equal(a, c)
    assert not np.array_equal(b, decode(tmp_path / "b" / "moves up" / "clip_001.mp4"))


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").write_text("mine")
    assert not make_demo_videos(tmp_path / "mine")
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "note.txt"]


def test_processes_that_ask_at_once_get_one_complete_set(tmp_path: Path) -> None:
    root = tmp_path / "runs" / "demo"
    code = (
        "import sys; from pathlib import Path; from slowfast_dist.data import synthetic\n"
        "synthetic.DEMO_CLIPS_PER_CLASS = 3\n"
        "print(synthetic.make_demo_videos(Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, str(root)]
    environment = {**os.environ, "PYTHONPATH": str(Path(synthetic.__file__).parents[2])}
    children = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(3)
    ]
    made = [child.communicate()[0].strip() for child in children]
    assert [child.returncode for child in children] == [0, 0, 0]
    assert made.count("True") == 1
    assert len(list(root.rglob("*.mp4"))) == 3 * len(MOTIONS)
    assert [path.name for path in root.parent.iterdir()] == ["demo"]  # nothing temporary is left


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(BaseException):
        pass

    def interrupt(*arguments: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "write_video", interrupt)
        with pytest.raises(Interrupted):
            make_demo_videos(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--data.root .*file/demo") as caught:
        make_demo_videos(tmp_path / "file" / "demo")
    assert "\n" not in str(caught.value)
