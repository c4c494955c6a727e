"""Only what a file itself takes counts against it, and what does not start is told."""

import time
from contextlib import closing
from pathlib import Path

import pytest

from slowfast_dist.system.workers.pool import map_in_children
from tests.helpers.child_modules import importable, not_importable

SLOW = """
import time
def answer(path, seconds):
    time.sleep(seconds if path.name == "slow" else 0.0)
"""


def test_what_else_the_caller_does_costs_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor that the caller is stopped between two answers, as by Ctrl-Z."""
    paths = [Path("quick"), Path("slow"), Path("quick")]
    answer = importable(tmp_path, monkeypatch, SLOW)
    answers = map_in_children(answer, paths, 2, lambda path: 5.0, seconds=1.0)
    with closing(answers):
        found = [next(answers)]
        time.sleep(5.5)
        found += answers
    assert sorted(found) == [(Path("quick"), None), (Path("quick"), None), (Path("slow"), None)]


def test_a_process_that_does_not_start_is_told() -> None:
    with pytest.raises(RuntimeError, match="does not start: no_such_module:.*\nTraceback"):
        next(map_in_children(not_importable, [Path("a")], 1, lambda path: 5.0))


def test_an_error_of_ours_costs_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "def answer(path): return 1 / len(path.name.removeprefix('bad'))\n"
    answer = importable(tmp_path, monkeypatch, code)
    found = dict(map_in_children(answer, [Path("bad"), Path("a")], 1, lambda path: 60.0))
    assert found == {
        Path("bad"): "crashes the decoder (process ended with 1)", Path("a"): 1.0,
    }  # fmt: skip


def test_what_is_about_a_path_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "def answer(path, size, all): return [path.name, size, all]\n"
    answer = importable(tmp_path, monkeypatch, code)
    sizes = {Path("a"): 1, Path("b"): None, Path("c"): 3}
    about = {path: {"size": size} for path, size in sizes.items()}
    asked = map_in_children(answer, sizes, 1, lambda _: 60.0, about.__getitem__, all=7)
    assert dict(asked) == {path: [path.name, size, 7] for path, size in sizes.items()}
