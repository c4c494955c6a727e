"""A run's folder with a small model, made without a training, and its exports, once for all."""

import contextlib
import io
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from torch import nn

from slowfast_dist.commands.export.command import Exported, run_export
from slowfast_dist.commands.export.parity import find_clips
from slowfast_dist.config.commands.export import Export
from slowfast_dist.config.data import DataConfig
from slowfast_dist.config.training import Config, EvaluationConfig
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.model.description import NetworkDescription
from slowfast_dist.model.slowfast import SlowFast
from slowfast_dist.runs.best_model import BestModel, read_best
from slowfast_dist.runs.folder import RunFolder
from slowfast_dist.runs.models.saving import describe_best
from slowfast_dist.system.files import write_json

CLASSES = ("moves left", "moves right", "turns clockwise")
SMALL = DataConfig(
    num_frames=8, sampling_rate=1, short_side=(36, 36), crop_size=32, resize="short-side"
)


def make_models(
    folder: Path, network_of: NetworkDescription | str, classes: tuple[str, ...],
    data: DataConfig, videos: Path,
) -> None:  # fmt: skip
    """Write a best model as a training does, which tells ``videos`` from each other.

    Its BatchNorms have statistics that matter: those of clips of ``videos``.
    """
    torch.manual_seed(0)
    network = SlowFast(network_of, len(classes), 0.0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.momentum = None  # the mean of what it sees
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    content = describe_best(network, classes, data, EvaluationConfig())
    best = BestModel(folder, classes, content["model"], data, EvaluationConfig(), 3)
    frames = torch.from_numpy(find_clips(best, videos).frames[:4]).permute(0, 1, 4, 2, 3)
    with torch.no_grad():
        network.train()(frames)
        logits = network.eval()(frames)
        scale, head = 1 / logits.std(dim=0).mean(), network.head.proj
        head.weight *= scale
        head.bias.copy_((head.bias - logits.mean(dim=0)) * scale)
    folder.mkdir(parents=True)
    torch.save(network.state_dict(), folder / "best_model_weights.pth")
    write_json(folder / "best_model.json", {**content, "epoch": 3})


@pytest.fixture(scope="session", autouse=True)
def without_torchs_trace() -> None:
    """pytest keeps all that is logged, and torch.export logs pages to this one."""
    logging.getLogger("torch.__trace").propagate = False


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("videos") / "all"
    make_videos(root, 3, seed=0, size=48, frames=16, classes=CLASSES)
    return root


@pytest.fixture(scope="session")
def run(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the export reads of a run's folder."""
    root = tmp_path_factory.mktemp("run") / "run"
    make_models(root / "models", "slowfast_tiny", CLASSES, SMALL, videos)
    config = replace(Config(), data=replace(SMALL, root=videos))
    RunFolder(root).describe(config, CLASSES, {})
    names = [(f"{name}/clip_{index:03}.mp4", name) for name in CLASSES for index in (0, 1)]
    rows = "".join(f"{path},{name},val,{path}\n" for path, name in names)
    (root / "split.csv").write_text(f"path,class,split,group\n{rows}")
    return root


@dataclass(frozen=True)
class Done:
    exported: Exported
    printed: str


@pytest.fixture(scope="session")
def exports(run: Path) -> dict[str, Done]:
    """Each format, written beside the best model of ``run``."""
    done = {}
    for format in ("onnx", "openvino", "pt2", "safetensors"):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exported = run_export(run, Export(format=format))
        done[format] = Done(exported, printed.getvalue())
    return done


@pytest.fixture(scope="session")
def clips(run: Path) -> np.ndarray:
    """uint8 (6, 8, 32, 32, 3) of the run's validation videos."""
    return find_clips(read_best(run), None).frames


@pytest.fixture(autouse=True)
def on_cpu(request: pytest.FixtureRequest) -> Iterator[None]:
    """Predictors in this process start as in a new one."""
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("gpu") is None:
            patch.setenv("ACCELERATE_USE_CPU", "true")
        yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture
def whole(run: Path, videos: Path, tmp_path: Path) -> Path:
    """The run with videos that it was trained on, without exports."""
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("best_model.[bopx]*"))
    rows = "".join(f"{n}/clip_002.mp4,{n},train,{n}/clip_002.mp4\n" for n in CLASSES)
    with open(tmp_path / "run" / "split.csv", "a") as file:
        file.write(rows)
    return tmp_path / "run"
