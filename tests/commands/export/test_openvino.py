"""OpenVINO's two files belong together, stay float32, and int8 is verified before it is kept."""

import shutil
from pathlib import Path

import numpy as np
import openvino
import pytest

from slowfast_dist.commands.export.command import run_export
from slowfast_dist.commands.export.int8 import layers_in_float
from slowfast_dist.config.commands.export import Export
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.inference.backends.openvino_network import open_openvino, openvino_files
from slowfast_dist.inference.backends.openvino_runtime import openvino_core, read_model, read_tensor
from slowfast_dist.inference.exported import load_exported
from slowfast_dist.inference.predictor import open_predictor
from slowfast_dist.runs.best_model import read_best
from slowfast_dist.system.described_file import previous_of
from tests.commands.export.conftest import Done


@pytest.fixture
def models(run: Path, exports: dict[str, Done], tmp_path: Path) -> Path:
    shutil.copytree(run / "models", tmp_path / "models")
    return tmp_path / "models"


@pytest.mark.slow
def test_nothing_is_stored_or_computed_in_half(exports: dict[str, Done], run: Path) -> None:
    model = openvino_core().read_model(exports["openvino"].exported.path)
    outputs = [output for op in model.get_ops() for output in op.outputs()]
    kinds = {output.get_element_type().to_string() for output in outputs}
    assert "f32" in kinds and not kinds & {"f16", "bf16"}
    network = load_exported(read_best(run), "openvino")
    compiled = network.request.get_compiled_model()  # type: ignore[union-attr]
    assert compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped", "of another export"])
def test_a_bin_that_is_not_the_files_own_is_refused(models: Path, damage: str) -> None:
    path = models / "best_model.bin"
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[:-4])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content if damage == "flipped" else bytes(len(content)))
    with pytest.raises(UserError) as error:
        load_exported(read_best(models), "openvino")
    assert "best_model.bin beside it is missing, damaged, or of another export" in str(error.value)
    assert str(error.value).endswith("--format openvino' again") and "\n" not in str(error.value)


def test_after_a_kill_between_the_two_files_the_old_pair_is_there(
    models: Path, clips: np.ndarray
) -> None:
    path = models / "best_model.bin"
    expected = load_exported(read_best(models), "openvino")(clips)
    shutil.copy(path, previous_of(path))
    path.write_bytes(b"the new one, whose .xml never came")
    assert np.array_equal(load_exported(read_best(models), "openvino")(clips), expected)


def test_somebodys_bin_is_not_overwritten(models: Path, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"somebody's work")
    with pytest.raises(UserError, match="no file that export wrote"):
        run_export(models, Export(format="openvino", output=tmp_path / "a.xml"))
    assert (tmp_path / "a.bin").read_bytes() == b"somebody's work"


def test_int8_needs_the_runs_own_clips_and_its_own_format(models: Path) -> None:
    with pytest.raises(UserError, match="own validation clips, and there is no config.yaml"):
        run_export(models, Export(format="openvino", int8=True))
    with pytest.raises(UserError, match=r"^--int8: is for --format openvino, not onnx"):
        run_export(models, Export(format="onnx", int8=True))


@pytest.mark.slow
def test_int8_is_calibrated_verified_and_used(
    whole: Path, clips: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run_export(whole, Export(format="openvino", int8=True, tolerance=0.9))
    printed = capsys.readouterr().out
    assert "of int8 with eager float32 on 6 clips of the run's own validation videos" in printed
    assert "calibration error" in printed and "another class in" in printed
    in_float, layers = layers_in_float(done.path.read_bytes())
    assert (in_float, layers) == (1, 39)  # the linear layer
    assert f"{in_float} of {layers} layers stay" in printed and "uint8, RGB, 0 to 255; B is 1" in (
        printed
    )
    size = done.path.with_suffix(".bin").stat().st_size
    assert size < (whole / "models" / "best_model_weights.pth").stat().st_size / 2
    expected = open_predictor(whole, "torch", "no").probabilities(clips)
    found = open_predictor(whole, "openvino", "no").probabilities(clips)
    assert 0 < np.abs(found - expected).max() < 0.9
    before = done.path.read_bytes(), done.path.with_suffix(".bin").read_bytes()
    # As older versions wrote it: for a batch of any size, with which int8 may be wrong.
    network = open_openvino(done.path)
    model = read_model(before[0], read_tensor(done.path.with_suffix(".bin")))
    model.reshape({0: [-1, *tuple(model.input(0).partial_shape)[1:]]})
    older = done.path.with_name("older.xml")
    older.write_bytes((content := openvino_files(model, network.metadata))[0])
    older.with_suffix(".bin").write_bytes(content[1])
    assert open_openvino(older).at_once == network.at_once == 1
    np.testing.assert_array_equal(open_openvino(older)(clips), network(clips))
    with pytest.raises(RunError, match="not written, as it differs.*that was there is kept"):
        run_export(whole, Export(format="openvino", tolerance=1e-12))
    assert (done.path.read_bytes(), done.path.with_suffix(".bin").read_bytes()) == before
    left = {path.name for path in (whole / "models").iterdir()}
    assert not [name for name in left if name.startswith(".")]


@pytest.mark.slow
def test_layers_stay_in_float_until_it_holds(
    whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run_export(whole, Export(format="openvino", int8=True, tolerance=0.9))
    assert layers_in_float(done.path.read_bytes())[0] == 1
    moved = float(capsys.readouterr().out.partition("difference of probabilities ")[2][:5])
    done = run_export(whole, Export(format="openvino", int8=True, tolerance=moved / 2))
    assert 1 < layers_in_float(done.path.read_bytes())[0] < 39
    now = float(capsys.readouterr().out.partition("difference of probabilities ")[2][:5])
    assert now <= moved / 2
