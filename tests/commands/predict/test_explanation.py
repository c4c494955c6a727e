"""``predict --explain``: the files, what JSON tells, and what is refused."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from slowfast_dist.cli.main import main
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.inference.drawing.explanation import Picture, slowed, write_clip
from tests.helpers.predictors import MOTIONS

pytestmark = pytest.mark.usefixtures("on_cpu")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    make_videos(folder, 1, seed=0, size=32, frames=15, classes=MOTIONS[:1])
    return folder / MOTIONS[0] / "clip_000.mp4"


def test_a_video_gets_a_clip_a_strip_and_a_curve(
    model: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = [model, video, "--explain", "--explain-pathways", "--json", "--output", out]
    main(["predict", *map(str, words), "--num-workers", "0", "--temporal-views", "2"])
    [told] = map(json.loads, capsys.readouterr().out.splitlines())
    assert told["files"] == [str(out / f"clip_000.explained.{kind}") for kind in ("mp4", "png")]
    explained = told["explanation"]
    assert explained["class"] == told["prediction"]
    assert explained["times"] == pytest.approx(np.arange(4, 12) / 15, abs=1e-4)  # the middle 8
    assert len(explained["when"]) == 8 and sum(explained["when"]) == pytest.approx(1, abs=1e-3)
    with av.open(told["files"][0]) as container:
        frames = list(container.decode(video=0))
        assert len(frames) == 8
        shown = float(container.duration or 0) / av.time_base
        assert shown == pytest.approx(8 * 8 / 15, abs=0.05)  # 8 times slower, to last 4 s
        tiles = 4  # as it was seen, both pathways, slow, fast
        assert frames[0].width == tiles * 256 + (tiles - 1) * 8
    with Image.open(told["files"][1]) as strip:
        assert strip.width == 8 * 264 + 8 and strip.height > 3 * 256
    assert 0 <= explained["strength"] <= 1
    # Again, another class: the same files, another map.
    main(["predict", *map(str, words), "--num-workers", "0", "--explain-class", MOTIONS[2]])
    [again] = map(json.loads, capsys.readouterr().out.splitlines())
    assert again["files"] == told["files"] and again["explanation"]["class"] == MOTIONS[2]
    assert len(list(out.iterdir())) == 3  # and the hidden one that says whose they are


def test_a_second_may_be_chosen(
    model: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [model, video, "--explain", "--json", "--output", tmp_path, "--num-workers", "0"]
    main(["predict", *map(str, words), "--explain-at", "0"])
    [first] = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["explanation"]["times"] == pytest.approx(np.arange(8) / 15, abs=1e-4)
    main(["predict", *map(str, words), "--explain-at", "7"])
    told = capsys.readouterr()
    assert "ends at 1.00 s, before --explain-at 7: its last clip" in told.err
    [last] = map(json.loads, told.out.splitlines())
    assert last["explanation"]["times"] == pytest.approx(np.arange(7, 15) / 15, abs=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--explain", "--explain-class", "nods"], "--explain-class nods: the model has no such"),
        (["--explain-class", "nods"], "--explain-class nods: goes with --explain"),
        (["--explain-pathways"], "--explain-pathways: goes with --explain"),
        (["--explain-at", "1"], "--explain-at 1.0: goes with --explain"),
        (["--explain", "--backend", "onnx"], "--backend onnx: gives no gradients"),
        (["--output", "x"], "--output x: goes with --segments, --annotate or --explain"),
    ],
)
def test_what_is_refused(
    words: list[str], message: str, model: Path, video: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["predict", str(model), str(video), *words])
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_colour_is_where_the_map_is() -> None:
    frames = np.full((2, 32, 32, 3), 100, np.uint8)
    values = np.zeros((2, 32, 32), np.float32)
    values[1, :8, :8] = 1
    picture = Picture(frames, np.array([0, 0.5]), {"a": values}, np.array([0.0, 1.0]), "title")
    [(title, drawn)] = picture.overlays()
    assert title == "a" and drawn.shape == (2, 256, 256, 3)
    assert (drawn[0] == 100).all() and (drawn[1, 128:, 128:] == 100).all()
    assert (np.abs(drawn[1, :32, :32].astype(int) - 100).max(axis=2) > 50).all()


def test_short_clips_are_slowed_down_and_long_ones_are_not() -> None:
    assert slowed(np.arange(16) / 16) == 4
    assert slowed(np.arange(64) / 8) == 1
    assert slowed(np.zeros(4)) > 1  # one frame that is repeated


@pytest.mark.parametrize(
    "times", [np.zeros(8), np.array([0, 1, 2, 2, 2, 2, 2, 2]) / 25, np.arange(8) % 3 / 25]
)
def test_clips_of_videos_that_are_too_short_play_each_frame(
    times: NDArray[np.float64], tmp_path: Path
) -> None:
    maps = {"a": np.zeros((8, 32, 32), np.float32)}
    frames = np.zeros((8, 32, 32, 3), np.uint8)
    write_clip(tmp_path / "a.mp4", Picture(frames, times, maps, np.full(8, 1 / 8), "title"))
    with av.open(str(tmp_path / "a.mp4")) as file:
        shown = [float(one.time) for one in file.decode(video=0)]
    assert len(shown) == 8 and np.ptp(np.diff(shown)) < 1e-3 and shown[-1] > 3
