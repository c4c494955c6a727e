"""Where the names of a head's classes are known from, and what is said of clips and first loss."""

import json
from dataclasses import replace
from math import log
from pathlib import Path
from shutil import copytree

import pytest
import torch
from safetensors.torch import save_file

from slowfast_dist.commands.export.command import run_export
from slowfast_dist.config.commands.export import Export
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.config.model import ModelConfig
from slowfast_dist.model.slowfast import SlowFast, build_model
from slowfast_dist.runs.best_model import WEIGHTS, load_best
from slowfast_dist.runs.folder import RunFolder, Start
from slowfast_dist.runs.models.saving import save_best
from slowfast_dist.system.files import file_sha256, write_json
from slowfast_dist.training.start_weights import (
    find_weights,
    high_first_loss,
    other_clips,
    started_from,
)
from tests.helpers.small_model import CLIP, write_model

CLASSES = ("clap", "jump", "wave")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    write_model(folder / "models", CLASSES)
    return folder


@pytest.mark.parametrize("place", [".", "models", "models/best_model_weights.pth"])
def test_a_run_its_models_and_its_weights_tell_the_same(run: Path, place: str) -> None:
    known, clip = find_weights(run / place)
    assert known.path.samefile(run / "models" / "best_model_weights.pth")
    assert (known.classes, known.model) == (CLASSES, "slowfast_tiny")
    assert clip is not None and clip["num_frames"] == 8 and clip["crop_size"] == 32


def test_an_exported_file_tells_its_classes_wherever_it_lies(run: Path, tmp_path: Path) -> None:
    write_model(tmp_path, ("other", "classes", "here"))
    path = tmp_path / "w.safetensors"
    run_export(run, Export(format="safetensors", output=path))
    known, clip = find_weights(path)
    assert (known.classes, known.model) == (CLASSES, "slowfast_tiny")
    assert clip is not None and other_clips(clip, CLIP) == ""


def test_a_checkpoint_has_the_classes_of_its_run(run: Path) -> None:
    folder = run / "checkpoints" / "step_00000012"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    save_file(SlowFast("slowfast_tiny", 3, 0.0).state_dict(), folder / "model.safetensors")
    (run / "classes.json").write_text(json.dumps({"0": "a", "1": "b", "2": "c"}))
    assert find_weights(folder / "model.safetensors")[0].classes == ("a", "b", "c")


@pytest.mark.parametrize("text", ["", "{", '{"classes": [1, 2]}', '{"classes": ["a", "a"]}', "[]"])
def test_a_description_that_tells_no_names_is_none(tmp_path: Path, text: str) -> None:
    torch.save({"x": torch.ones(1)}, tmp_path / "hub.pyth")
    (tmp_path / "best_model.json").write_text(text)
    known, _ = find_weights(tmp_path / "hub.pyth")
    assert known.classes is None and known.model is None


def test_a_folder_without_a_best_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        find_weights(tmp_path)
    assert str(caught.value).startswith(
        f"--model.weights {tmp_path}: neither models/best_model.json"
    )


@pytest.mark.parametrize("place", [".", "models/best_model_weights.pth"])
def test_a_run_that_goes_on_training_is_read_once(run: Path, tmp_path: Path, place: str) -> None:
    """Weights, classes and checksum are of one epoch, whatever the run's files are later."""
    models = Path(copytree(run / "models", tmp_path / "first" / "models"))
    known, _ = find_weights(tmp_path / "first" / place)
    begun_from = file_sha256(models / WEIGHTS)
    best, network = load_best(models)
    expected = network.head.proj.weight.detach().clone()
    torch.nn.init.zeros_(network.head.proj.weight)
    facts = json.loads((models / "best_model.json").read_text())
    save_best(models, network.state_dict(), network, facts | {"epoch": 2})
    assert file_sha256(models / WEIGHTS) != begun_from == best.weights_sha256
    config = ModelConfig("slowfast_tiny", weights=tmp_path / "first")
    model, report = build_model(config, CLASSES, known)
    assert torch.equal(model.head.proj.weight, expected) and report.sha256 == begun_from
    begins = Start(RunFolder(tmp_path / "second"), None, False)
    assert started_from(config, begins, report.sha256) == {"started_from_sha256": begun_from}


def test_clips_that_differ_are_named_by_their_flags(run: Path) -> None:
    _, clip = find_weights(run)
    assert clip is not None
    here = replace(CLIP, num_frames=32, short_side=(64, 80), crop_size=64)
    assert other_clips(clip, here) == (
        "--data.num-frames 8 (here 32), --data.short-side 40 (here 64), "
        "--data.crop-size 32 (here 64)"
    )
    spread = replace(CLIP, sampling="uniform", sampling_rate=4)
    assert other_clips(clip, spread) == "--data.sampling dense (here uniform)"
    squeezed = replace(CLIP, resize="square")
    assert other_clips(clip, squeezed) == "--data.resize short-side (here square)"
    assert other_clips({}, DataConfig()) == "" and other_clips({"new": 1}, CLIP) == ""


def test_an_older_run_cut_its_clips_in_the_ways_that_it_does_not_name(run: Path) -> None:
    _, clip = find_weights(run)
    assert clip is not None
    old = {name: clip[name] for name in clip if name not in ("frame_rate", "pixel_aspect")}
    here = replace(CLIP, frame_rate=30.0, pixel_aspect="square")
    assert other_clips(old, here) == (
        "--data.frame-rate video (here 30.0), --data.pixel-aspect stored (here square)"
    )
    same = replace(CLIP, frame_rate="video", pixel_aspect="stored")
    assert other_clips(old, same) == ""
    # With these nothing depends on them.
    idle = {"sampling": "uniform", "resize": "square"}
    assert other_clips(old | idle, replace(here, sampling="uniform", resize="square")) == ""


@pytest.mark.parametrize("classes", [2, 6, 400])
@pytest.mark.parametrize("videos", [1, 4, 16, 64])
def test_a_new_head_starts_at_the_loss_of_guessing(classes: int, videos: int) -> None:
    """The highest that was seen of 16 videos is .7 above it; a few alone waver more."""
    waver = 0.7 * max(1.0, (16 / videos) ** 0.5)
    guess = log(classes)
    assert high_first_loss(guess + waver, guess, videos) is None
    assert high_first_loss(0.0, guess, videos) is None
    sure_and_wrong = high_first_loss(guess + 8, guess, videos)
    assert sure_and_wrong is not None
    assert f"that of guessing, {guess:.2f}: " in sure_and_wrong
    assert "--model.head new" in sure_and_wrong


def test_the_file_that_a_run_began_from_is_known_by_its_checksum(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "slowfast_dist")
    network, _ = build_model(ModelConfig("slowfast_tiny", pretrained=False), 2)
    file, folder = tmp_path / "tiny.pth", RunFolder(tmp_path / "run")
    torch.save(network.state_dict(), file)
    config, digest = ModelConfig("slowfast_tiny", weights=file), file_sha256(file)
    begins = Start(folder, None, False)
    goes_on = Start(folder, folder.checkpoints / "step_00000001", False)
    scratch = ModelConfig("slowfast_tiny", pretrained=False)
    assert started_from(scratch, begins) == started_from(config, goes_on) == {}
    assert started_from(config, begins) == {"started_from_sha256": digest}
    assert f"SHA-256 {digest}" in caplog.text and "other weights" not in caplog.text
    write_json(folder.root / "environment.json", {"started_from_sha256": digest})
    caplog.clear()
    for start in (begins, goes_on):
        assert started_from(config, start) == {"started_from_sha256": digest}
    assert "other weights" not in caplog.text
    file.write_bytes(file.read_bytes() + b"\0")
    assert started_from(config, goes_on) == {"started_from_sha256": digest}
    assert f"began from other weights, SHA-256 {digest}: the checkpoint's are used" in caplog.text
    caplog.clear()
    assert started_from(config, begins) == {"started_from_sha256": file_sha256(file)}
    assert f"began from other weights, SHA-256 {digest}" in caplog.text
    file.unlink()
    assert started_from(config, goes_on) == {"started_from_sha256": digest}
