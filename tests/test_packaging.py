"""The package as others install it: what it declares, pins and carries."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS: dict[str, str] = {
    canonicalize_name(line.partition("==")[0]): line.partition("==")[2]
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
}

OPTIONAL = ("export", "cpu", "demo", "embed", "hub", "tune")
"""Extras of commands that a training can do without."""


def declared(*extras: str) -> set[str]:
    lines = list(PROJECT["dependencies"])
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    requirements = [Requirement(line) for line in lines]
    own = {extra for one in requirements if is_own(one) for extra in one.extras}
    others = {canonicalize_name(one.name) for one in requirements if not is_own(one)}
    return others | (declared(*own) if own else set())


def is_own(requirement: Requirement) -> bool:
    """Whether it names extras of this package."""
    return canonicalize_name(requirement.name) == canonicalize_name(PROJECT["name"])


def test_every_library_that_the_package_imports_is_a_declared_dependency():
    imported = set()
    for file in [ROOT / "train.py", *(ROOT / "slowfast_dist").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module).partition(".")[0])
    # torchvision is optional: model.py does without it.
    imported -= {*sys.stdlib_module_names, "slowfast_dist", "torchvision"}
    providers = metadata.packages_distributions()
    missing = {
        name: providers.get(name, ["nothing installed"])
        for name in imported
        if not {canonicalize_name(found) for found in providers.get(name, [])} & declared(*OPTIONAL)
    }
    assert not missing


def test_every_package_that_an_installation_brings_has_a_pin():
    """Also what the dependencies need; but torch's CUDA libraries, which torch pins."""
    waiting = sorted(declared("test"))
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # not for this platform
        for requirement in map(Requirement, lines):
            # no extra of these is asked for anywhere
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(canonicalize_name(requirement.name))
    cuda = {name for name in seen if re.match("cuda-|nvidia-|triton", name)}
    assert sorted(seen - cuda - set(PINS)) == []


def test_the_build_tools_version_is_the_pinned_one():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert build == [f"hatchling=={PINS['hatchling']}"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the wheel puts into site-packages."""
    pytest.importorskip("hatchling", reason="hatchling, of the extra 'test', builds the wheel")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    [wheel] = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "installed")
    return folder / "installed"


def test_a_wheel_carries_the_presets_and_finds_them_by_name(installed, tmp_path):
    presets = {path.name for path in (ROOT / "configs").glob("*.yaml")}
    assert {path.name for path in (installed / "slowfast_dist" / "configs").iterdir()} == presets
    [entry] = metadata.PathDistribution(next(installed.glob("*.dist-info"))).entry_points
    assert (entry.group, entry.name) == ("console_scripts", "slowfast-dist")
    # A command of the wheel's own, from a folder without the repository's configs/.
    module, function = entry.value.split(":")
    run = subprocess.run(
        [sys.executable, "-c", f"import {module} as m; raise SystemExit(m.{function}())",
         "train", "demo", "--help"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "slowfast_tiny" in run.stdout


def test_type_checkers_of_others_see_the_types_of_the_library(installed, tmp_path):
    """In an environment with the wheel and numpy, whose types it names; without torch, which no
    type of the library needs."""
    venv.create(tmp_path / "venv", symlinks=True)
    [site] = tmp_path.glob("venv/lib/python*/site-packages")
    shutil.copytree(installed / "slowfast_dist", site / "slowfast_dist")
    (site / "numpy").symlink_to(Path(np.__file__).parent)
    program = tmp_path / "program.py"
    program.write_text(
        "import slowfast_dist\n"
        "config: slowfast_dist.Config = slowfast_dist.load_config('demo', ['--epochs', '3'])\n"
        "model = slowfast_dist.load(slowfast_dist.train(config)['output_dir'])\n"
        "reveal_type(model)\n"
        "reveal_type(model.predict('a.mp4').probability)\n"
        "reveal_type(model.predict_segments('a.mp4')[0].start)\n"
        "reveal_type(slowfast_dist.probe('a.mp4').frames)\n"
        "reveal_type(slowfast_dist.read_frames('a.mp4', [0]))\n"
        "slowfast_dist.load(3)\n"
        "slowfast_dist.trian\n"
    )
    python = site.parents[2] / "bin" / "python"
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable", python, program],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )  # fmt: skip
    *lines, _ = [line.partition(": ")[2] for line in done.stdout.splitlines()]
    revealed = [line.split('"')[1] for line in lines if "Revealed type" in line]
    *types, frames = [kind.replace("builtins.", "") for kind in revealed]
    assert types == ["slowfast_dist.library.Predictor", "float", "float", "int"], done.stdout
    assert re.fullmatch(r"numpy\.ndarray\[.*unsignedinteger\[.*_8Bit\]\]\]", frames)
    wrong = [line for line in lines if line.startswith("error")]
    assert len(wrong) == 2 and "[arg-type]" in wrong[0] and "[attr-defined]" in wrong[1]
