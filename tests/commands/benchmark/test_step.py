"""benchmark step: what it counts, and what it measures and prints, with a real small model."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn

from slowfast_dist.cli.main import main
from slowfast_dist.commands.benchmark import roofline
from slowfast_dist.commands.benchmark.roofline import (
    Peak,
    count_work,
    evaluation_roofline,
    find_peak,
    training_roofline,
)
from slowfast_dist.commands.benchmark.step import STEPS, find_conversions, unknown_to_build
from slowfast_dist.commands.benchmark.step_ways import PlainStep
from slowfast_dist.config.benchmark import BenchmarkStep
from slowfast_dist.model.description import ARCHITECTURES
from slowfast_dist.model.slowfast import SlowFast, create_slowfast
from tests.helpers.training_runs import launch

ROOT = Path(__file__).resolve().parents[3]

SMALL = (
    "--model", "slowfast_tiny", "--num-frames", "8", "--crop-size", "32", "--num-classes", "5",
    "--steps", "2",
)  # fmt: skip


def benchmark(*arguments: str) -> tuple[dict[str, Any], str]:
    """The JSON in the last line, and the text before it."""
    done = launch("-m", "slowfast_dist", "benchmark", "step", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    *text, last = done.stdout.splitlines()
    return json.loads(last), "\n".join(text)


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["benchmark", "step", *arguments])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


# --- the roofline --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("crop_size", "gmac"), [(224, 50.3), pytest.param(256, 65.7, marks=pytest.mark.slow)]
)
def test_the_work_of_slowfast_r50_is_the_published_one(crop_size, gmac):
    work = count_work("slowfast_r50", 400, 32, crop_size)
    assert work.forward_flops / 2e9 == pytest.approx(gmac, abs=0.05)
    # Backward is twice that, less the gradient of the frames, which nobody needs.
    assert 2.9 < work.training_flops / work.forward_flops < 3


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"), ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA A100-SXM4-80GB", "A100-SXM4-80GB"), ("NVIDIA A100-PCIE-40GB", "A100"),
        ("NVIDIA L4", "L4"), ("NVIDIA L40S", "L40S"), ("Tesla V100-SXM2-16GB", "Tesla V100"),
        ("NVIDIA L40", None), ("NVIDIA GH200 480GB", None), ("NVIDIA H20", None),
    ],
)  # fmt: skip
def test_only_the_gpu_of_a_data_sheet_is_judged_by_it(monkeypatch, name, known):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    peak = roofline._known(torch.device("cuda"), "bf16")
    assert (peak and peak.source) == (known and f"data sheet of {known}")


def plain_network() -> nn.Module:
    return create_slowfast(
        model_num_class=5, head_pool=nn.AdaptiveAvgPool3d,
        slowfast_fusion_conv_kernel_size=(7, 1, 1), **ARCHITECTURES["slowfast_tiny"],
    )  # fmt: skip


def pathways() -> list[torch.Tensor]:
    return [torch.zeros(1, 3, 2, 32, 32), torch.zeros(1, 3, 8, 32, 32)]


def test_the_forward_work_is_what_another_counter_counts():
    counter = FlopCountAnalysis(plain_network().eval(), (pathways(),))
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    by_operator = counter.by_operator()
    multiplied = by_operator["conv"] + by_operator["linear"]
    assert count_work("slowfast_tiny", 5, 8, 32).forward_flops == 2 * multiplied


def test_the_memory_traffic_is_that_of_every_convolution_by_hand():
    work = count_work("slowfast_tiny", 5, 8, 32)
    network, forward, training = plain_network(), 0, 0

    def count(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        nonlocal forward, training
        read, written = inputs[0].numel(), output.numel()
        forward += read + written
        frames = inputs[0].shape[1] == 3
        training += (read + written) + (2 * written + read) + (0 if frames else read)

    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.Linear):
            module.register_forward_hook(count)
    network(pathways())
    assert (work.forward_numbers, work.training_numbers) == (forward, training)
    ours = SlowFast("slowfast_tiny", 5, 0.0)
    assert work.parameters == sum(parameter.numel() for parameter in ours.parameters())


def test_the_roofline_is_work_over_rate():
    work, peak = count_work("slowfast_tiny", 5, 8, 32), Peak(2.0, 50.0, "as given")
    least = training_roofline(work, 4, "bf16", "adamw", peak)
    assert least.compute == pytest.approx(4 * work.training_flops / 2e12)
    moved = 4 * 2 * work.training_numbers + 4 * work.parameters * (3 + 7)
    assert least.memory == pytest.approx(moved / 50e9)
    assert least.slower == max(least.compute, least.memory)
    scoring = evaluation_roofline(work, 4, "no", peak)
    assert scoring.compute == pytest.approx(4 * work.forward_flops / 2e12)


def test_a_peak_that_is_given_is_not_measured():
    assert find_peak(torch.device("cpu"), "no", 3.0, 40.0) == Peak(3.0, 40.0, "as given")


# --- the measurement -----------------------------------------------------------------------------


@pytest.mark.slow
def test_both_ways_are_timed_in_one_run_and_compared():
    result, text = benchmark(
        *SMALL, "--batch-sizes", "2", "--against", "plain", "--peak-tflops", "1",
        "--peak-gbytes", "20", "--mixed-precision", "no",
    )  # fmt: skip
    rows = {(row["way"], row["what"], row["batch_size"]): row for row in result["rows"]}
    assert set(rows) == {(way, what, 2) for way in ("ours", "plain") for what in ("train", "score")}
    for (way, what, size), row in rows.items():
        assert row["clips_per_second"] == pytest.approx(size / row["seconds"])
        floor = row["compute_floor_seconds"]
        assert row["share_of_compute_floor"] == pytest.approx(floor / row["seconds"])
        assert row["precision"] == "no" and row["peak_gbytes"] > 0.05
        if what == "train":
            parts = sum(row[f"{part}_seconds"] for part in ("forward", "backward", "optimizer"))
            assert 0 < parts < 3 * row["seconds"]
        if way == "ours":
            other = rows["plain", what, size]
            assert 0 < row["ratio"] < 10 and other["seconds"] > 0  # of the turns, pair by pair
    assert result["ratio"] == rows["ours", "train", 2]["ratio"]
    assert result["evaluation_ratio"] == rows["ours", "score", 2]["ratio"]
    assert "training step, medians of 2" in text and "evaluation, medians of 2" in text


@pytest.mark.slow
def test_another_build_is_timed_in_turn_and_runs_its_own_code(tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(ROOT / "slowfast_dist", other / "slowfast_dist")
    ways = other / "slowfast_dist" / "commands" / "benchmark" / "step_ways.py"
    older = other / "slowfast_dist" / "config" / "benchmark.py"
    text = older.read_text()
    begin, end = text.index('    layout: Literal["auto"'), text.index("    compile: bool = False")
    older.write_text(text[:begin] + text[end:])
    slower = "        time.sleep(0.3)\n        self.optimizer.zero_grad()\n"
    ways.write_text(ways.read_text().replace("        self.optimizer.zero_grad()\n", slower, 1))
    result, text = benchmark(
        *SMALL, "--batch-sizes", "1", "--build", str(other), "--peak-tflops", "1",
        "--peak-gbytes", "20", "--mixed-precision", "no", "--layout", "contiguous",
        "--norm", "local",
    )  # fmt: skip
    assert result["unknown_to_build"] == ["--layout contiguous"]
    assert f"warning: the build in {other} does not know --layout contiguous: its step" in text
    rows = {(row["way"], row["what"]): row for row in result["rows"]}
    assert set(rows) == {(way, what) for way in ("ours", "build") for what in ("train", "score")}
    ours, build = rows["ours", "train"], rows["build", "train"]
    assert build["seconds"] > 0.3 and build["cpu_seconds"] < 0.3 + ours["seconds"]
    assert result["ratio"] == ours["ratio"] < 1 and result["build"] == str(other)
    assert "CPU ratio" in text


def test_a_mode_of_the_compiler_that_another_build_does_not_know_is_told(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "slowfast_dist", tmp_path / "slowfast_dist")
    older = tmp_path / "slowfast_dist" / "config" / "benchmark.py"
    text = older.read_text()
    begin, end = text.index("    compile_mode: "), text.index("    checkpoint_activations: ")
    older.write_text(text[:begin] + text[end:])
    asked = BenchmarkStep(build=tmp_path, compile=True, compile_mode="reduce-overhead")
    assert unknown_to_build(asked) == ["--compile-mode reduce-overhead"]
    assert unknown_to_build(BenchmarkStep(build=tmp_path, compile=True)) == []
    assert unknown_to_build(replace(asked, build=ROOT)) == []


def test_a_build_that_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"--build {tmp_path}: give a folder" in mistake(capsys, "--build", str(tmp_path))
    with_plain = mistake(capsys, "--build", str(ROOT), "--against", "plain")
    assert "--against plain: leave it out with --build" in with_plain


@pytest.mark.slow
def test_without_a_comparison_there_is_no_ratio():
    result, _ = benchmark(*SMALL, "--evaluation", "false", "--batch-sizes", "1", "2")
    assert "ratio" not in result
    rows = [(row["way"], row["what"], row["batch_size"]) for row in result["rows"]]
    assert rows == [("ours", "train", 1), ("ours", "train", 2)]
    assert result["peaks"][result["rows"][0]["precision"]]["source"].startswith("measured")


@pytest.mark.slow
def test_a_profile_is_a_trace_and_a_table_of_the_steps(tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    result, text = benchmark(
        *SMALL[:-1], "1", "--batch-sizes", "1", "--evaluation", "false", "--peak-tflops", "1",
        "--peak-gbytes", "10", "--mixed-precision", "no", "--profile", str(file),
    )  # fmt: skip
    found = result["profile"]
    assert found["file"] == str(file) and [path.name for path in tmp_path.iterdir()] == [file.name]
    seconds = [row["seconds"] for row in found["operators"]]
    assert seconds == sorted(seconds, reverse=True) and sum(seconds) > 0
    assert sum(row["share"] for row in found["operators"]) <= 1.0001
    calls = {row["operator"]: row["calls"] for row in found["operators"]}
    blocks = sum(type(module).__name__ == "ResBlock" for module in plain_network().modules())
    assert calls["mkldnn::_convolution_pointwise"] > blocks
    events = json.loads(file.read_text())["traceEvents"]
    forward = [event for event in events if event.get("name") == "_FusedBottleneck"]
    assert len(forward) == blocks * found["steps"]  # neither the timed steps nor the first
    assert "operators of ours" in text and str(file) in text
    # Torch may take its own convolution for one clip that is as small as this.
    assert {row["name"].partition("3d")[0] for row in found["conversions"]} <= {"aten::slow_conv"}
    assert ("no conversions of layouts" in text) == (not found["conversions"])


def test_what_only_changes_layouts_is_found_in_a_profile() -> None:
    """torch's own convolution on a CPU unfolds its input; oneDNN's does not."""
    convolution, clip = nn.Conv3d(3, 4, 3), torch.rand(2, 3, 4, 8, 8)

    def names(library: bool) -> list[str]:
        with torch.backends.mkldnn.flags(enabled=library), torch.profiler.profile() as profiler:
            for _ in range(STEPS):
                convolution(clip)
        counts = ((event.key, event.count) for event in profiler.key_averages())
        found = find_conversions(counts)
        assert all(row["calls"] == 1 for row in found)
        return [row["name"] for row in found]

    assert "aten::slow_conv3d_forward" in names(False) and names(True) == []
    cudnn = "void cudnn::ops::nchwToNhwcKernel<__half, __half, float, false, true>(...)"
    assert find_conversions([(cudnn, 6), ("aten::relu_", 3)]) == [{"name": cudnn, "calls": 2}]


@pytest.mark.slow
def test_the_plain_way_in_channels_last_and_a_mode_of_the_compiler() -> None:
    result, _ = benchmark(
        *SMALL[:-1], "1", "--batch-sizes", "1", "--evaluation", "false", "--peak-tflops", "1",
        "--peak-gbytes", "10", "--mixed-precision", "no", "--against", "plain", "--plain-layout",
        "channels-last",
    )  # fmt: skip
    assert result["settings"]["plain_layout"] == "channels-last"
    assert [row["way"] for row in result["rows"]] == ["ours", "plain"]
    command = BenchmarkStep(
        model="slowfast_tiny", num_frames=8, crop_size=32, num_classes=5,
        plain_layout="channels-last",
    )  # fmt: skip
    plain = PlainStep(command, 2)
    layout = torch.channels_last_3d
    assert all(pathway.is_contiguous(memory_format=layout) for pathway in plain.pathways)
    weights = [p for p in plain.model.parameters() if p.dim() == 5]
    assert weights and all(weight.is_contiguous(memory_format=layout) for weight in weights)


def test_a_mode_of_the_compiler_needs_the_compiler(capsys: pytest.CaptureFixture[str]) -> None:
    line = mistake(capsys, "--compile-mode", "reduce-overhead")
    assert "--compile-mode reduce-overhead: is of torch.compile: add --compile" in line


def test_a_profile_that_cannot_be_is_refused_before_anything_is_timed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.json").write_text("mine")
    for name, remedy in (
        ("old.json", "exists already: give a new name"),
        ("nowhere/new.json", "make it first"),
        ("trace", "ends in .json"),
    ):
        line = mistake(capsys, "--profile", str(tmp_path / name))
        assert f"--profile {tmp_path / name}: " in line and remedy in line
    assert (tmp_path / "old.json").read_text() == "mine"
    several = mistake(capsys, "--profile", str(tmp_path / "a.json"), "--batch-sizes", "1", "2")
    assert "--batch-sizes 1 2: give one with --profile" in several


def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--num-frames 6: give a multiple of 4" in mistake(capsys, "--num-frames", "6")
    assert "--batch-sizes 0" in mistake(capsys, "--batch-sizes", "0")
    assert "--against" in mistake(capsys, "--against", "mine")
    assert "did you mean --model?" in mistake(capsys, "--model.name", "slowfast_tiny")
