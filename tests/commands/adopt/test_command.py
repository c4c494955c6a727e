"""A run made of foreign weights answers as the network that they were trained with."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import slowfast_dist
from slowfast_dist.commands.adopt import make_run
from slowfast_dist.commands.adopt.command import run_adopt
from slowfast_dist.config.commands.adopt import Adopt
from slowfast_dist.config.commands.evaluate import EvaluateCommand
from slowfast_dist.config.commands.export import Export
from slowfast_dist.config.commands.report import Report
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.model.description import network_defaults
from slowfast_dist.model.foreign import mmaction
from slowfast_dist.model.slowfast import SlowFast
from slowfast_dist.runs.best_model import read_best
from slowfast_dist.runs.settings import read_settings
from tests.helpers.foreign_weights import as_mmaction, as_pyslowfast, random_state
from tests.helpers.serving import Server

NETWORK = replace(
    network_defaults("slowfast_tiny"), slow_frames="stride", lateral_norm=False,
    lateral_activation=False, mean=mmaction.MEAN, std=mmaction.STD,
)  # fmt: skip
CONFIG = """
model = dict(backbone=dict(type='ResNet3dSlowFast', resample_rate=4, speed_ratio=4),
             data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]))
test_pipeline = [dict(type='SampleFrames', clip_len=8, frame_interval=1),
                 dict(type='Resize', scale=(-1, 32)), dict(type='CenterCrop', crop_size=32)]
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A checkpoint of MMAction2 with three classes, its configuration and their names beside it."""
    state = random_state(SlowFast(NETWORK, 3, 0.5).state_dict())
    saved = {"meta": {"cfg": CONFIG}, "state_dict": as_mmaction(state)}
    torch.save(saved, tmp_path / "epoch_9.pth")
    (tmp_path / "classes.txt").write_text("bounce\nslide\nspin\n")
    return tmp_path / "epoch_9.pth"


def adopted(source: Path, **more: Any) -> Path:
    output = source.parent / "run"
    run_adopt(source, Adopt(classes=source.parent / "classes.txt", output=output, **more))
    return output


def test_the_run_is_that_network_with_its_clips(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = read_best(adopted(source))
    network = best.load()
    assert network.description == NETWORK
    assert best.classes == ("bounce", "slide", "spin")
    data = best.data
    assert (data.num_frames, data.sampling_rate, data.frame_rate) == (8, 1, "video")
    assert (data.short_side, data.crop_size, data.short_videos) == ((32, 32), 32, "loop")
    expected = SlowFast(NETWORK, 3, 0.5).eval()
    expected.load_state_dict(random_state(expected.state_dict()))
    frames = torch.randint(0, 256, (2, 8, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(network(frames), expected(frames))
    printed = capsys.readouterr().out.splitlines()
    assert "weights of MMAction2: slowfast_tiny, alpha 4" in printed[0]
    assert printed[1].startswith("clips: num frames 8, sampling dense, sampling rate 1")
    assert "with 3 classes; 'evaluate " in printed[2]


def test_the_run_evaluates_exports_and_reports(source: Path, tmp_path: Path) -> None:
    from slowfast_dist.commands.evaluate.command import run_evaluation
    from slowfast_dist.commands.export.command import run_export
    from slowfast_dist.report.command import run_report

    run = adopted(source)
    make_videos(tmp_path / "videos", 2, seed=0, size=32, frames=10)
    videos = tmp_path / "videos"
    names = sorted(folder.name for folder in videos.iterdir() if folder.is_dir())
    for name, ours in zip(names, ("bounce", "slide", "spin"), strict=False):
        (videos / name).rename(videos / f"x{ours}")
    for folder in videos.iterdir():
        if folder.name.startswith("x"):
            folder.rename(videos / folder.name[1:])
        elif folder.is_dir():
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
    found = run_evaluation(run, EvaluateCommand(data=videos, num_workers=0, mixed_precision="no"))
    assert 0 <= found["accuracy"] <= 1
    run_export(run, Export(format="safetensors"))
    assert (run / "models" / "best_model.safetensors").is_file()
    run_report([run], Report())
    assert (run / "report.html").is_file()
    assert "epoch_9.pth" in (run / "models" / "README.md").read_text()


@pytest.mark.slow
def test_the_run_predicts_and_serves_the_same(source: Path, tmp_path: Path) -> None:
    run = adopted(source)
    make_videos(tmp_path / "videos", 1, seed=0, size=32, frames=6)  # shorter than a clip: it loops
    [video, *_] = sorted((tmp_path / "videos").rglob("*.mp4"))
    expected = slowfast_dist.load(run).predict(video).label
    server = Server(run, tmp_path / "server", "--mixed-precision", "no")
    try:
        status, answer = server.predict(video.read_bytes())
    finally:
        server.end(signal.SIGTERM)
    assert status == 200, answer
    assert expected in ("bounce", "slide", "spin")
    assert answer["top"][0]["class"] == expected, answer


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("names.json", '["bounce", "slide", "spin"]'),
        ("classes.json", '{"0": "bounce", "1": "slide", "2": "spin"}'),
        ("kinetics.json", '{"\\"bounce\\"": 0, "spin": 2, "slide": 1}'),
        ("best_model.json", '{"classes": ["bounce", "slide", "spin"]}'),
    ],
)
def test_names_of_classes_in_every_form(source: Path, name: str, text: str) -> None:
    (source.parent / name).write_text(text)
    run_adopt(source, Adopt(classes=source.parent / name, output=source.parent / "run"))
    assert read_best(source.parent / "run").classes == ("bounce", "slide", "spin")
    classes = json.loads((source.parent / "run" / "classes.json").read_text())
    assert classes == {"0": "bounce", "1": "slide", "2": "spin"}


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.txt", "bounce\nslide\n", "names 2 classes, and the head of"),
        ("a.txt", "bounce\nslide\nslide\n", "slide is there twice"),
        ("a.txt", "bounce\n\nslide\n", "a class without a name"),
        ("a.json", "[" * 40 + "]" * 40, "is no JSON"), ("a.json", "{", "is no JSON"),
        ("a.json", "[1, 2, 3]", "tells no names"),
        ("a.json", '{"a": 0, "b": 2, "c": 3}', "tells no names"),
    ],
)  # fmt: skip
def test_wrong_names_are_one_line_and_nothing_is_written(
    source: Path, name: str, text: str, why: str
) -> None:
    (source.parent / name).write_text(text)
    with pytest.raises(UserError, match=why):
        run_adopt(source, Adopt(classes=source.parent / name, output=source.parent / "run"))
    assert not (source.parent / "run").exists()


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.txt", "bounce\nslide\n\x1b[31mspin\n", r"'\\x1b\[31mspin' holds a control character"),
        ("a.json", '["bounce", "slide", "sp\\nin"]', r"'sp\\nin' holds a control character"),
        ("a.json", '["bounce", "slide", "\\udc80"]', r"'\\udc80' is not UTF-8"),
    ],
)
def test_names_that_a_training_refuses_are_refused(
    source: Path, name: str, text: str, why: str
) -> None:
    given = source.parent / name
    given.write_text(text)
    with pytest.raises(UserError, match=f"--classes: the class name {why}"):
        run_adopt(source, Adopt(classes=given, output=source.parent / "run"))
    saved = torch.load(source, weights_only=True)
    saved["meta"]["CLASSES"] = ["bounce", "slide", "spin\n"]
    torch.save(saved, source)
    with pytest.raises(UserError, match=r"the class name 'spin\\n' holds a control"):
        run_adopt(source, Adopt(output=source.parent / "run"))
    assert not (source.parent / "run").exists()
    adopted(source)  # whose names --classes replaces


@pytest.mark.parametrize("empty_folder", [False, True])
def test_what_fails_half_way_leaves_nothing(
    source: Path, empty_folder: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    run = source.parent / "run"
    if empty_folder:
        run.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(make_run, "write_card", interrupted)
        with pytest.raises(KeyboardInterrupt):
            adopted(source)
    assert run.exists() == empty_folder and (not empty_folder or not list(run.iterdir()))
    adopted(source)


def test_what_is_missing_is_said(source: Path) -> None:
    run = source.parent / "run"
    with pytest.raises(UserError, match="--output is missing"):
        run_adopt(source, Adopt())
    with pytest.raises(UserError, match="has 3 classes and does not tell their names"):
        run_adopt(source, Adopt(output=run))
    with pytest.raises(UserError, match="FILE is missing"):
        run_adopt(None, Adopt(output=run))
    with pytest.raises(UserError, match="is there already"):
        run_adopt(source, Adopt(output=source.parent))
    headless = torch.load(source, weights_only=True)
    del headless["state_dict"]["cls_head.fc_cls.bias"]
    torch.save(headless, source)
    with pytest.raises(UserError, match="has no head"):
        adopted(source)


def test_a_configuration_beside_it_tells_what_the_file_does_not(source: Path) -> None:
    state = random_state(SlowFast("slowfast_tiny", 3, 0.5).state_dict())
    torch.save({"model_state": as_pyslowfast(state)}, source)
    config = source.parent / "mine.yaml"
    config.write_text(
        "SLOWFAST: {ALPHA: 2}\n"
        "DATA: {NUM_FRAMES: 16, SAMPLING_RATE: 3, TARGET_FPS: 25, TEST_CROP_SIZE: 64}\n"
    )
    best = read_best(adopted(source, config=config))
    assert best.load().description == replace(network_defaults("slowfast_tiny"), alpha=2)
    assert (best.data.num_frames, best.data.frame_rate, best.data.crop_size) == (16, 25.0, 64)


@pytest.mark.parametrize(
    ("text", "flip"),
    [
        ("DATA: {RANDOM_FLIP: False}", False),
        ("DATA: {TARGET_FPS: 25}", True),
        (f"{CONFIG}\ntrain_pipeline = [dict(type='SampleFrames', clip_len=8)]", False),
        (f"{CONFIG}\ntrain_pipeline = [dict(type='Flip', flip_ratio=0)]", False),
        (f"{CONFIG}\ntrain_pipeline = [dict(type='Flip', flip_ratio=0.5)]", True),
        (CONFIG, True),  # it does not tell
    ],
)
def test_a_training_that_mirrored_no_clips_is_not_scored_mirrored(
    source: Path, text: str, flip: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    config = source.parent / ("mine.yaml" if text.startswith("DATA") else "mine.py")
    config.write_text(text)
    run = adopted(source, config=config)
    best = read_best(run)
    assert best.mirrored is flip
    assert read_settings(run / "config.yaml")["data.flip"] == str(flip).lower()
    said = "its training mirrored no clips (--data.flip false)"
    assert (said in capsys.readouterr().out) is not flip
    if not flip:
        with pytest.raises(UserError, match="--flip True: the model's training mirrored no clips"):
            best.views(None, None, flip=True)


def test_a_missing_file_is_said_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from slowfast_dist.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert end.code == 2 and 'torch' not in sys.modules"
    )
    for words in (["gone.pth", "--output", "run"], ["--config", "gone.yaml"]):
        done = subprocess.run(
            [sys.executable, "-c", code, "adopt", *words], cwd=tmp_path, capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
