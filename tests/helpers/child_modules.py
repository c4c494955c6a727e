"""Functions that the processes of this one can import, from code that a test gives."""

import importlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def importable(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: str, name: str = "answer"
) -> Callable[..., Any]:
    """The function ``name`` of a new module of this ``code``, in ``folder``."""
    module = f"stand_in_{uuid.uuid4().hex}"
    (folder / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def not_importable(*_: Any, **__: Any) -> None:
    """What no process can be started with: its module is nowhere."""


not_importable.__module__ = "no_such_module"
