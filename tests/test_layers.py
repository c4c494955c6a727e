"""The layers of the package: read from the import statements, nothing is imported or run."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "slowfast_dist"

LAYERS = {
    1: "train __main__ start cli benchmark_commands data_commands model_commands arguments "
    "config_files flags",
    2: "training training_step training_state network_setup bad_videos data_wait recording "
    "evaluate_run prepare prepare_sources prediction prediction.annotate prediction.command "
    "prediction.inputs prediction.live prediction.output prediction.segments "
    "prediction.timeline prediction.videos prediction.windows serve serve.app serve.command "
    "serve.jobs serve.page check check.command check.files check.findings check.moving "
    "check.report check.sides benchmark benchmark.bare_decode benchmark.clips benchmark.index "
    "benchmark.loader benchmark.output benchmark.plain benchmark.videos benchmark.workers "
    "benchmark.step benchmark.step_ways benchmark.floors benchmark.apart benchmark.train "
    "benchmark.train_ways benchmark.scaling benchmark.scaling_model best_saving serve.access "
    "serve.listening serve.refusal serve.scoring serve.upload prediction.lettering "
    "prediction.live_window prediction.long_video prediction.ending prediction.files "
    "benchmark.profile evaluate_output",
    3: "evaluation own_videos predictor exported hub model_card export export.command "
    "export.graph export.parity export.pt2 export.onnx report report.charts report.command "
    "report.comparison report.page report.run_data report.stills card_sections card_usage "
    "best_facts report.comparison_page report.curves report.history report.judged report.kept "
    "report.matrix report.notices report.reading report.run_facts report.run_page "
    "report.scales report.words export.clips export.metadata export.quiet export.summary "
    "export.tensors",
    4: "data data.clip_cost data.columns data.dataset data.excerpt data.group_pattern data.guard "
    "data.likeness data.live_source data.loaders data.look data.manifest data.opening "
    "data.packets data.pixels data.prepared data.probe data.probe_all data.probe_cache "
    "data.probe_pool data.probe_segment data.recordings data.sampler data.scan data.seeking "
    "data.split data.stream data.stream_process data.synthetic data.transcode "
    "data.transcode_apart data.transforms data.video data.video_table data.video_writer model "
    "folding hardware weights best_model batchnorm sanity micro_batch optim checkpoint "
    "tracking progress run_folder wandb_run distributed rendezvous wandb_media blocks "
    "clip_input convolution convolution_gradients",
    5: "config commands benchmark_settings model_settings config_checks metrics uncertainty "
    "files host_memory cpus cpu_limit cpu_time signals heartbeat parent launchers run_lock "
    "data.clips judgement text temporary",
}
"""Rooms below slowfast_dist, and train.py, by layer; a room imports from its own and lower ones
(higher numbers) only, and not in a circle."""

LAYER = {room: layer for layer, rooms in LAYERS.items() for room in rooms.split()}

MODEL = {"model", "weights", "batchnorm", "folding"}
"""Never import data, nor data these."""

OWNERS = {
    "av": {
        "benchmark.bare_decode", "benchmark.videos", "data.live_source", "data.look",
        "data.opening", "data.packets", "data.pixels", "data.probe", "data.seeking",
        "data.stream", "data.synthetic", "data.transcode", "data.video", "data.video_writer",
    },
    "decord": {"benchmark.plain", "data.video"},
    "huggingface_hub": {"hub"},
    "jinja2": {"report.page"},
    "onnx": {"export.onnx"},
    "onnxruntime": {"exported"},
    "pytorchvideo": {"model"},
    "starlette": {"serve.app"},
    "uvicorn": {"serve.listening"},
    "sklearn": {"data.manifest", "data.split", "metrics"},
    "torchvision": {"model"},
    "tyro": {"cli", "config_files", "flags"},
    "wandb": {"wandb_media", "wandb_run"},
}
"""The rooms that may import an outside library."""

SLOW_LIBRARIES = {
    "torch", "torchvision", "accelerate", "pytorchvideo", "sklearn", "wandb", "onnxruntime",
    "starlette", "uvicorn", "huggingface_hub",
}  # fmt: skip
"""What --help and a wrong flag must not wait for."""


@dataclass(frozen=True)
class Import:
    room: str
    """The importing room: data.video for slowfast_dist.data.video; train for train.py."""
    target: str
    """The imported room, or the name of an outside library."""
    inside: bool
    """Whether target is a room."""
    line: int
    at_start: bool
    """Whether it runs when the room is imported: neither in a function nor for types only."""

    def __str__(self) -> str:
        return f"{self.room}, line {self.line}, imports {self.target}"


def read_rooms(root: Path) -> dict[str, ast.Module]:
    """Every module of the package at root, and train.py, parsed."""
    files = {"train": root / "train.py"} if (root / "train.py").exists() else {}
    for file in sorted((root / PACKAGE).rglob("*.py")):
        parts = file.relative_to(root / PACKAGE).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return {room: ast.parse(file.read_text(), str(file)) for room, file in files.items()}


def imports_of(room: str, tree: ast.Module, rooms: set[str]) -> Iterator[Import]:
    def statements(node: ast.AST, at_start: bool) -> Iterator[tuple[ast.AST, bool]]:
        for child in ast.iter_child_nodes(node):
            deferred = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            types_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            yield child, at_start
            yield from statements(child, at_start and not deferred and not types_only)

    for node, at_start in statements(tree, True):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{room}, line {node.lineno}: import by the full name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            library, _, target = name.partition(".")
            if library != PACKAGE:
                yield Import(room, library, False, node.lineno, at_start)
                continue
            while target not in rooms:  # the name of a function or class, not of a room
                target = target.rpartition(".")[0]
            yield Import(room, target, True, node.lineno, at_start)


def all_imports(root: Path) -> list[Import]:
    rooms = read_rooms(root)
    return [found for room, tree in rooms.items() for found in imports_of(room, tree, set(rooms))]


def unknown_rooms(root: Path) -> list[str]:
    return [
        f"{room or PACKAGE} has no layer yet: add it to LAYERS in tests/test_layers.py"
        for room in read_rooms(root)
        if room and room not in LAYER
    ]


def upward_imports(root: Path) -> list[str]:
    bottom = max(LAYERS)
    return [
        f"{found}, from layer {LAYER.get(found.room, bottom)} up to {LAYER[found.target]}"
        for found in all_imports(root)
        if found.inside and LAYER.get(found.target, bottom) < LAYER.get(found.room, bottom)
    ]


def circles(root: Path) -> list[str]:
    graph: dict[str, set[str]] = {}
    for found in all_imports(root):
        if found.inside:
            graph.setdefault(found.room, set()).add(found.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [f"a circle of imports: {' <- '.join(error.args[1])}"]
    return []


def data_and_model(root: Path) -> list[str]:
    def side(room: str) -> str:
        return "model" if room in MODEL else room.partition(".")[0]

    return [
        f"{found}: data and model never import each other"
        for found in all_imports(root)
        if found.inside and {side(found.room), side(found.target)} == {"data", "model"}
    ]


def wrong_owners(root: Path) -> list[str]:
    return [
        f"{found}, which only {', '.join(sorted(OWNERS[found.target]))} may"
        for found in all_imports(root)
        if not found.inside and found.room not in OWNERS.get(found.target, {found.room})
    ]


def accelerators(root: Path) -> list[str]:
    return [
        f"{room}, line {node.lineno}, constructs an Accelerator, which only distributed may"
        for room, tree in read_rooms(root).items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] == "Accelerator"
        and room != "distributed"
    ]


def slow_starts(root: Path) -> list[str]:
    """Slow libraries that the rooms of the command line import at their start, in any depth."""
    at_start: dict[str, list[Import]] = {}
    for found in all_imports(root):
        if found.at_start:
            at_start.setdefault(found.room, []).append(found)
    waiting = [*LAYERS[1].split(), "config"]
    seen: set[str] = set()
    problems = []
    while waiting:
        room = waiting.pop()
        if room in seen:
            continue
        seen.add(room)
        waiting.append(room.rpartition(".")[0])  # the package's __init__ runs first
        for found in at_start.get(room, []):
            if found.inside:
                waiting.append(found.target)
            elif found.target in SLOW_LIBRARIES:
                problems.append(f"{found} at its start, and --help waits for it")
    return problems


CHECKS = [
    unknown_rooms,
    upward_imports,
    circles,
    data_and_model,
    wrong_owners,
    accelerators,
    slow_starts,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_package_keeps_its_layers(check):
    assert check(ROOT) == []


@pytest.mark.parametrize(
    ("check", "files"),
    [
        (unknown_rooms, {"attic": ""}),
        (upward_imports, {"metrics": "from slowfast_dist import model", "model": ""}),
        (upward_imports, {"data/video": "def f():\n import slowfast_dist.cli", "cli": ""}),
        (circles, {"optim": "import slowfast_dist.files", "files": "import slowfast_dist.optim"}),
        (data_and_model, {"data/video": "from slowfast_dist.model import build", "model": ""}),
        (data_and_model, {"weights": "import slowfast_dist.data.video", "data/video": ""}),
        (wrong_owners, {"training": "def f():\n from wandb import init"}),
        (accelerators, {"training": "import accelerate\naccelerate.Accelerator(cpu=True)"}),
        (slow_starts, {"cli": "from slowfast_dist import optim", "optim": "import torch.nn"}),
        (slow_starts, {"cli": "import slowfast_dist.data.clips", "data/__init__": "import torch",
                       "data/clips": ""}),
    ],
)  # fmt: skip
def test_a_breach_is_found(check, files, tmp_path):
    for name, source in {"__init__": "", **files}.items():
        file = tmp_path / PACKAGE / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    assert len(check(tmp_path)) == 1


def test_what_only_types_or_a_function_import_does_not_slow_the_start(tmp_path):
    (tmp_path / PACKAGE).mkdir()
    (tmp_path / PACKAGE / "__init__.py").write_text("")
    (tmp_path / PACKAGE / "cli.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import torch\n"
        "def run():\n    import torch\n"
    )
    assert slow_starts(tmp_path) == []
