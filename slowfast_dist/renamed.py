"""Modules under the names that published model cards import them by, before folders held them."""

from __future__ import annotations  # read by Pythons that are too old for all else

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

RENAMED = {
    "slowfast_dist.data.probe": "slowfast_dist.video.probe",
    "slowfast_dist.data.transforms": "slowfast_dist.video.views",
    "slowfast_dist.data.video": "slowfast_dist.video.reader",
    "slowfast_dist.predictor": "slowfast_dist.inference.predictor",
}
"""Old name -> today's. The fifth import of those cards, slowfast_dist.data.clips, kept its name."""


class _AliasFinder:
    """Imports a module of RENAMED as the very module that has the new name.

    It is a finder and a loader without the base classes of importlib.abc, whose import takes
    longer than all else that ``import slowfast_dist`` does.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in RENAMED else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(RENAMED[spec.name])
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has just put the alias's spec into the module: its own goes back.
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


def install() -> None:
    """Make the old names importable; once a process."""
    if not any(isinstance(finder, _AliasFinder) for finder in sys.meta_path):
        sys.meta_path.append(_AliasFinder())
