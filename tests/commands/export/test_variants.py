"""Exports of a network like MMAction2's: its normalisation and slow frames are inside."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from slowfast_dist.commands.export.command import run_export
from slowfast_dist.config.commands.export import Export
from slowfast_dist.config.errors import UserError
from slowfast_dist.inference.exported import Backend, load_exported, open_exported
from slowfast_dist.inference.metadata import InputType
from slowfast_dist.runs.best_model import read_best
from slowfast_dist.training.start_weights import find_weights
from tests.commands.export.conftest import CLASSES, SMALL, make_models
from tests.model.test_variants import OPEN_MMLAB


@pytest.fixture(scope="module")
def theirs(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("mmaction2") / "models"
    make_models(models, OPEN_MMLAB, CLASSES, replace(SMALL, short_videos="loop"), videos)
    return models


@pytest.mark.parametrize(("backend", "input_type"), [("onnx", "uint8"), ("pt2", "float32")])
def test_from_raw_frames_it_gives_the_logits_of_eager(
    theirs: Path, backend: Backend, input_type: InputType, tmp_path: Path
) -> None:
    path = tmp_path / f"model.{backend}"
    run_export(theirs, Export(format=backend, input_type=input_type, output=path))
    best = read_best(theirs)
    assert best.data.short_videos == "loop"
    network = best.load()
    assert network.description == OPEN_MMLAB
    clips = np.random.default_rng(0).integers(0, 256, (3, 8, 32, 32, 3), np.uint8)
    with torch.inference_mode():
        expected = network(torch.from_numpy(clips).permute(0, 1, 4, 2, 3)).numpy()
    exported = open_exported(path, backend)
    np.testing.assert_allclose(exported(clips), expected, rtol=0, atol=1e-4)
    metadata = exported.metadata
    normalisation = json.loads(metadata["normalisation"])
    assert normalisation["mean"] == list(OPEN_MMLAB.mean)
    assert normalisation["divide_by"] == (255.0 if input_type == "uint8" else 1.0)
    assert (metadata["slow_frames"], metadata["alpha"]) == ("stride", "4")
    assert (metadata["lateral_norm"], metadata["short_videos"]) == ("false", "loop")


def test_safetensors_tell_the_network_that_they_are_of(theirs: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    run_export(theirs, Export(format="safetensors", output=path))
    for place in (path, theirs, theirs / "best_model_weights.pth"):
        known, clip = find_weights(place)
        assert known.description == OPEN_MMLAB and known.classes == CLASSES
        assert clip is not None and clip["short_videos"] == "loop"


def test_a_file_of_other_slow_frames_is_no_export_of_the_model(
    theirs: Path, tmp_path: Path
) -> None:
    run_export(theirs, Export(format="onnx"))
    best = read_best(theirs)
    load_exported(best, "onnx")
    changed = replace(best, model=best.model | {"slow_frames": "linspace"})
    with pytest.raises(UserError, match="slow_frames stride"):
        load_exported(changed, "onnx")
