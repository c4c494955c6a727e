"""``--backend auto``: OpenVINO where it is faster and right, said in one line, decided once."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from slowfast_dist.config.errors import UserError
from slowfast_dist.inference.backends import choice, kept_models
from slowfast_dist.inference.backends.choice import compare, made_clip
from slowfast_dist.inference.backends.openvino_network import OpenVinoNetwork, prepared_key
from slowfast_dist.inference.predictor import open_predictor
from slowfast_dist.runs.best_model import WEIGHTS, read_best
from slowfast_dist.system.cpus import has_bf16, has_cpus_alone
from tests.helpers.model_folders import replace_weights, save_models, small_config
from tests.helpers.training_runs import ROOT

if TYPE_CHECKING:  # it is an extra
    import openvino

CLIPS = np.random.default_rng(0).integers(0, 256, (3, 8, 32, 32, 3), np.uint8)
FASTER = {"difference": 1e-6, "same": True, "ratio": 0.5}

pytest.importorskip("openvino", reason="openvino, of the extra 'cpu', is what these tests are of")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests, as a model is prepared in seconds."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def answers(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where graphs are kept."""
    monkeypatch.setenv("SLOWFAST_DIST_CACHE", str(cache))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    return cache / "slowfast_dist" / "answers"


@pytest.fixture
def models(tmp_path: Path, answers: Path) -> Path:
    save_models(tmp_path / "models", ("a", "b", "c"), small_config(tmp_path))
    return tmp_path / "models"


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The lines about the backend since the last call."""
    caplog.set_level(logging.INFO, "slowfast_dist")

    def lines() -> list[str]:
        found = [one.getMessage() for one in caplog.records if one.name == "slowfast_dist"]
        caplog.clear()
        return [line for line in found if line.startswith("backend ")]

    return lines


def forget_facts(answers: Path) -> None:
    for path in answers.glob("*.json"):
        path.unlink()


def test_openvino_is_taken_where_it_is_faster_and_at_once_the_next_time(
    models: Path, answers: Path, said: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "compare", lambda *_: FASTER)
    expected = open_predictor(models, "torch", "no").probabilities(CLIPS)
    predictor = open_predictor(models, "auto", "no", clips=None)
    found = predictor.probabilities(CLIPS)
    assert said() == [
        "backend openvino: float32, 0.50 of torch's CPU time and the same answer on one clip"
    ]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    again = open_predictor(models, "auto", "no", clips=None)  # kept now: before a clip comes
    assert isinstance(again.network, OpenVinoNetwork) and len(said()) == 1
    assert np.array_equal(again.probabilities(CLIPS), found)
    few = open_predictor(models, "auto", "no", clips=3)  # for which it was not prepared
    assert np.array_equal(few.probabilities(CLIPS), found) and len(said()) == 1
    explicit = open_predictor(models, "openvino", "no")
    assert np.array_equal(explicit.probabilities(CLIPS), found) and not said()
    # A clip alone and several are the same to the last bit or nearly.
    one_by_one = np.concatenate([explicit.network(clip[None]) for clip in CLIPS])
    np.testing.assert_allclose(one_by_one, explicit.network(CLIPS), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("measured", "why"),
    [
        (FASTER | {"ratio": 1.25}, "openvino takes 1.25 of its time here"),
        (FASTER | {"difference": 0.01}, "openvino's answers differ (by 1.0e-02 of"),
        (FASTER | {"same": False}, "openvino's answers differ"),
        (FASTER | {"difference": float("nan")}, "openvino's answers differ"),
    ],
)
def test_torch_is_taken_where_openvino_is_slower_or_differs(
    models: Path, answers: Path, said: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch,
    measured: dict[str, object], why: str,
) -> None:  # fmt: skip
    forget_facts(answers)
    monkeypatch.setattr(choice, "compare", lambda *_: measured)
    expected = open_predictor(models, "torch", "no").probabilities(CLIPS)
    predictor = open_predictor(models, "auto", "no", clips=None)
    assert np.array_equal(predictor.probabilities(CLIPS), expected)
    (line,) = said()
    assert line.startswith(f"backend torch: {why}")
    # What was found is kept, and said again.
    monkeypatch.setattr(choice, "compare", lambda *_: pytest.fail("measured again"))
    predictor = open_predictor(models, "auto", "no", clips=None)
    assert np.array_equal(predictor.probabilities(CLIPS), expected) and said() == [line]


def test_nothing_is_prepared_for_a_few_clips(
    models: Path, said: Callable[[], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOWFAST_DIST_CACHE", str(tmp_path / "empty"))
    predictor = open_predictor(models, "auto", "no", clips=3)
    assert said() == []  # torch as ever
    expected = open_predictor(models, "torch", "no").probabilities(CLIPS)
    assert np.array_equal(predictor.probabilities(CLIPS), expected)
    assert not (tmp_path / "empty" / "slowfast_dist" / "answers").exists()


@pytest.mark.parametrize(
    "kept",
    ["slower", "another CPU", "no facts", "on a made clip", "a damaged graph", "OpenVINO fails"],
)
def test_a_few_clips_are_torchs_where_openvino_was_not_chosen(
    models: Path, answers: Path, said: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch,
    kept: str,
) -> None:  # fmt: skip
    forget_facts(answers)
    if kept == "slower":
        monkeypatch.setattr(choice, "compare", lambda *_: FASTER | {"ratio": 1.25})
    else:
        monkeypatch.setattr(choice, "compare", lambda *_: FASTER)
    ahead = kept == "on a made clip"
    open_predictor(models, "auto", "no", clips=None, ahead=ahead).probabilities(CLIPS)
    assert len(said()) == 1
    if kept == "no facts":
        forget_facts(answers)
    if kept == "another CPU":
        monkeypatch.setattr(kept_models, "machine_facts", lambda: {"cpu": "another"})
    if kept == "a damaged graph":
        (answers / f"{prepared_key(read_best(models))}.xml").write_bytes(b"<net>")
    if kept == "OpenVINO fails":

        def broken() -> None:
            raise ImportError("libopenvino.so: cannot open shared object file")

        monkeypatch.setattr(kept_models, "machine_facts", broken)
    monkeypatch.setattr(choice, "compare", lambda *_: pytest.fail("compared for a few clips"))
    monkeypatch.setattr(choice, "open_prepared", lambda *_: pytest.fail("prepared"))
    predictor = open_predictor(models, "auto", "no", clips=3)
    expected = open_predictor(models, "torch", "no").probabilities(CLIPS)
    assert np.array_equal(predictor.probabilities(CLIPS), expected) and not said()


def test_ahead_it_is_decided_on_a_made_clip_and_again_once_there_is_one(
    models: Path, answers: Path, said: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a server, which cannot let its first visitor wait."""
    forget_facts(answers)
    expected = open_predictor(models, "torch", "no").probabilities(CLIPS)
    # Which of two classes a clip of no meaning has does not count.
    monkeypatch.setattr(choice, "compare", lambda *_: FASTER | {"same": False})
    for _ in range(2):
        predictor = open_predictor(models, "auto", "no", clips=None, ahead=True)
        assert said() == [
            "backend openvino: float32, 0.50 of torch's CPU time and the same answer on a made clip"
        ]
        assert isinstance(predictor.network, OpenVinoNetwork)
        np.testing.assert_allclose(predictor.probabilities(CLIPS), expected, rtol=0, atol=1e-5)
        monkeypatch.setattr(choice, "compare", lambda *_: pytest.fail("measured again"))
    monkeypatch.setattr(choice, "compare", lambda *_: FASTER)
    predictor = open_predictor(models, "auto", "no", clips=None)
    assert not said()  # a clip of the user's own is awaited
    predictor.probabilities(CLIPS)
    (line,) = said()
    assert line.endswith("the same answer on one clip")
    monkeypatch.setattr(choice, "compare", lambda *_: pytest.fail("measured again"))
    open_predictor(models, "auto", "no", clips=None, ahead=True)  # which counts here, too
    assert said() == [line]


def test_ahead_torch_is_taken_where_a_made_clip_says_so(
    models: Path, answers: Path, said: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_facts(answers)
    monkeypatch.setattr(choice, "compare", lambda *_: FASTER | {"difference": choice.NOT_FINITE})
    predictor = open_predictor(models, "auto", "no", clips=None, ahead=True)
    (line,) = said()
    assert line.startswith("backend torch: openvino's answers differ")
    expected = open_predictor(models, "torch", "no").features(CLIPS)
    assert np.array_equal(predictor.features(CLIPS), expected)  # as torch alone has them


def test_a_made_clip_moves_and_is_always_the_same(tmp_path: Path) -> None:
    data = small_config(tmp_path).data
    clip = made_clip(data)
    assert clip.shape == (1, data.num_frames, data.crop_size, data.crop_size, 3)
    assert np.array_equal(clip, made_clip(data))
    assert np.array_equal(clip[0, 1:, :-1, :-1], clip[0, :-1, 1:, 1:])
    assert clip.std() > 50


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_a_few_clips_are_computed_at_a_time(models: Path, at_once: int) -> None:
    network = open_predictor(models, "openvino", "no").network
    assert isinstance(network, OpenVinoNetwork)
    expected, sizes = network(CLIPS), []
    network.at_once = at_once
    infer = network.request.infer  # type: ignore[union-attr]

    class Counting:
        def infer(self, inputs: dict[int, np.ndarray], share_inputs: bool) -> object:
            sizes.append(len(inputs[0]))
            return infer(inputs, share_inputs=share_inputs)

    network.request = Counting()
    np.testing.assert_allclose(network(CLIPS), expected, rtol=0, atol=1e-5)
    assert sum(sizes) == len(CLIPS) and max(sizes) == at_once


@pytest.mark.parametrize("library", ["openvino", "onnx", "onnxscript"])
def test_without_the_library_torch_computes_as_ever(
    models: Path, said: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    monkeypatch.setattr(
        "slowfast_dist.inference.backends.choice.find_spec",
        lambda name: None if name == library else find_spec(name),
    )
    predictor = open_predictor(models, "auto", "no", clips=None)
    assert said() == [f"backend torch: {library} is not installed: pip install '.[cpu]'"]
    expected = open_predictor(models, "torch", "no").probabilities(CLIPS)
    assert np.array_equal(predictor.probabilities(CLIPS), expected)


def test_other_weights_are_another_model_and_damaged_ones_are_refused(models: Path) -> None:
    before = open_predictor(models, "openvino", "no").network(CLIPS)
    key = prepared_key(read_best(models))
    state = torch.load(models / WEIGHTS, weights_only=True)
    state["blocks.6.proj.bias"] += 1
    replace_weights(models, state)
    assert prepared_key(read_best(models)) != key
    after = open_predictor(models, "openvino", "no").network(CLIPS)
    np.testing.assert_allclose(after, before + 1, rtol=0, atol=1e-5)
    (models / WEIGHTS).write_bytes(b"no weights")
    for backend in ("auto", "openvino"):
        with pytest.raises(UserError, match=WEIGHTS):
            open_predictor(models, backend, "no", clips=None)


WITHOUT_TORCH = """
import sys
from pathlib import Path
import numpy as np
from slowfast_dist.inference.predictor import open_predictor

network = open_predictor(Path(sys.argv[1]), sys.argv[4], sys.argv[3], clips=1).network
assert sys.argv[2] == "first" or "torch" not in sys.modules
print(network(np.full((1, 8, 32, 32, 3), 90, np.uint8)).tolist())
assert sys.argv[2] == "first" or "torch" not in sys.modules
"""


@pytest.mark.parametrize("precision", ["no", "auto"])
@pytest.mark.parametrize("backend", ["openvino", "auto"])
def test_a_kept_model_answers_without_torch(
    models: Path, monkeypatch: pytest.MonkeyPatch, precision: str, backend: str
) -> None:
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    if precision == "auto" and (os.environ.get("ACCELERATE_MIXED_PRECISION") or has_bf16() is None):
        pytest.skip("what auto means here, torch alone can tell")
    if backend == "auto":
        if not has_cpus_alone(os.environ):
            pytest.skip("which device torch would take, torch alone can tell")
        monkeypatch.setattr(choice, "compare", lambda *_: FASTER)
        open_predictor(models, "auto", precision, clips=None).probabilities(CLIPS)  # type: ignore[arg-type]
    command = [sys.executable, "-c", WITHOUT_TORCH, str(models)]
    # Accelerate leaves variables in this process.
    own = {name: value for name, value in os.environ.items() if name[:11] != "ACCELERATE_"}
    first, second = (
        subprocess.check_output([*command, which, precision, backend], text=True, env=own)
        for which in ("first", "second")
    )
    assert first == second


def test_weights_that_are_gone_are_missed_though_their_graph_is_kept(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "compare", lambda *_: FASTER)
    open_predictor(models, "auto", "no", clips=None).probabilities(CLIPS)
    (models / WEIGHTS).unlink()
    for backend in ("auto", "openvino"):
        with pytest.raises(UserError, match="there is no such file"):
            open_predictor(models, backend, "no", clips=None)


@pytest.mark.slow
def test_a_damaged_graph_counts_for_none(models: Path, answers: Path) -> None:
    """OpenVINO itself reads other weights from it and says nothing."""
    expected = open_predictor(models, "openvino", "no").network(CLIPS)
    for ending in kept_models.PARTS:
        path = answers / f"{prepared_key(read_best(models))}{ending}"
        content = path.read_bytes()
        half = len(content) // 2
        for damaged in (content[:half] + bytes(400) + content[half + 400 :], content[:half], b""):
            path.write_bytes(damaged)
            found = open_predictor(models, "openvino", "no").network(CLIPS)
            assert np.array_equal(found, expected)
            assert path.read_bytes() != damaged  # and was made anew


def test_a_graph_is_the_same_in_either_precision(models: Path, answers: Path) -> None:
    for precision in ("no", "bf16"):
        open_predictor(models, "openvino", precision).network(CLIPS)
    assert len(list(answers.glob(f"{prepared_key(read_best(models))}.bin"))) == 1


def small_graph() -> "openvino.Model":
    """Adds ten numbers."""
    import openvino
    from openvino import opset15

    given = opset15.parameter([10], np.float32)
    return openvino.Model([opset15.add(given, np.ones(10, np.float32))], [given])


def test_only_the_last_used_models_are_kept(
    answers: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLOWFAST_DIST_CACHE", str(tmp_path))
    folder = tmp_path / "slowfast_dist" / "answers"
    for number in range(4):
        kept_models.keep(f"{number}", small_graph())
        kept_models.write_facts(f"{number}", "no", {"number": number})
        for path in folder.glob(f"{number}*"):
            os.utime(path, (number, number))
    size = sum(path.stat().st_size for path in folder.iterdir()) / 4
    monkeypatch.setattr(kept_models, "MOST_BYTES", 2.5 * size)
    assert kept_models.read_kept("1") is not None  # used now
    assert kept_models.read_facts("1", "no") == {"number": 1}
    kept_models.keep("4", small_graph())
    kept = [kept_models.is_kept(f"{number}") for number in range(5)]
    assert kept == [False, True, False, False, True]
    assert kept_models.read_kept("0") is None and kept_models.read_kept("4") is not None
    assert kept_models.read_facts("0", "no") is None


@pytest.mark.skipif(sys.platform != "linux", reason="files are limited in size on Linux")
def test_a_full_disk_costs_the_next_start_alone(tmp_path: Path) -> None:
    """OpenVINO raises another error than Python's own functions where a file cannot grow."""
    code = (
        "import resource, signal, sys\n"
        "from slowfast_dist.inference.backends import kept_models\n"
        "from tests.inference.backends.test_choice import small_graph\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "model = small_graph()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))\n"
        "kept_models.keep('key', model)\n"
        "assert not kept_models.is_kept('key') and kept_models.read_kept('key') is None\n"
    )
    own = os.environ | {"SLOWFAST_DIST_CACHE": str(tmp_path), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=own, cwd=tmp_path)
    assert not list((tmp_path / "slowfast_dist" / "answers").glob("*/"))


def test_what_a_killed_process_left_is_removed_and_other_facts_are_forgotten(
    answers: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLOWFAST_DIST_CACHE", str(tmp_path))
    folder = tmp_path / "slowfast_dist" / "answers"
    for name in ("making-old", "making-now"):
        (folder / name).mkdir(parents=True)
        (folder / name / "0.bin").touch()
    os.utime(folder / "making-old", (0, 0))
    kept_models.write_facts("0", "no", {"ratio": 0.5})
    kept_models.keep("0", small_graph())
    assert [path.name for path in folder.iterdir() if path.is_dir()] == ["making-now"]
    assert kept_models.read_facts("0", "no") is None  # they were of a graph that is gone


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="root alone can be another user")
def test_a_cache_that_may_not_be_entered_counts_for_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLOWFAST_DIST_CACHE", str(tmp_path))
    kept_models.keep("0", small_graph())
    tmp_path.chmod(0o700)
    os.seteuid(65534)
    try:
        assert not kept_models.is_kept("0") and kept_models.read_kept("0") is None
    finally:
        os.seteuid(0)


def test_where_nothing_can_be_kept_nothing_is(
    answers: Path, models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = open_predictor(models, "openvino", "no").network(CLIPS)
    (tmp_path / "file").touch()
    monkeypatch.setenv("SLOWFAST_DIST_CACHE", str(tmp_path / "file"))
    assert np.array_equal(open_predictor(models, "openvino", "no").network(CLIPS), expected)
    assert not kept_models.is_kept(prepared_key(read_best(models)))


def test_what_is_compared() -> None:
    logits = np.array([[3.0, -1.0]], np.float32)
    same = compare(lambda _: logits, lambda _: logits + 0.3, CLIPS[:1])
    assert same["same"] and same["difference"] == pytest.approx(0.1) and same["ratio"] > 0
    assert not compare(lambda _: logits, lambda _: -logits, CLIPS[:1])["same"]
    broken = compare(lambda _: logits * np.nan, lambda _: logits, CLIPS[:1])
    assert not broken["same"]
