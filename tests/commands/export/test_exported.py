"""``--backend onnx``, ``openvino``, ``pt2``: torch's probabilities, no other model's file."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import slowfast_dist
from slowfast_dist.commands.export.command import run_export
from slowfast_dist.commands.export.formats import FORMATS
from slowfast_dist.commands.export.parity import find_clips
from slowfast_dist.config.commands.export import Export
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.errors import UserError
from slowfast_dist.inference.exported import Backend, OnnxNetwork, load_exported
from slowfast_dist.inference.metadata import describe_export, export_path, weights_sha256
from slowfast_dist.inference.predictor import open_predictor
from slowfast_dist.runs.best_model import read_best
from tests.commands.export.conftest import Done, make_models
from tests.helpers.model_folders import replace_weights

BACKENDS: tuple[Backend, ...] = ("onnx", "openvino", "pt2")


@pytest.fixture
def models(run: Path, exports: dict[str, Done], tmp_path: Path) -> Path:
    """A copy of models/ with its exports, to be changed."""
    shutil.copytree(run / "models", tmp_path / "models")
    return tmp_path / "models"


def refused(models: Path, backend: Backend) -> str:
    with pytest.raises(UserError) as error:
        load_exported(read_best(models), backend)
    message = str(error.value)
    assert "\n" not in message and message.startswith(f"--backend {backend}: ")
    return message


@pytest.mark.parametrize("backend", BACKENDS)
def test_any_number_of_clips_gets_the_probabilities_of_torch(
    run: Path, exports: dict[str, Done], clips: np.ndarray, backend: Backend
) -> None:
    expected = open_predictor(run, mixed_precision="no").probabilities(clips)
    predictor = open_predictor(run, backend, mixed_precision="no")
    for part in (slice(0, 1), slice(0, 2), slice(1, 6)):
        found = predictor.probabilities(clips[part])
        assert found.shape == expected[part].shape
        np.testing.assert_allclose(found, expected[part], rtol=0, atol=1e-5)
    logits = predictor.network(clips[:1])
    assert logits.dtype == np.float32 and isinstance(logits, np.ndarray)


def test_real_clips_get_the_probabilities_of_torch(
    run: Path, exports: dict[str, Done], real_data: Path
) -> None:
    clips = find_clips(read_best(run), real_data / "ut_interaction").frames
    assert len(clips) == 6
    expected = open_predictor(run, mixed_precision="no").probabilities(clips)
    for backend in BACKENDS:
        found = open_predictor(run, backend, mixed_precision="no").probabilities(clips)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_slowfast_r50_on_real_clips(real_data: Path, tmp_path: Path) -> None:
    """As deep and long as it is, on smaller pictures; what `export` itself measures is looked at,
    too."""
    data = DataConfig(num_frames=32, sampling_rate=2, short_side=(128, 128), crop_size=112)
    some = tmp_path / "some"
    for name in ("kicking", "pointing"):
        (some / name).mkdir(parents=True)
        shutil.copy(min((real_data / "ut_interaction" / name).iterdir()), some / name)
    make_models(tmp_path / "models", "slowfast_r50", tuple("abcdef"), data, some)
    best = read_best(tmp_path / "models")
    clips = find_clips(best, some).frames
    assert clips.shape == (2, 32, 112, 112, 3)
    expected = open_predictor(tmp_path / "models", mixed_precision="no").probabilities(clips)
    assert expected.max() > 0.2 and np.ptp(expected, axis=0).max() > 1e-3
    for backend in BACKENDS:
        done = run_export(tmp_path, Export(format=backend, data=some / "kicking"))
        assert done.parity is not None and done.parity.clips == done.parity.same == 1
        assert max(done.parity.logits, done.parity.probabilities) <= 1e-4
        assert done.path.stat().st_size < 2**31
        found = open_predictor(tmp_path, backend, "no").probabilities(clips[:1])
        np.testing.assert_allclose(found, expected[:1], rtol=0, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gpu_gives_nearly_the_same(
    run: Path, exports: dict[str, Done], clips: np.ndarray, backend: Backend
) -> None:
    expected = open_predictor(run, mixed_precision="no").probabilities(clips)
    network = load_exported(read_best(run), backend)
    if backend == "pt2":
        assert network.device.type == "cuda"  # type: ignore[union-attr]
    found = network(clips)
    shifted = np.exp(found - found.max(axis=1, keepdims=True))
    np.testing.assert_allclose(
        shifted / shifted.sum(axis=1, keepdims=True), expected, rtol=0, atol=1e-2
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_that_are_not_finite_are_refused_with_every_backend(
    models: Path, backend: Backend
) -> None:
    """As a version that did not look would have exported them: onnxruntime's pooling and fused
    convolutions make numbers of them."""
    best, key = read_best(models), "blocks.0.multipathway_blocks.1.conv.weight"
    network = best.load()
    with torch.no_grad():
        network.state_dict()[key][0, 0] = torch.nan
    weights = models / "best_model_weights.pth"
    torch.save(network.state_dict(), weights)
    metadata = describe_export(best, weights_sha256(best), "uint8")
    content = FORMATS[backend].write(network, best, "uint8", metadata)
    file, beside = content if isinstance(content, tuple) else (content, b"")
    export_path(models, backend).write_bytes(file)
    export_path(models, backend).with_suffix(".bin").write_bytes(beside)
    for use in (
        lambda: open_predictor(models, backend),
        lambda: open_predictor(models, mixed_precision="no"),
        lambda: run_export(models, Export(format=backend)),
        lambda: slowfast_dist.load(models),
    ):
        with pytest.raises(UserError, match="is not finite") as error:
            use()
        assert str(error.value).startswith(f"RUN {weights}: {key} (")
    if backend != "onnx":  # they tell their weights also where they lie without the file
        weights.unlink()
        file_name = re.escape(export_path(models, backend).name)
        with pytest.raises(UserError, match=rf"{file_name}: .* not finite.*: run 'python -m"):
            open_predictor(models, backend)


def test_onnxruntime_has_the_threads_of_torch(exports: dict[str, Done]) -> None:
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            session = OnnxNetwork(exports["onnx"].exported.path).session
            assert session.get_session_options().intra_op_num_threads == threads
    finally:
        torch.set_num_threads(before)


def test_an_export_without_a_frame_rate_is_of_a_model_that_counts_frames(models: Path) -> None:
    """As older versions wrote it; and no model that goes by time takes it for its own."""
    path, description = models / "best_model.onnx", models / "best_model.json"
    model = onnx.load_model(path)
    kept = [(prop.key, prop.value) for prop in model.metadata_props if prop.key != "frame_rate"]
    assert len(kept) == len(model.metadata_props) - 1
    onnx.helper.set_model_props(model, dict(kept))
    onnx.save_model(model, path)
    load_exported(read_best(models), "onnx")
    content = json.loads(description.read_text())
    content["clip"]["frame_rate"] = 30.0
    description.write_text(json.dumps(content))
    assert "another model than the one beside it (frame_rate video)" in refused(models, "onnx")


# Files that must not be used


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_file_of_other_weights_is_refused(models: Path, backend: Backend) -> None:
    state = torch.load(models / "best_model_weights.pth", weights_only=True)
    state["blocks.6.proj.bias"] += 1e-3
    replace_weights(models, state)
    message = refused(models, backend)
    assert "other weights; the file's are of epoch 3, now it is 3" in message
    assert f"run 'python -m slowfast_dist export {models} --format {backend}' again" in message


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda content: content["classes"].reverse(), "(classes ["),
        (lambda content: content["clip"].update(crop_size=24), "(crop_size 32)"),
        (lambda content: content["clip"].update(sampling="uniform"), "(sampling dense)"),
        (lambda content: content.update(epoch=4), "(epoch 3)"),
    ],
)
def test_a_file_of_another_description_is_refused(
    models: Path, change: Callable[[dict[str, Any]], None], word: str
) -> None:
    path = models / "best_model.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    assert word in refused(models, "onnx")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_missing_or_damaged_file(models: Path, backend: Backend) -> None:
    path = export_path(models, backend)
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"no model", b""):
        path.write_bytes(damaged)
        assert f"{path} is damaged, or of a version" in refused(models, backend)
    path.unlink()
    message = refused(models, backend)
    assert message.endswith(f"export {models} --format {backend}' first")


def test_a_file_that_says_nothing_of_itself(models: Path) -> None:
    path = models / "best_model.onnx"
    model = onnx.load_model(path)
    del model.metadata_props[:]
    onnx.save_model(model, path)
    assert "(it has no metadata of an export)" in refused(models, "onnx")


def test_a_file_from_before_the_shape_of_pixels_goes_with_a_model_from_then(
    models: Path, clips: np.ndarray
) -> None:
    expected = load_exported(read_best(models), "onnx")(clips)
    path = models / "best_model.onnx"
    model = onnx.load_model(path)
    kept = [prop for prop in model.metadata_props if prop.key != "pixel_aspect"]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.save_model(model, path)
    assert "(pixel_aspect stored)" in refused(models, "onnx")
    description = json.loads((models / "best_model.json").read_text())
    del description["clip"]["pixel_aspect"]
    (models / "best_model.json").write_text(json.dumps(description))
    assert np.array_equal(load_exported(read_best(models), "onnx")(clips), expected)


def test_without_the_weights_the_description_decides(models: Path, clips: np.ndarray) -> None:
    expected = load_exported(read_best(models), "onnx")(clips)
    (models / "best_model_weights.pth").unlink()
    assert np.array_equal(load_exported(read_best(models), "onnx")(clips), expected)


def test_onnxruntime_is_missing(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert refused(models, "onnx").endswith("pip install '.[export]'")
    assert load_exported(read_best(models), "pt2")
