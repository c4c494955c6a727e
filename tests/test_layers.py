"""The house of the package: one rule a folder, read from the import statements; nothing is run."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "slowfast_dist"

FLOORS = (
    {"train", "__main__", "renamed", "library"},
    {"cli"},
    {"commands"},
    {"training"},
    {"report", "inference"},
    {"runs", "tracking"},
    {"data"},
    {"annotations", "video", "distributed"},
    {"model", "web"},
    {"system"},
    {"config", "metrics"},
)
"""The folders from the top down: a module imports from its own folder and from lower floors."""

FLOOR = {folder: floor for floor, folders in enumerate(FLOORS) for folder in folders}

MOST_MODULES = 13
"""Modules in one folder: more than that is a second flat level, where nobody finds anything."""

STRANGERS = {("data", "model"), ("video", "model")}
"""Folders that never import each other, though they are on different floors."""

SHARED_COMMANDS = {
    ("commands.serve", "commands.predict"), ("commands.tune", "commands.cross_validate"),
}  # fmt: skip
"""Commands do not import each other, but for these: answers over HTTP are those of predict, and a
trial of a search is a cross-validation."""

OWNERS = {
    "accelerate": {"distributed", "training", "commands.benchmark", "commands.evaluate"},
    "av": {"video", "commands.benchmark"},
    "decord": {"video", "commands.benchmark"},
    "huggingface_hub": {"commands.hub"},
    "jinja2": {"report"},
    "nncf": {"commands.export"},
    "onnx": {"inference"},
    "onnxruntime": {"inference"},
    "openvino": {"commands.export", "inference"},
    "optuna": {"commands.tune"},
    "pyarrow": {"commands.embed"},
    "pytorchvideo": {"model"},
    "sklearn": {"metrics", "data.listing.folds.dealing", "data.listing.split"},
    "sqlalchemy": {"commands.tune"},
    "starlette": {"web", "commands.review", "commands.serve"},
    "torchvision": {"model"},
    "tyro": {"cli"},
    "uvicorn": {"web"},
    "wandb": {"tracking"},
}
"""Outside libraries, each with the folders or modules that may import it."""

WITHOUT_TORCH = {"annotations", "cli", "config", "metrics", "system", "video"}
"""Folders whose modules never import torch when they are imported: `--help` needs none."""

SLOW_LIBRARIES = {
    "torch", "torchvision", "accelerate", "pytorchvideo", "sklearn", "wandb", "onnxruntime",
    "openvino", "starlette", "uvicorn", "huggingface_hub", "optuna",
}  # fmt: skip
"""What ``--help``, a wrong flag and ``import slowfast_dist`` must not wait for."""

START = {"", "train", "__main__", "library", "cli", "config"}
"""Folders (and the package itself) that are imported before a command is known to be right, and the
library, which reads frames without torch."""


@dataclass(frozen=True)
class Import:
    module: str
    """The importing module below the package: video.reader; train for train.py."""
    target: str
    """The imported module below the package, or the name of an outside library."""
    inside: bool
    """Whether target is a module of the package."""
    line: int
    at_start: bool
    """Whether it runs when the module is imported: neither in a function nor for types only."""

    def __str__(self) -> str:
        return f"{self.module or PACKAGE}, line {self.line}, imports {self.target}"


def folder(module: str) -> str:
    """The folder of a module: video for video.reader."""
    return module.partition(".")[0]


def command(module: str) -> str:
    """The command that a module of commands/ belongs to: commands.serve for commands.serve.app."""
    return ".".join(module.split(".")[:2])


@cache
def read_modules(root: Path) -> dict[str, ast.Module]:
    """Every module of the package at root, and train.py, parsed; once for all checks."""
    files = {"train": root / "train.py"} if (root / "train.py").exists() else {}
    for file in sorted((root / PACKAGE).rglob("*.py")):
        parts = file.relative_to(root / PACKAGE).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return {name: ast.parse(file.read_text(), str(file)) for name, file in files.items()}


def imports_of(module: str, tree: ast.Module, modules: set[str]) -> Iterator[Import]:
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
            assert not node.level, f"{module}, line {node.lineno}: import by the full name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            library, _, target = name.partition(".")
            if library != PACKAGE:
                yield Import(module, library, False, node.lineno, at_start)
                continue
            while target not in modules:  # the name of a function or class, not of a module
                target = target.rpartition(".")[0]
            yield Import(module, target, True, node.lineno, at_start)


@cache
def all_imports(root: Path) -> list[Import]:
    modules = read_modules(root)
    return [
        found for name, tree in modules.items() for found in imports_of(name, tree, set(modules))
    ]


def without_a_floor(root: Path) -> list[str]:
    """Folders that FLOORS does not place, and modules beside the folders."""
    folders = {folder(module) for module in read_modules(root)} - {""}
    return [f"{name} is on no floor: see FLOORS in {__file__}" for name in folders - set(FLOOR)]


def crowded(root: Path) -> list[str]:
    """Folders with too many modules."""
    counts: dict[Path, int] = {}
    for file in (root / PACKAGE).rglob("*.py"):
        counts[file.parent] = counts.get(file.parent, 0) + (file.name != "__init__.py")
    return [f"{path}: {count} modules" for path, count in counts.items() if count > MOST_MODULES]


def upward_imports(root: Path) -> list[str]:
    """Imports from the same or a higher floor, of another folder."""
    return [
        f"{found}, which is not below it"
        for found in all_imports(root)
        if found.inside and found.module and found.target
        and folder(found.target) != folder(found.module)
        and FLOOR.get(folder(found.target), 0) <= FLOOR.get(folder(found.module), 0)
    ]  # fmt: skip


def circles(root: Path) -> list[str]:
    graph: dict[str, set[str]] = {}
    for found in all_imports(root):
        if found.inside:
            graph.setdefault(found.module, set()).add(found.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [f"a circle of imports: {' <- '.join(error.args[1])}"]
    return []


def strangers(root: Path) -> list[str]:
    pairs = {frozenset(pair) for pair in STRANGERS}
    return [
        f"{found}: these never import each other"
        for found in all_imports(root)
        if found.inside and frozenset({folder(found.module), folder(found.target)}) in pairs
    ]


def commands_import_each_other(root: Path) -> list[str]:
    return [
        f"{found}: commands do not import each other"
        for found in all_imports(root)
        if found.inside
        and folder(found.module) == folder(found.target) == "commands"
        and command(found.module) != command(found.target)
        and (command(found.module), command(found.target)) not in SHARED_COMMANDS
    ]


def wrong_owners(root: Path) -> list[str]:
    return [
        f"{found}, which only {', '.join(sorted(OWNERS[found.target]))} may"
        for found in all_imports(root)
        if not found.inside
        and found.target in OWNERS
        and not OWNERS[found.target] & {folder(found.module), command(found.module), found.module}
    ]


def accelerators(root: Path) -> list[str]:
    return [
        f"{module}, line {node.lineno}, constructs an Accelerator, which only distributed may"
        for module, tree in read_modules(root).items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] == "Accelerator"
        and folder(module) != "distributed"
    ]


def slow_starts(root: Path) -> list[str]:
    """Slow libraries that are imported, in any depth, where nothing may wait for them."""
    at_start: dict[str, list[Import]] = {}
    for found in all_imports(root):
        if found.at_start:
            at_start.setdefault(found.module, []).append(found)

    def met(first: str) -> Iterator[Import]:
        waiting, seen = [first], set()
        while waiting:
            module = waiting.pop()
            if module in seen:
                continue
            seen.add(module)
            if module:
                waiting.append(module.rpartition(".")[0])  # the package's __init__ runs first
            for found in at_start.get(module, []):
                if found.inside:
                    waiting.append(found.target)
                else:
                    yield found

    problems = set()
    for module in read_modules(root):
        forbidden = SLOW_LIBRARIES if folder(module) in START else set()
        if folder(module) in WITHOUT_TORCH:
            forbidden = forbidden | {"torch"}
        problems |= {
            f"{found}: {module or PACKAGE} waits for it" for found in met(module)
            if found.target in forbidden
        }  # fmt: skip
    return sorted(problems)


CHECKS = [
    without_a_floor,
    crowded,
    upward_imports,
    circles,
    strangers,
    commands_import_each_other,
    wrong_owners,
    accelerators,
    slow_starts,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_package_keeps_its_house(check):
    assert check(ROOT) == []


@pytest.mark.parametrize(
    ("check", "files"),
    [
        (without_a_floor, {"attic/box": ""}),
        (without_a_floor, {"loose": ""}),
        (crowded, {f"video/part{number}": "" for number in range(MOST_MODULES + 1)}),
        (upward_imports, {"metrics/scores": "from slowfast_dist.model import slowfast",
                          "model/slowfast": ""}),
        (upward_imports, {"video/reader": "def f():\n import slowfast_dist.cli.main",
                          "cli/main": ""}),
        (upward_imports, {"runs/run": "import slowfast_dist.tracking.console",
                          "tracking/console": ""}),
        (circles, {"video/a": "import slowfast_dist.video.b", "video/b":
                   "import slowfast_dist.video.a"}),
        (strangers, {"data/dataset": "from slowfast_dist.model.slowfast import build",
                     "model/slowfast": ""}),
        (commands_import_each_other, {"commands/check/files": "import slowfast_dist.commands.hub",
                                      "commands/hub": ""}),
        (commands_import_each_other, {"commands/predict/a": "import slowfast_dist.commands.serve.b",
                                      "commands/serve/b": ""}),
        (wrong_owners, {"training/run": "def f():\n from wandb import init"}),
        (wrong_owners, {"data/sample": "import av"}),
        (accelerators, {"training/run": "import accelerate\naccelerate.Accelerator(cpu=True)"}),
        (slow_starts, {"cli/main": "from slowfast_dist.training import optim",
                       "training/optim": "import torch.nn"}),
        (slow_starts, {"cli/main": "import slowfast_dist.data.clips", "data/__init__":
                       "import torch", "data/clips": ""}),
        (slow_starts, {"video/views": "import torch"}),
    ],
)  # fmt: skip
def test_a_breach_is_found(check, files, tmp_path):
    for name, source in {"__init__": "", **files}.items():
        file = tmp_path / PACKAGE / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    assert len(check(tmp_path)) == 1


def test_what_serve_takes_from_predict_is_allowed(tmp_path):
    for name, source in {
        "commands/serve/app": "import slowfast_dist.commands.predict.videos",
        "commands/predict/videos": "",
    }.items():
        file = tmp_path / PACKAGE / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    assert commands_import_each_other(tmp_path) == []


def test_what_only_types_or_a_function_import_does_not_slow_the_start(tmp_path):
    (tmp_path / PACKAGE / "cli").mkdir(parents=True)
    (tmp_path / PACKAGE / "__init__.py").write_text("")
    (tmp_path / PACKAGE / "cli" / "main.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import torch\n"
        "def run():\n    import torch\n"
    )
    assert slow_starts(tmp_path) == []
