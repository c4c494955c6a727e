"""``evaluate --backend openvino``: torch's scores, in less memory, and no worker that is a copy of
a process with OpenVINO's threads."""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from accelerate.state import AcceleratorState, GradientState

from slowfast_dist.commands.evaluate import command as module
from slowfast_dist.commands.evaluate import opening
from slowfast_dist.commands.evaluate.command import run_evaluation
from slowfast_dist.config.commands.evaluate import EvaluateCommand
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.model.slowfast import SlowFast
from slowfast_dist.runs.best_model import WEIGHTS, BestModel, read_best
from slowfast_dist.runs.predictions import read_predictions
from slowfast_dist.training.evaluation import Scores, evaluate
from tests.helpers.predictors import MOTIONS
from tests.helpers.small_model import write_model

pytest.importorskip("openvino", reason="openvino, of the extra 'cpu', is what these tests are of")


@pytest.fixture(autouse=True)
def own_accelerate(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Evaluations in this process start as in a new one."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("videos") / "all"
    make_videos(root, 2, seed=0, size=32, frames=16, classes=tuple(MOTIONS))
    return root


def has_openvino(process: psutil.Process) -> bool:
    """Whether its libraries are in the memory of a process."""
    return "libopenvino" in Path(f"/proc/{process.pid}/maps").read_text(errors="replace")


def test_torchs_scores_come_without_its_weights_and_workers_without_openvino(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = write_model(tmp_path / "models", MOTIONS)
    seen: dict[str, Any] = {}

    def watched(title: str, network: Any, *more: Any) -> Scores | None:
        scores = real(title, network, *more)  # the workers stay until the loader is ended
        children = psutil.Process().children(recursive=True)
        alive = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
        seen["children"] = [has_openvino(child) for child in alive] if LINUX else []
        seen["torch"] = isinstance(network, SlowFast)
        return scores

    real = evaluate
    monkeypatch.setattr(module, "evaluate", watched)
    found = {}
    for backend in ("torch", "openvino"):
        command = EvaluateCommand(
            videos, tmp_path / backend, "no", num_workers=1, backend=backend, batch_size=3
        )
        metrics = run_evaluation(models, command)
        assert metrics["backend"] == backend and metrics["videos"] == 2 * len(MOTIONS)
        found[backend] = read_predictions(tmp_path / backend / "predictions.csv")
        assert seen["torch"] == (backend == "torch")
    np.testing.assert_allclose(
        found["openvino"].probabilities, found["torch"].probabilities, rtol=0, atol=1e-5
    )
    if LINUX:
        assert has_openvino(psutil.Process()) and len(os.listdir("/proc/self/task")) > 1
        assert seen["children"] and not any(seen["children"])


LINUX = sys.platform == "linux"


@pytest.mark.parametrize("backend", ["auto", "openvino"])
@pytest.mark.parametrize("weights", ["gone", "another's"])
def test_weights_that_are_not_the_models_are_refused_though_their_graph_is_kept(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: Any, weights: str
) -> None:
    faster = {"difference": 0.0, "same": True, "ratio": 0.5}
    monkeypatch.setattr("slowfast_dist.inference.backends.choice.compare", lambda *_: faster)
    models = write_model(tmp_path / "models", MOTIONS)
    command = EvaluateCommand(
        videos, tmp_path / "out", "no", num_workers=0, backend=backend, temporal_views=10,
        spatial_crops=3,
    )  # fmt: skip
    first = run_evaluation(models, command)
    again = run_evaluation(models, replace(command, output=tmp_path / "again"))
    assert first["backend"] == again["backend"] == "openvino"
    path = models / WEIGHTS
    path.unlink()
    if weights != "gone":
        other = write_model(tmp_path / "other", MOTIONS, head=1.0)
        path.write_bytes((other / WEIGHTS).read_bytes())
    with pytest.raises(UserError, match="there is no such file|is not the file that"):
        run_evaluation(models, replace(command, output=tmp_path / "refused"))
    assert not (tmp_path / "refused").exists()


def test_a_training_that_writes_a_new_best_model_meanwhile_is_followed(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = write_model(tmp_path / "models", MOTIONS)
    find, found = opening._find, []

    def found_meanwhile(best: BestModel, command: EvaluateCommand) -> Any:
        found.append(best.weights_sha256)
        if len(found) == 1:  # videos are listed and probed, which may take minutes
            for _ in range(2):  # the weights before the last ones are kept
                write_model(models, MOTIONS, head=10.0 + len(found))
                found.append("")
        return find(best, command)

    monkeypatch.setattr(opening, "_find", found_meanwhile)
    command = EvaluateCommand(videos, tmp_path / "out", "no", num_workers=0)
    metrics = run_evaluation(models, command)
    assert metrics["backend"] == "torch" and len(found) == 4
    assert found[3] == read_best(models).weights_sha256 != found[0]
