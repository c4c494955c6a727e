"""``export``: three formats of a small model, used by programs that know nothing of this one."""

import contextlib
import json
import resource
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors import safe_open

from slowfast_dist.cli.main import main
from slowfast_dist.commands.export.command import Exported, run_export
from slowfast_dist.commands.export.parity import find_clips
from slowfast_dist.config.commands.export import Export
from slowfast_dist.config.errors import RunError, UserError
from slowfast_dist.inference.backends.openvino_runtime import openvino_core
from slowfast_dist.inference.predictor import open_predictor
from slowfast_dist.model.weights import read_state_dict
from slowfast_dist.runs.best_model import read_best
from slowfast_dist.system.interrupts import ends_at_ctrl_c
from tests.commands.export.conftest import CLASSES, Done
from tests.helpers.training_runs import ROOT, launch

GRAPHS = ("onnx", "openvino", "pt2")
FORMATS = (*GRAPHS, "safetensors")

FORBID = """
import sys
class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ImportError(name + " is not to be imported")
sys.meta_path.insert(0, Forbidden())
"""


def alone(code: str, *forbidden: str) -> str:
    """What a program prints that must not import these packages."""
    done = subprocess.run(
        [sys.executable, "-c", FORBID.format(names=set(forbidden)) + code],
        capture_output=True, text=True, timeout=500, cwd="/",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def export(run: Path, **settings: Any) -> Exported:
    return run_export(run, Export(**settings))


def mistake(run: Path, **settings: Any) -> str:
    with pytest.raises(UserError) as error:
        export(run, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def models(run: Path, tmp_path: Path) -> Path:
    """A copy of models/ alone, without exports."""
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("best_model.json", "best_model_weights.pth"):
        shutil.copy(run / "models" / name, folder)
    return folder


# What is written


@pytest.mark.parametrize("format", GRAPHS)
def test_parity_and_speed_are_measured_on_the_runs_validation_videos(
    exports: dict[str, Done], run: Path, format: str
) -> None:
    done, printed = exports[format].exported, exports[format].printed
    ending = {"openvino": "xml"}.get(format, format)
    assert done.path == run / "models" / f"best_model.{ending}" and done.path.is_file()
    assert done.parity is not None and done.speed is not None
    assert (done.parity.clips, done.parity.batch, done.parity.same) == (6, 3, 6)
    assert 0 <= done.parity.probabilities < 1e-5 and 0 < done.parity.logits < 1e-4
    assert done.speed.threads == torch.get_num_threads()
    assert min(done.speed.eager, done.speed.channels_last, done.speed.exported) > 0
    assert "6 clips of the run's own validation videos, one by one and 3 at once" in printed
    ratio = done.speed.exported / min(done.speed.eager, done.speed.channels_last)
    assert "the same class in 6 of 6" in printed and f"{ratio:.2f} of" in printed
    assert "video (B, 3, 8, 32, 32) uint8, RGB, 0 to 255; any B" in printed


def metadata_of(path: Path) -> dict[str, str]:
    """As each format's own library reads it."""
    if path.suffix == ".onnx":
        return {prop.key: prop.value for prop in onnx.load_model(path).metadata_props}
    if path.suffix == ".safetensors":
        with safe_open(path, framework="np") as file:
            return file.metadata()
    if path.suffix == ".xml":
        about = openvino_core().read_model(path).get_rt_info(["slowfast_dist", "metadata"])
        return json.loads(about.astype(str))
    with zipfile.ZipFile(path) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/metadata.json")]
        found = json.loads(archive.read(name))
    return {key: v if isinstance(v, str) else json.dumps(v) for key, v in found.items()}


@pytest.mark.parametrize("format", FORMATS)
def test_the_file_says_how_to_feed_it(exports: dict[str, Done], run: Path, format: str) -> None:
    found = metadata_of(exports[format].exported.path)
    best = json.loads((run / "models" / "best_model.json").read_text())
    assert json.loads(found["classes"]) == best["classes"]
    for name in ("num_frames", "sampling_rate", "short_side", "crop_size"):
        assert int(found[name]) == best["clip"][name]
    assert (found["sampling"], found["resize"]) == ("dense", "short-side")
    assert found["pixel_aspect"] == "square"
    assert found["frame_rate"] == "video" == best["clip"]["frame_rate"]
    assert json.loads(found["normalisation"]) == best["model"]["normalisation"]
    assert (found["model"], found["epoch"], found["input_type"]) == ("slowfast_tiny", "3", "uint8")
    sha = subprocess.run(
        ["sha256sum", run / "models" / "best_model_weights.pth"], capture_output=True, text=True
    )
    assert found["weights_sha256"] == sha.stdout.split()[0]
    path = exports[format].exported.path
    content = b"".join(one.read_bytes() for one in (path, path.with_suffix(".bin")) if one.exists())
    assert str(ROOT).encode() not in content and b"site-packages" not in content


def test_the_onnx_file_is_for_many_engines(exports: dict[str, Done]) -> None:
    model = onnx.load_model(exports["onnx"].exported.path)
    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    (given,), (out,) = model.graph.input, model.graph.output
    assert (given.name, out.name) == ("video", "logits")
    shape = [dim.dim_param or dim.dim_value for dim in given.type.tensor_type.shape.dim]
    assert shape == ["batch", 3, 8, 32, 32]
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}


SLOW_PT2 = ("onnx", "openvino", pytest.param("pt2", marks=pytest.mark.slow))
"""torch.export is tested in any case: this only spares torch's start."""


@pytest.mark.parametrize("format", SLOW_PT2)
def test_the_printed_lines_use_the_file_without_this_package(
    exports: dict[str, Done], run: Path, clips: np.ndarray, tmp_path: Path, format: str
) -> None:
    lines = exports[format].printed.partition("without slowfast_dist:\n\n")[2]
    np.save(tmp_path / "video.npy", np.ascontiguousarray(clips.transpose(0, 4, 1, 2, 3)))
    code = f"import numpy\nvideo = numpy.load({str(tmp_path / 'video.npy')!r})\n"
    forbidden = ["slowfast_dist", "pytorchvideo", "torchvision"]
    if format == "pt2":
        code += "import torch\nvideo = torch.from_numpy(video)\n"
    else:
        forbidden += ["torch", "onnx"]
    printed = alone(code + lines, *forbidden)
    expected = open_predictor(run, mixed_precision="no").probabilities(clips).argmax(1)
    assert printed == f"{[CLASSES[index] for index in expected]}\n"
    assert len(set(expected)) > 1


READER = """
import json, av, cv2, numpy as np, onnxruntime
session = onnxruntime.InferenceSession({model!r})
about = session.get_modelmeta().custom_metadata_map
count, rate, side = (int(about[key]) for key in ("num_frames", "sampling_rate", "crop_size"))
for path in {paths!r}:
    with av.open(path) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert about["sampling"] == "dense" and about["resize"] == "short-side"
    start = (len(frames) - 1 - (count - 1) * rate + 1) // 2
    clip = np.stack(frames[start : start + count * rate : rate])
    height, width = clip.shape[1:3]
    part = round(side * min(height, width) / int(about["short_side"]))
    top, left = (height - part + 1) // 2, (width - part + 1) // 2
    cut = clip[:, top : top + part, left : left + part]
    pixels = np.stack([cv2.resize(frame, (side, side)) for frame in cut])
    (logits,) = session.run(None, {{"video": pixels.transpose(3, 0, 1, 2)[None]}})
    p = np.exp(logits[0] - logits[0].max())
    print(json.dumps([json.loads(about["classes"])[p.argmax()], (p / p.sum()).tolist()]))
"""


def test_a_reader_that_knows_only_the_metadata_gets_the_same_class(
    exports: dict[str, Done], run: Path, videos: Path
) -> None:
    """Frames by plain PyAV, which has its own conversion to RGB: some grey levels apart."""
    names = [f"{name}/clip_{index:03}.mp4" for name in CLASSES for index in (0, 1)]
    paths = [str(videos / name) for name in names]
    code = READER.format(model=str(exports["onnx"].exported.path), paths=paths)
    printed = alone(code, "slowfast_dist", "torch", "pytorchvideo", "onnx")
    found = [json.loads(line) for line in printed.splitlines()]
    predictor = open_predictor(run, mixed_precision="no")
    expected = predictor.probabilities(find_clips(predictor.best, None).frames)
    assert [name for name, _ in found] == [CLASSES[index] for index in expected.argmax(1)]
    np.testing.assert_allclose([row for _, row in found], expected, rtol=0, atol=0.02)


def test_safetensors_hold_the_same_bits(exports: dict[str, Done], run: Path) -> None:
    assert "equal bit for bit" in exports["safetensors"].printed
    own = torch.load(run / "models" / "best_model_weights.pth", weights_only=True)
    found = read_state_dict(exports["safetensors"].exported.path)
    assert found.keys() == own.keys() and all(torch.equal(found[k], own[k]) for k in own)
    lines = exports["safetensors"].printed.partition("without slowfast_dist:\n\n")[2]
    assert alone(lines, "slowfast_dist", "torch").split()[-1] == str(len(own))


# Which clips it is checked on


@pytest.fixture
def data(videos: Path, tmp_path: Path) -> Path:
    """A folder with one video in it, deep down, and other things."""
    folder = tmp_path / "data"
    (folder / "deep").mkdir(parents=True)
    shutil.copy(videos / CLASSES[0] / "clip_002.mp4", folder / "deep" / "a.mp4")
    (folder / "broken.mp4").write_bytes(b"no video")
    (folder / "notes.txt").write_bytes(b"no video either")
    return folder


def test_what_is_no_video_is_passed_over(models: Path, data: Path, videos: Path) -> None:
    found = find_clips(read_best(models), data)
    assert found.source == f"of {data}" and found.frames.shape == (1, 8, 32, 32, 3)
    one = find_clips(read_best(models), videos / CLASSES[0] / "clip_002.mp4")
    assert np.array_equal(one.frames, found.frames)
    assert len(find_clips(read_best(models), videos).frames) == 6


@pytest.mark.slow
def test_an_export_for_float32_on_given_videos(
    models: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = export(models, format="pt2", data=data, input_type="float32")
    assert done.parity is not None and done.parity.clips == 1 and done.parity.logits < 1e-4
    printed = capsys.readouterr().out
    assert f"on 1 clip of {data}: " in printed and "float32, RGB, 0 to 1" in printed
    clip = np.random.default_rng(1).integers(0, 256, (2, 8, 32, 32, 3), np.uint8)
    one, other = (
        open_predictor(models, backend, "no").probabilities(clip)
        for backend in ("torch", "pt2")
    )
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


def test_random_pixels_are_said_to_be_such(
    models: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = find_clips(read_best(models), None).source
    assert "random pixels (there is no config.yaml beside models/" in source
    (tmp_path / "config.yaml").write_text(f"data:\n  root: {tmp_path / 'gone'}\n  val_dir: null\n")
    (tmp_path / "split.csv").write_text("path,class,split,group\na/b.mp4,a,val,a/b.mp4\n")
    source = find_clips(read_best(models), None).source
    assert f"validation videos are not at {tmp_path / 'gone'} any more" in source
    (tmp_path / "config.yaml").write_text("data: [")
    assert "do not tell" in find_clips(read_best(models), None).source


# What goes wrong


@pytest.mark.parametrize("format", ("pt2", pytest.param("onnx", marks=pytest.mark.slow)))
def test_what_is_too_far_from_the_original_is_not_kept(
    exports: dict[str, Done], run: Path, tmp_path: Path, format: str
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    output = folder / f"good.{format}"
    shutil.copy(exports[format].exported.path, output)
    before = output.read_bytes()
    with pytest.raises(RunError) as error:
        export(run, format=format, output=output, tolerance=1e-12)
    assert str(error.value).startswith(f"{output}: not written, as it differs")
    assert "than --tolerance 1e-12; the one that was there is kept" in str(error.value)
    assert output.read_bytes() == before and list(folder.iterdir()) == [output]


@contextlib.contextmanager
def largest_file(size: int) -> Any:
    """A write beyond ``size`` bytes fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.safetensors"
    export(run, format="safetensors", output=output)
    before = output.read_bytes()
    with largest_file(100_000), pytest.raises(RunError) as error:
        export(run, format="safetensors", output=output)
    assert str(error.value) == f"cannot write {output}: File too large"
    assert output.read_bytes() == before and list(tmp_path.iterdir()) == [output]


def test_mistakes_of_place(run: Path, models: Path, tmp_path: Path) -> None:
    assert "there is no such folder" in mistake(tmp_path / "nowhere")
    nowhere = tmp_path / "no" / "a.onnx"
    assert mistake(run, output=nowhere).startswith(f"--output {nowhere}: there is no folder")
    assert f"as {models / 'best_model.pt2'}" in mistake(run, format="pt2", output=models)
    assert "ends in .pt2" in mistake(run, format="pt2", output=tmp_path / "a.onnx")
    other = tmp_path / "a.safetensors"
    other.write_bytes(b"somebody's work")
    assert "is there already" in mistake(run, format="safetensors", output=other)
    assert other.read_bytes() == b"somebody's work"
    usual = models / "best_model.safetensors"  # where it goes unless it is told otherwise
    usual.write_bytes(b"somebody's work")
    assert "is there already" in mistake(models, format="safetensors")
    assert usual.read_bytes() == b"somebody's work"


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="no folder that nobody can write into")
def test_a_folder_that_cannot_be_written(run: Path) -> None:
    output = Path("/sys/kernel/a.safetensors")
    message = mistake(run, format="safetensors", output=output)
    assert message.startswith(f"--output {output}: cannot be written (")


def test_mistakes_of_data(models: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert "there is no such file or folder" in mistake(models, data=data)
    data.mkdir()
    assert "holds no video" in mistake(models, data=data)
    (data / "a.mp4").write_bytes(b"no video")
    message = mistake(models, data=data)
    assert "can be read" in message and str(data / "a.mp4") in message
    assert "leave it out" in mistake(models, format="safetensors", data=data)
    assert "leave it out" in mistake(models, format="safetensors", input_type="float32")
    assert not list(models.glob("*.onnx"))


@pytest.mark.parametrize("library", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_library_is_named(
    models: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    message = mistake(models)
    assert f"needs {library}," in message and "pip install '.[export]'" in message


def test_a_wrong_format_is_one_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["export", str(run), "--format", "onxx"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: --format onxx: give onnx, pt2")


def test_ctrl_c_is_no_fault_of_the_library() -> None:
    usual = signal.default_int_handler
    before = signal.signal(signal.SIGINT, usual)  # a training in this process may have left its own
    try:
        with pytest.raises(KeyboardInterrupt), ends_at_ctrl_c():
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                raise RuntimeError("made of it, as torch.export does") from None
        with pytest.raises(RuntimeError), ends_at_ctrl_c():
            raise RuntimeError("its own")
        assert signal.getsignal(signal.SIGINT) is usual
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_the_command_prints_its_own_lines_alone(run: Path, tmp_path: Path) -> None:
    """And not those of torch's exporter to ONNX, which is the one that tells much."""
    output = tmp_path / "a.onnx"
    words = ("export", run, "--format", "onnx", "--output", output)
    done = launch("-m", "slowfast_dist", *words, fork=False)
    assert done.returncode == 0 and done.stderr == ""
    about, use = done.stdout.split("\n\nTo use it without slowfast_dist:\n\n")
    first, size, *facts = about.splitlines()
    assert first == "slowfast_tiny of epoch 3 to onnx ..."
    assert size.startswith(f"{output}: ")
    assert facts and all(line.startswith("  ") for line in facts)
    assert len(use.splitlines()) == 5
