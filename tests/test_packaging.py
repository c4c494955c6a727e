"""The package as others install it: what it declares, pins and carries."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

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

OPTIONAL = ("export", "demo", "hub")
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


def test_a_wheel_carries_the_presets_and_finds_them_by_name(tmp_path):
    pytest.importorskip("hatchling", reason="hatchling, of the extra 'test', builds the wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    [wheel] = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)
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
