"""What BORIS itself exports: its own code, without its windows and their libraries."""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

WINDOWS = frozenset({"PySide6", "PyQt5", "PyQt6", "matplotlib", "mpv", "scipy", "pyreadr"})
"""Libraries of windows and plots, that BORIS imports and its exports do not use."""


REAL = frozenset(f"boris.{name}" for name in (
    "config", "utilities", "version", "export_observation", "project_functions", "portion",
    "observation_operations", "db_functions", "event_operations",
))  # fmt: skip
"""The modules that its exports are; its others are windows."""


class _Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Modules of which every name in capitals is an empty class, and others are an empty text."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        library, _, inner = name.partition(".")
        if library in WINDOWS or (library == "boris" and inner and not _is_real(name)):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name)
        module.__path__ = []
        module.__getattr__ = (  # type: ignore[method-assign]
            lambda name: type(name, (), {}) if name[0].isupper() else ""
        )
        return module

    def exec_module(self, module: ModuleType) -> None:
        pass


def _is_real(name: str) -> bool:
    return any(name == real or name.startswith(f"{real}.") for real in REAL)


@contextmanager
def boris() -> Iterator[Any]:
    """Its modules by name; the test is skipped where boris-behav-obs or what it needs is missing.
    Behind it nothing of them is left."""
    found = importlib.util.find_spec("boris")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs boris-behav-obs")
    for needed in ("tablib", "pandas"):
        pytest.importorskip(needed)
    package = ModuleType("boris")
    package.__path__ = list(found.submodule_search_locations)
    absent, before = _Absent(), set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "boris", package)
        patch.setattr(sys, "meta_path", [absent, *sys.meta_path])
        try:
            yield lambda name: importlib.import_module(f"boris.{name}")
        finally:
            for name in set(sys.modules) - before:
                if name.partition(".")[0] in {"boris", *WINDOWS}:
                    del sys.modules[name]


def project_of(text: str) -> dict[str, Any]:
    """As BORIS opens it: JSON with decimal times."""
    import json

    with boris() as module:
        project: dict[str, Any] = module("utilities").convert_time_to_decimal(json.loads(text))
    return project


def export_tabular(project: dict[str, Any], observation: str, target: Path) -> None:
    """Write the tabular export; the ending of ``target`` says as what."""
    with boris() as module:
        config = module("config")
        module("export_observation").export_tabular_events(
            project, _all(config, project), observation, project["observations"][observation],
            project["behaviors_conf"], str(target), target.suffix[1:],
        )  # fmt: skip


def _all(config: Any, project: dict[str, Any]) -> dict[str, Any]:
    subjects = [entry["name"] for entry in project["subjects_conf"].values()]
    return {
        config.SELECTED_SUBJECTS: [*subjects, config.NO_FOCAL_SUBJECT],
        config.SELECTED_BEHAVIORS: [one["code"] for one in project["behaviors_conf"].values()],
        "time": config.TIME_FULL_OBS, config.START_TIME: 0, config.END_TIME: 10**6,
        "include modifiers": True, "exclude behaviors": False,
    }  # fmt: skip


def export_aggregated(project: dict[str, Any], target: Path) -> None:
    """Write the aggregated export of all observations, with the header that BORIS gives it."""
    with boris() as module:
        config, export = module("config"), module("export_observation")
        parameters = _all(config, project)
        rows, most = [], 0
        for _ in range(2):  # the second time with as many columns of modifiers for all
            parts = [export.export_aggregated_events(project, parameters, name, most)
                     for name in project["observations"]]  # fmt: skip
            most = max(count for _, count in parts)
        for data, _ in parts:
            rows += [list(row) for row in data]
    variables = [entry["label"] for entry in project["independent_variables"].values()]
    header = [
        "Observation id", "Observation date", "Description", "Observation type", "Source",
        "Time offset (s)", "Coding duration", "Media duration (s)", "FPS (frame/s)", *variables,
        "Subject", "Observation duration by subject by observation", "Behavior",
        "Behavioral category", *[f"Modifier #{number + 1}" for number in range(most)],
        "Behavior type", "Start (s)", "Stop (s)", "Duration (s)", "Media file name",
        "Image index start", "Image index stop", "Image file path start", "Image file path stop",
        "Comment start", "Comment stop",
    ]  # fmt: skip
    data = importlib.import_module("tablib").Dataset(*rows, headers=header)
    target.write_text(data.export(target.suffix[1:]), newline="")
