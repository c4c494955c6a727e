"""Loading weights: from files of every kind, never running what is in them, never half."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from slowfast_dist.config.errors import UserError
from slowfast_dist.config.model import ModelConfig
from slowfast_dist.model import hub as hub_room
from slowfast_dist.model.slowfast import SlowFast, build_model

HEAD = {"blocks.6.proj.weight", "blocks.6.proj.bias"}
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    """Of a slowfast_tiny with 5 classes, no entry of which is what a new model has."""
    torch.manual_seed(7)
    entries = SlowFast("slowfast_tiny", 5, 0.5).state_dict()
    return {k: torch.rand_like(v) if v.is_floating_point() else v + 3 for k, v in entries.items()}


def tiny(path: Path, classes: int) -> tuple[SlowFast, list[str]]:
    """The model and the lines that a user reads."""
    model, report = build_model(ModelConfig(name="slowfast_tiny", weights=path), classes)
    return model, report.lines


def equal_entries(model: SlowFast, state: State) -> set[str]:
    return {key for key, value in model.state_dict().items() if torch.equal(value, state[key])}


def refusal(path: Path, classes: int = 5) -> str:
    """The line with which --model.weights ``path`` is refused."""
    with pytest.raises(UserError) as caught:
        tiny(path, classes)
    line = str(caught.value)
    assert line.startswith(f"--model.weights {path}: ")
    assert "\n" not in line
    return line


def test_hub_file_loads_all_but_the_head(state: State, tmp_path: Path) -> None:
    path = tmp_path / "hub.pyth"
    torch.save({"model_state": state}, path)
    model, report = tiny(path, classes=3)
    assert equal_entries(model, state) == state.keys() - HEAD
    assert report == [
        f"slowfast_tiny: loaded {len(state) - 2} of {len(state)} tensors from {path}",
        "head: new, for 3 classes (the file's has 5)",
    ]


def wrapped(state: State) -> State:
    """As DistributedDataParallel around torch.compile would save it."""
    return {f"module._orig_mod.{key}": value for key, value in state.items()}


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("best_model_weights.pth", torch.save),
        ("bare.pth", lambda state, path: torch.save(wrapped(state), path)),
        ("lightning.ckpt", lambda state, path: torch.save({"state_dict": state}, path)),
        ("model.safetensors", save_file),
    ],
)
def test_every_kind_of_file_loads(
    name: str, save: Callable[[State, Path], None], state: State, tmp_path: Path
) -> None:
    save(state, tmp_path / name)
    config = ModelConfig(name="slowfast_tiny", weights=tmp_path / name, head="keep")
    assert equal_entries(build_model(config, 5)[0], state) == state.keys()


def test_as_many_classes_say_nothing_of_which_they_are(state: State, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "bare.pth")
    model, report = tiny(tmp_path / "bare.pth", classes=5)
    assert equal_entries(model, state) == state.keys() - HEAD
    assert report[1] == (
        "head: new, for 5 classes (the file's has 5 too, but does not tell of which: --model.head "
        "keep takes it, if they are the same in the same order)"
    )


def test_file_without_head_and_with_unknown_entries_says_so(state: State, tmp_path: Path) -> None:
    backbone = {key: value for key, value in state.items() if key not in HEAD}
    torch.save(backbone | {"queue": torch.ones(3)}, tmp_path / "moco.pth")
    model, report = tiny(tmp_path / "moco.pth", classes=5)
    assert equal_entries(model, state) == backbone.keys()
    assert report[1:] == [
        "head: new, for 5 classes (the file has none)",
        "left out, the model has no such tensor: queue",
    ]


def test_half_precision_weights_are_loaded_as_float32(state: State, tmp_path: Path) -> None:
    torch.save(
        {k: v.half() if v.is_floating_point() else v for k, v in state.items()},
        tmp_path / "half.pth",
    )
    config = ModelConfig(name="slowfast_tiny", weights=tmp_path / "half.pth", head="keep")
    model, _ = build_model(config, 5)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    torch.testing.assert_close(model.state_dict(), state, rtol=1e-3, atol=1e-3)


def test_anything_missing_but_the_head_is_refused(state: State, tmp_path: Path) -> None:
    path = tmp_path / "some.pth"
    key = "blocks.0.multipathway_blocks.1.norm.running_var"
    torch.save({name: value for name, value in state.items() if name != key}, path)
    assert f"lacks {key}" in refusal(path)
    torch.save(state | {key: torch.ones(9)}, path)
    assert f"has another shape for {key} (9,) for (4,)" in refusal(path)
    torch.save({"fc.weight": torch.ones(2, 2)}, path)
    assert "names its tensors fc.weight, and known are pytorchvideo" in refusal(path)
    assert "MMAction2 (backbone.slow_path...)" in refusal(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("blocks.1.multipathway_blocks.0.res_blocks.0.branch2.conv_a.weight", float("nan")),
        ("blocks.0.multipathway_blocks.1.norm.running_mean", float("-inf")),
        ("blocks.0.multipathway_blocks.1.norm.running_var", -1.0),
        ("blocks.6.proj.bias", 1e39),
    ],
)
def test_numbers_that_no_network_computes_with_are_refused(
    key: str, value: float, state: State, tmp_path: Path
) -> None:
    """1e39 is a number in float64 and none in the model's float32."""
    bad = state[key].double()
    bad.view(-1)[1] = value
    torch.save(state | {key: bad}, tmp_path / "bad.pth")
    found = f"{key} (1 of its {bad.numel():,} numbers) is not finite: what wrote it diverged"
    assert found in refusal(tmp_path / "bad.pth")
    bad.fill_(value)
    other = torch.full((5, 5), torch.inf)
    torch.save(state | {key: bad, "zzz": other}, tmp_path / "bad.pth")
    count = f"2 of {len(state) + 1} tensors are not finite, the first is {key} ({bad.numel():,} of"
    assert count in refusal(tmp_path / "bad.pth")


class Planted:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_in_a_file_is_executed(zipped: bool, state: State, tmp_path: Path) -> None:
    planted = Planted(f"touch '{tmp_path / 'executed'}'")
    path = tmp_path / "planted.pth"
    torch.save(
        {"model_state": state, "extra": planted}, path, _use_new_zipfile_serialization=zipped
    )
    model, _ = tiny(path, 3)
    assert equal_entries(model, state) == state.keys() - HEAD
    torch.save(planted, path, _use_new_zipfile_serialization=zipped)
    assert "holds no tensors by name" in refusal(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrap", [lambda model: model, torch.nn.DataParallel])
def test_a_whole_model_is_read_without_making_it(
    zipped: bool, wrap: Callable[[SlowFast], torch.nn.Module], state: State, tmp_path: Path
) -> None:
    model, _ = build_model(ModelConfig("slowfast_tiny", pretrained=False), 5)
    model.load_state_dict(state)
    path = tmp_path / "best_model_architecture.pth"
    torch.save(wrap(model), path, _use_new_zipfile_serialization=zipped)
    loaded, report = tiny(path, 3)
    assert equal_entries(loaded, state) == state.keys() - HEAD
    assert not any("left out" in line for line in report)


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"<html>404</html>"],
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_damaged_file_is_one_line(
    suffix: str, damage: Callable[[bytes], bytes], state: State, tmp_path: Path
) -> None:
    path = tmp_path / f"weights.{suffix}"
    torch.save(state, path) if suffix == "pth" else save_file(state, path)
    path.write_bytes(damage(path.read_bytes()))
    line = refusal(path)
    assert "damaged" in line or "starts like no known format" in line
    assert line.endswith("give a file of weights, as torch.save(model.state_dict(), ...) writes it")


def test_file_that_is_not_there_or_holds_no_tensors(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "nowhere.pth")
    torch.save({"epoch": 3}, tmp_path / "other.pth")
    assert "no tensors by name" in refusal(tmp_path / "other.pth")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torch.hub would keep slowfast_r50's file; downloads come from tmp_path/server."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(hub_room, "ZOO_URL", (tmp_path / "server").as_uri())
    return tmp_path / "torch" / "hub" / "checkpoints" / "SLOWFAST_8x8_R50.pyth"


def test_pretrained_is_downloaded_once_into_torch_hubs_cache(hub: Path, tmp_path: Path) -> None:
    server = tmp_path / "server" / "kinetics"
    server.mkdir(parents=True)
    entries = SlowFast("slowfast_r50", 400, 0.5).state_dict()
    first = "blocks.0.multipathway_blocks.0.conv.weight"
    entries[first].fill_(0.125)
    torch.save({"model_state": entries}, server / hub.name)
    _, report = build_model(ModelConfig(), 2)
    assert report.lines[0] == f"slowfast_r50: loaded 660 of 662 tensors from {hub}"
    (server / hub.name).unlink()
    model, report = build_model(ModelConfig(), 2)
    assert report.lines[1] == "head: new, for 2 classes (the file's has 400)"
    assert model.state_dict()[first].unique().item() == 0.125


def test_no_network_and_no_file_is_one_line_with_the_ways_out(hub: Path) -> None:
    with pytest.raises(UserError) as caught:
        build_model(ModelConfig(), 2)
    line = str(caught.value)
    assert "\n" not in line
    for way in (f"put {hub.name} at {hub}", "--model.weights", "--model.pretrained false"):
        assert way in line
    assert not list(hub.parent.iterdir())


def test_damaged_download_is_named(hub: Path) -> None:
    hub.parent.mkdir(parents=True)
    hub.write_bytes(b"half a download")
    with pytest.raises(UserError, match="damaged") as caught:
        build_model(ModelConfig(), 2)
    assert str(caught.value).startswith(f"--model.pretrained {hub}: ")
