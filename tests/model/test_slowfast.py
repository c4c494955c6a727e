"""The model against pytorchvideo's own, and what may not change when parts of it are frozen."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from slowfast_dist.config.model import ModelConfig
from slowfast_dist.model.description import ARCHITECTURES, network_defaults
from slowfast_dist.model.inputs import normalise, pathways, slow_indices
from slowfast_dist.model.slowfast import (
    SlowFast,
    build_model,
    describe,
    freeze,
    head_parameters,
    live_batchnorms,
    rebuild,
    rebuild_empty,
    resolve_norm,
    set_norm,
    take_over,
)

HubName = Literal["slowfast_r50", "slowfast_r101", "slowfast_16x8_r101_50_50"]

PUBLISHED = network_defaults("slowfast_tiny")


def tiny(classes: int = 4, dropout: float = 0.0) -> SlowFast:
    torch.manual_seed(0)
    return SlowFast("slowfast_tiny", classes, dropout)


def random_frames(batch: int = 2, time: int = 8, height: int = 32, width: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (batch, time, 3, height, width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def changed(before: dict[str, Tensor], model: nn.Module) -> set[str]:
    after = model.state_dict()
    return {key for key in before if not torch.equal(before[key], after[key])}


def train_one_step(model: SlowFast) -> set[str]:
    """The entries of the state_dict that an optimizer step in training mode changed.

    Adam takes steps of one size, so that no small gradient is lost in rounding.
    """
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=0.1, eps=1e-30)
    nn.functional.cross_entropy(model(random_frames(3)), torch.tensor([0, 1, 3])).backward()
    optimizer.step()
    return changed(before, model)


def test_slow_pathway_sees_the_frames_that_the_published_models_were_trained_on() -> None:
    assert slow_indices(32, PUBLISHED).tolist() == [0, 4, 8, 13, 17, 22, 26, 31]
    for time in (4, 8, 16, 32, 64, 128):
        theirs = torch.linspace(0, time - 1, time // 4).long()
        assert torch.equal(slow_indices(time, PUBLISHED), theirs)
    frames = random_frames()
    slow, fast = pathways(frames, PUBLISHED)
    assert torch.equal(slow, normalise(frames, PUBLISHED)[:, :, [0, 7]])
    assert torch.equal(fast, normalise(frames, PUBLISHED))


def test_normalisation_is_exact_also_under_autocast() -> None:
    frames = random_frames(time=4)
    expected = ((frames.float() / 255 - 0.45) / 0.225).permute(0, 2, 1, 3, 4)
    with torch.autocast("cpu", torch.bfloat16):
        clip = normalise(frames, PUBLISHED)
    assert clip.dtype == torch.float32
    assert torch.equal(clip, expected)
    assert not torch.equal(frames, torch.zeros_like(frames))  # done on a copy


@pytest.mark.parametrize("name", ["slowfast_r50", "slowfast_r101", "slowfast_16x8_r101_50_50"])
def test_every_layer_is_the_hub_models_but_for_pooling_and_head(name: HubName) -> None:
    from pytorchvideo.models import hub

    with torch.device("meta"):
        theirs = getattr(hub, name)()
        ours = SlowFast(name, 7, dropout=0.5)
    for module in theirs.modules():
        if isinstance(module, nn.Conv3d):  # whose numpy integers print in another way
            module.stride = tuple(map(int, module.stride))
    assert [str(block) for block in ours.blocks[:5]] == [str(block) for block in theirs.blocks[:5]]
    shapes = {key: value.shape for key, value in theirs.state_dict().items()}
    differ = {k for k, v in ours.state_dict().items() if v.shape != shapes.pop(k)}
    assert differ == {"blocks.6.proj.weight", "blocks.6.proj.bias"}
    assert not shapes


def test_logits_at_224_are_those_of_pytorchvideo_with_its_fixed_pooling() -> None:
    from pytorchvideo.models.hub import slowfast_r50

    theirs = slowfast_r50().eval()
    for module in theirs.modules():  # or the residual branches, at scale 0, would not be compared
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1)
    ours = SlowFast("slowfast_r50", 400, dropout=0.5).eval()
    ours.load_state_dict(theirs.state_dict())
    frames = random_frames(1, 32, 224, 224)
    clip = (frames.float() / 255 - 0.45) / 0.225
    clip = clip.permute(0, 2, 1, 3, 4)
    with torch.no_grad():
        expected = theirs([clip[:, :, torch.linspace(0, 31, 8).long()], clip])
        logits = ours(frames)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("time", "height", "width"), [(4, 64, 64), (20, 33, 70), (64, 16, 16)])
def test_any_crop_and_any_multiple_of_four_frames(time: int, height: int, width: int) -> None:
    logits = tiny(classes=5).eval()(random_frames(3, time, height, width))
    assert logits.shape == (3, 5)
    assert logits.isfinite().all()


def test_channels_last_changes_the_layout_and_not_the_logits() -> None:
    model, frames = tiny().eval(), random_frames()
    expected = model(frames)
    model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    layouts: list[bool] = []

    def look(_: nn.Module, inputs: tuple[list[Tensor]]) -> None:
        layouts.extend(x.is_contiguous(memory_format=torch.channels_last_3d) for x in inputs[0])

    handle = model.blocks[5].register_forward_pre_hook(look)
    torch.testing.assert_close(model(frames), expected, rtol=1e-4, atol=1e-5)
    handle.remove()
    assert layouts == [True, True]


def test_exported_and_compiled_graphs_give_the_same_logits() -> None:
    model, frames = tiny().eval(), random_frames()
    expected = model(frames)
    exported = torch.export.export(model, (frames,)).module()
    torch.testing.assert_close(exported(frames), expected)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(frames), expected)


@pytest.mark.parametrize("stages", [1, 3, 5])
def test_frozen_stages_change_nothing_not_even_statistics(stages: int) -> None:
    model = tiny()
    freeze(model, stages)
    model.train()
    frozen = tuple(f"blocks.{index}." for index in range(stages))
    expected = {key for key in model.state_dict() if not key.startswith(frozen)}
    assert train_one_step(model) == expected


def test_frozen_backbone_trains_the_head_alone_until_it_is_thawed() -> None:
    model = tiny().train()
    freeze(model, "backbone")
    assert train_one_step(model) == {"blocks.6.proj.weight", "blocks.6.proj.bias"}
    freeze(model, "none")
    assert train_one_step(model) == set(model.state_dict())


def test_frozen_norm_keeps_statistics_and_trains_scale_and_shift() -> None:
    model = tiny()
    set_norm(model, "frozen")
    model.eval()
    model.train()
    statistics = {key for key, _ in model.named_buffers()}
    assert train_one_step(model) == set(model.state_dict()) - statistics
    assert not list(live_batchnorms(model))


def test_sync_norm_replaces_every_batchnorm_and_keeps_names_and_values() -> None:
    model = tiny()
    before = model.state_dict()
    set_norm(model, "sync")
    live = list(live_batchnorms(model))
    assert live
    assert all(isinstance(layer, nn.SyncBatchNorm) for layer in live)
    assert not any(isinstance(module, nn.BatchNorm3d) for module in model.modules())
    assert list(model.state_dict()) == list(before)
    assert not changed(before, model)


def test_live_batchnorms_are_those_whose_statistics_move() -> None:
    model = tiny()
    freeze(model, 2)
    model.eval()
    live = {id(layer) for layer in live_batchnorms(model)}
    names = {f"{n}.running_mean" for n, layer in model.named_modules() if id(layer) in live}
    model.train()
    moved = train_one_step(model)
    assert names == {key for key in moved if key.endswith("running_mean")}


def test_head_parameters_are_the_linear_layer_also_inside_a_wrapper() -> None:
    model = tiny(classes=6)
    shapes = [tuple(p.shape) for p in head_parameters(nn.DataParallel(model))]
    assert shapes == [(6, model.head.proj.in_features), (6,)]


@pytest.mark.parametrize(
    ("norm", "loaded", "expected"),
    [("auto", True, "frozen"), ("auto", False, "local"), ("local", True, "local")],
)
def test_norm_auto_is_frozen_for_a_loaded_backbone(norm: Any, loaded: bool, expected: str) -> None:
    assert resolve_norm(ModelConfig(norm=norm), loaded) == expected


def test_tiny_says_that_it_starts_from_scratch() -> None:
    model, report = build_model(ModelConfig(name="slowfast_tiny", dropout=0.25), 3)
    assert report.lines == ["slowfast_tiny: starts from scratch (has no published weights)"]
    assert model.head.dropout.p == 0.25
    assert model.head.proj.out_features == 3


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_description_written_as_json_rebuilds_the_model(dropout: float) -> None:
    model = tiny(classes=3, dropout=dropout).eval()
    again = rebuild(json.loads(json.dumps(describe(model))))
    again.load_state_dict(model.state_dict())
    assert again.head.dropout is None if dropout == 0 else again.head.dropout.p == dropout
    assert torch.equal(again(random_frames()), model(random_frames()))


def test_tiny_is_small() -> None:
    with torch.device("meta"):
        sizes = {
            name: sum(p.numel() for p in SlowFast(name, 400, 0.5).parameters())
            for name in ARCHITECTURES
        }
    assert sizes["slowfast_tiny"] < sizes["slowfast_r50"] / 10


BROKEN = "import torchvision.extension\nraise RuntimeError('torchvision::nms does not exist')"
WORKING = "from . import ops"

LOAD = """
import sys
import torch
{before}
model = torch.load({model!r}, weights_only=False).eval()
saved = torch.load({logits!r})
assert torch.equal(model(saved["frames"]), saved["logits"])
left = sorted(name for name in sys.modules if name.startswith("torchvision"))
assert left == {left}, left
print("ok")
"""


@pytest.mark.parametrize("torchvision", ["absent", "broken", "working"])
def test_whole_model_loads_in_a_new_process_whatever_torchvision_is(
    torchvision: str, tmp_path: Path
) -> None:
    """Absent is what the tests run with, if torchvision is not installed beside them."""
    before, left = "sys.modules.pop('torchvision', None)", "[]"
    if torchvision != "absent":
        package = tmp_path / "torchvision"
        package.mkdir()
        (package / "extension.py").write_text("")
        (package / "ops.py").write_text("class RoIAlign: pass")
        (package / "__init__.py").write_text(BROKEN if torchvision == "broken" else WORKING)
    if torchvision == "working":
        before = "import torchvision.ops\nreal = torchvision.ops.RoIAlign"
        left = "['torchvision', 'torchvision.ops']\nassert torchvision.ops.RoIAlign is real"
    model, frames = tiny().eval(), random_frames(time=4)
    torch.save(model, tmp_path / "model.pth")
    torch.save({"frames": frames, "logits": model(frames)}, tmp_path / "logits.pth")
    code = LOAD.format(
        before=before,
        left=left,
        model=str(tmp_path / "model.pth"),
        logits=str(tmp_path / "logits.pth"),
    )
    paths = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(Path(__file__).parents[2])!r}]\n"
    done = subprocess.run(
        [sys.executable, "-c", paths + code], capture_output=True, text=True, timeout=300
    )
    assert done.stdout == "ok\n", done.stderr


@pytest.mark.parametrize("kind", ["as saved", "half precision", "channels last", "another's"])
def test_weights_are_taken_over_as_they_would_be_copied(kind: str) -> None:
    torch.manual_seed(3)
    source = tiny().eval()
    state = source.state_dict()
    if kind == "half precision":
        floats = {name for name, one in state.items() if one.is_floating_point()}
        state = {name: one.half() if name in floats else one for name, one in state.items()}
    if kind == "channels last":
        last = torch.channels_last_3d
        state = {
            name: one.contiguous(memory_format=last) if one.dim() == 5 else one
            for name, one in state.items()
        }
    before = torch.get_rng_state()
    found = rebuild_empty(describe(source))
    assert torch.equal(torch.get_rng_state(), before)  # nothing was drawn
    if kind == "another's":
        with pytest.raises(RuntimeError):
            take_over(found, tiny(classes=5).state_dict())
        return
    take_over(found, state)
    expected = rebuild(describe(source))
    expected.load_state_dict(state)
    for (name, mine), (same, other) in zip(
        found.state_dict().items(), expected.state_dict().items(), strict=True
    ):
        assert name == same and mine.dtype == other.dtype and mine.is_contiguous()
        assert torch.equal(mine, other)
    assert [one.requires_grad for one in found.parameters()] == [
        one.requires_grad for one in expected.parameters()
    ]
    assert not found.training
    frames = random_frames()
    with torch.inference_mode():
        assert torch.equal(found(frames), expected(frames))
