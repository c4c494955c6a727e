"""The page of check-data --preview: the clips of a training, playing, in a real browser."""

import contextlib
import json
import re
from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from slowfast_dist.commands.check import preview
from slowfast_dist.commands.check.command import run_check
from slowfast_dist.config.augment import AugmentConfig
from slowfast_dist.config.checks import validate
from slowfast_dist.config.commands.dataset import CheckData
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.training import Config
from slowfast_dist.data.sampler import ClipKey
from slowfast_dist.data.samples.training import TrainingClips
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.data.videos.finding import find_videos
from slowfast_dist.training.best.facts import training_facts
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import read_frames
from tests.helpers.browser import new_context, wait_until
from tests.helpers.small_model import write_model

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TWO = ("moves left", "moves right")
COMMAND = CheckData(num_frames=8, sampling_rate=1, frame_rate="video", crop_size=64, num_workers=1)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("preview") / "clips"
    make_videos(root, 4, 0, size=96, frames=24, classes=TWO)
    return root


@pytest.fixture(scope="module")
def page(clips: Path) -> Path:
    path = clips.parent / "page.html"
    run_check(clips, replace(COMMAND, preview=path))
    return path


def videos_of(page: Path) -> list[bytes]:
    return [b64decode(text) for text in re.findall(r"video/mp4;base64,([^\"]+)", page.read_text())]


def check_clips(
    command: CheckData, root: Path, page: Path, numbers: tuple[int, ...], off: float = 6
) -> None:
    """The clips of these ``numbers`` of a page are as a training draws them, but for what coding
    them anew changes, ``off`` on average."""
    found = videos_of(page)
    assert len(found) == 2 * 6  # of 3 videos a class to train on, two clips each
    data = replace(preview.preview_config(command), root=root)
    assert data.crop_box == command.crop_box
    train = find_videos(data, 0).train
    reader = TrainingClips(train, data, seed=0, augment=command.augment)
    rows = np.flatnonzero(train.labels == 0)
    clip = page.parent / "clip.mp4"
    for number in numbers:
        clip.write_bytes(found[number])
        shown = read_frames(clip, np.arange(8), probe_file(clip), "auto", None)
        frames = reader[ClipKey(1 + number // 3, int(rows[number % 3]))].frames
        assert frames is not None
        drawn = frames.permute(0, 2, 3, 1).numpy()
        assert shown.shape == drawn.shape == (8, 64, 64, 3)
        assert np.abs(shown.astype(int) - drawn.astype(int)).mean() < off


def test_augmented_clips_are_those_of_a_training_and_told_by_what_they_are_called(
    clips: Path, tmp_path: Path
) -> None:
    augment = AugmentConfig(crop_scale=(0.3, 1.0), rand_augment=9.0, speed=(0.8, 1.25))
    pairs = ("moves left:moves right",)
    command = replace(
        COMMAND, augment=augment, flip_pairs=pairs, preview=tmp_path / "page.html"
    )
    run_check(clips, command)
    # Contrasts that an operation enlarges are coded worse.
    check_clips(command, clips, tmp_path / "page.html", (0, 1, 3, 5), off=12)
    with pytest.raises(AssertionError):
        check_clips(COMMAND, clips, tmp_path / "page.html", (0, 1, 3, 5), off=12)
    text = (tmp_path / "page.html").read_text()
    assert "varied by crop-scale 0.3 1, rand-augment 9, speed 0.8 1.25" in text
    assert ", mirrored: moves right" in text and ", mirrored: moves left" in text


def test_clips_of_a_run_are_varied_as_its_training(tmp_path: Path) -> None:
    augment = AugmentConfig(crop_scale=(0.4, 0.9), rand_augment=7.0, erasing=0.25, mixup=0.2)
    models = write_model(tmp_path, TWO)
    file = models / "best_model.json"
    content = json.loads(file.read_text())
    content["training"] = training_facts(Config(augment=augment), "local", {})
    file.write_text(json.dumps(content))
    assert preview.preview_augment(replace(COMMAND, run=models)) == replace(augment, mixup=0.0)
    content["training"]["rand_augment"] = 1e9
    file.write_text(json.dumps(content))
    assert preview.preview_augment(replace(COMMAND, run=models)) == AugmentConfig()


def test_mixtures_are_refused() -> None:
    with pytest.raises(UserError, match=r"^--augment.mixup 0.2: mixes clips of a batch"):
        validate(CheckData(augment=AugmentConfig(mixup=0.2)))


def test_the_clips_are_those_that_a_training_draws(clips: Path, page: Path) -> None:
    check_clips(COMMAND, clips, page, (0, 1, 3, 5))


def test_with_a_region_of_interest_they_show_that_alone(clips: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    command = replace(COMMAND, crop_box=(0.5, 0.0, 0.4, 0.4), preview=page)
    run_check(clips, command)
    check_clips(command, clips, page, (0,))


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_it_plays_in_a_browser_unless_less_motion_is_asked_for(
    page: Path, browser: "Browser", width: int, motion: str
) -> None:
    scheme = "dark" if width == 360 else "light"
    context = new_context(browser, width, color_scheme=scheme, reduced_motion=motion)
    complaints: list[str] = []
    asked: list[str] = []
    tab = context.new_page()
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(page.as_uri())
    first = "document.querySelector('video')"
    if motion == "no-preference":
        wait_until(tab, f"!{first}.paused && {first}.currentTime > 0")
        tab.click("#motion")
    else:
        wait_until(tab, f"{first}.readyState >= 2")
        assert tab.evaluate("[...document.querySelectorAll('video')].every((one) => one.paused)")
        tab.click("video")
        wait_until(tab, f"!{first}.paused")
        tab.click("video")
    wait_until(tab, f"{first}.paused")
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not complaints
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked)
    context.close()


def test_many_classes_get_smaller_clips_and_the_page_stays_small(
    clips: Path, page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    sizes = [preview._size(classes, preview.preview_config(CheckData()))
             for classes in (6, 30, 101, 400)]  # fmt: skip
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) > 2
    monkeypatch.setattr(preview, "CLIP_BYTES", 3 * len(max(videos_of(page))))
    monkeypatch.setattr(preview, "SIZES", ((2, 64),))
    run_check(clips, replace(COMMAND, preview=tmp_path / "small.html"))
    assert "(1 class is left out, for which it has no room)" in capsys.readouterr().out
    assert "1 class is left out" in (tmp_path / "small.html").read_text()


def test_no_other_file_is_replaced(clips: Path, tmp_path: Path) -> None:
    other = tmp_path / "mine.html"
    other.write_text("mine")
    with pytest.raises(UserError, match="--preview .*mine.html: holds something"):
        run_check(clips, replace(COMMAND, preview=other))
    assert other.read_text() == "mine"


def test_with_a_run_the_clips_are_those_of_its_training(clips: Path, tmp_path: Path) -> None:
    trained = DataConfig(
        num_frames=4, sampling_rate=2, frame_rate="video", resize="square", crop_size=32
    )
    models = write_model(tmp_path, TWO, data=trained)
    config = preview.preview_config(replace(COMMAND, run=models))
    assert config.num_frames == 4 and config.sampling_rate == 2
    assert (config.resize, config.crop_size) == ("square", 32)
    page = tmp_path / "page.html"
    run_check(clips, replace(COMMAND, preview=page, run=models))
    (tmp_path / "clip.mp4").write_bytes(videos_of(page)[0])
    info = probe_file(tmp_path / "clip.mp4")
    assert (info.frames, info.width, info.height) == (4, 32, 32)
    with pytest.raises(UserError, match="^--run .*: goes with --preview PAGE.html: add it"):
        run_check(clips, replace(COMMAND, run=models))
    with pytest.raises(UserError, match="none"):
        run_check(clips, replace(COMMAND, preview=tmp_path / "b.html", run=tmp_path / "none"))


def test_of_several_labels_each_clip_stands_under_its_own(clips: Path, tmp_path: Path) -> None:
    left, right = (sorted((clips / name).iterdir()) for name in TWO)
    rows = [(left[0], "z"), (left[1], "a|z"), (right[0], "z"), (right[1], "a|z")]
    table = tmp_path / "list.csv"
    table.write_text("path,labels\n" + "".join(f"{path},{label}\n" for path, label in rows))
    page = tmp_path / "page.html"
    with contextlib.suppress(SystemExit):  # so few videos are a finding
        run_check(table, replace(COMMAND, preview=page, val_fraction=0.5))
    text = page.read_text()
    parts = re.split(r"<h2[^>]*>", text)[1:]
    of = {name: part for name in ("a|z", "z") for part in parts if f">{name}<" in part[:80]}
    own = {name: {str(path) for path, label in rows if label == name} for name in of}
    assert set(of) == {"a|z", "z"}
    for name, part in of.items():
        other = own["z" if name == "a|z" else "a|z"]
        assert any(Path(path).name in part and Path(path).parent.name in part
                   for path in own[name])  # fmt: skip
        assert not any(f"{Path(path).parent.name}/{Path(path).name}" in part for path in other)


def test_a_class_that_has_no_room_and_clips_of_a_pixel(
    clips: Path, page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    room = sum(map(len, videos_of(page)[:6])) + 100  # of the first class
    monkeypatch.setattr(preview, "CLIP_BYTES", room)
    monkeypatch.setattr(preview, "FRAME_BYTES", 0.0)
    path = tmp_path / "page.html"
    run_check(clips, replace(COMMAND, preview=path))
    assert "6 clips of 1 class, as a training sees them (1 class is left out" in (
        "".join(capsys.readouterr())
    )
    assert "1 class is left out, for which it has no room." in path.read_text()
    path.unlink()
    run_check(clips, replace(COMMAND, preview=path, crop_size=1))
    (tmp_path / "clip.mp4").write_bytes(videos_of(path)[0])
    info = probe_file(tmp_path / "clip.mp4")
    assert (info.width, info.height, info.frames) == (2, 2, 8)
