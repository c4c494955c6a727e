"""``predict kinetics400:slowfast_r50``: published weights as a run's folder, without a training."""

import json
import os
from pathlib import Path

import pytest
import torch

import slowfast_dist
from slowfast_dist.cli.main import main
from slowfast_dist.config.errors import UserError
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.inference.published import named, run_folder
from slowfast_dist.model.description import network_defaults
from slowfast_dist.model.slowfast import SlowFast
from slowfast_dist.runs.best_model import read_best

NAMES = [f"class {number:03}" for number in range(400)]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch.hub's, with the names of the classes and without weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    numbers = {name: number for number, name in enumerate(NAMES)}
    (folder / "kinetics400_classnames.json").write_text(json.dumps(numbers))
    return folder


def test_a_path_stays_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (Path("runs/demo"), tmp_path, Path("c:run"), Path("kinetics400")):
        assert run_folder(path) == path
    assert named(Path("ssv2:slowfast_r50")) == ("ssv2", "slowfast_r50")
    (tmp_path / "ssv2:slowfast_r50").mkdir()
    assert run_folder(Path("ssv2:slowfast_r50")) == Path("ssv2:slowfast_r50")


def test_a_name_that_was_not_published(cache: Path) -> None:
    with pytest.raises(UserError, match="RUN charades:slowfast_r101: .*: give charades:slowfast_r"):
        run_folder(Path("charades:slowfast_r101"))


def test_the_folder_says_how_the_network_was_fed(cache: Path) -> None:
    """The weights are looked at when they are loaded, not before."""
    (cache / "SLOWFAST_4x16_R50.pyth").write_bytes(b"weights")
    for _ in range(2):
        best = read_best(run_folder(Path("kinetics400:slowfast_r50_4x16")))
    assert best.classes == tuple(NAMES)
    assert best.model["alpha"] == 8 and best.model["fusion_kernel"] == 5
    data = best.data
    assert (data.num_frames, data.sampling_rate, data.frame_rate) == (32, 2, 30.0)
    assert (data.short_side, data.crop_size, data.sampling) == ((256, 256), 256, "dense")
    weights = best.folder / "best_model_weights.pth"
    assert weights.samefile(cache / "SLOWFAST_4x16_R50.pyth")
    (cache / "new").write_bytes(b"downloaded again")
    os.replace(cache / "new", cache / "SLOWFAST_4x16_R50.pyth")
    run_folder(Path("kinetics400:slowfast_r50_4x16"))
    assert weights.read_bytes() == b"downloaded again"
    assert network_defaults("slowfast_r50_4x16").alpha == best.model["alpha"]


@pytest.mark.slow
def test_predict_without_a_training(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    network = SlowFast("slowfast_r50", 400, 0.5)
    with torch.no_grad():
        network.head.proj.bias[123] += 20
    torch.save({"model_state": network.state_dict()}, cache / "SLOWFAST_8x8_R50.pyth")
    make_videos(tmp_path / "videos", 1, seed=0, size=32, frames=16, classes=("moves up",))
    (video,) = (tmp_path / "videos").rglob("*.mp4")
    main(["predict", "kinetics400:slowfast_r50", str(video), "--json", "--num-workers", "0"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "class 123" in json.dumps(found)
    assert slowfast_dist.load("kinetics400:slowfast_r50").classes == tuple(NAMES)
