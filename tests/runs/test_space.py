"""Whether a run's folder has room for what will be saved, on the disk that the tests have."""

import shutil
from pathlib import Path

import pytest

from slowfast_dist.config.errors import UserError
from slowfast_dist.runs.space import check_space


def test_a_run_is_refused_warned_of_or_let_go_by_what_is_free(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    assert check_space(tmp_path, 100, 10, 3, False, tmp_path) is None
    half = int(0.4 * free)  # one checkpoint fits, and keep + 1 do not
    warned = check_space(tmp_path, half, 10, 3, False, tmp_path)
    assert warned is not None and "4 checkpoints" in warned and "--checkpoint.keep" in warned
    with pytest.raises(UserError) as error:
        check_space(tmp_path, half, half, 3, False, Path("runs/a"))
    assert str(error.value).startswith("--output-dir runs/a: disk full, ")
    assert " MB needed for a checkpoint (" in str(error.value)
    assert f"free in {tmp_path} and " in str(error.value)
    # A run that goes on has its best model: it needs room for the next checkpoint.
    assert check_space(tmp_path, half, half, 3, True, tmp_path) is not None
    with pytest.raises(UserError):
        check_space(tmp_path, 2 * free, 10, 3, True, tmp_path)


def test_what_a_resumed_run_has_already_is_counted(tmp_path: Path) -> None:
    """A sparse file, of twice what is free."""
    free = shutil.disk_usage(tmp_path).free
    half = int(0.4 * free)
    with open(tmp_path / "checkpoints", "wb") as file:
        file.truncate(min(2 * free, 1 << 43))
    assert check_space(tmp_path, half, 10, 3, True, tmp_path) is None
    assert check_space(tmp_path, half, 10, 3, False, tmp_path) is not None
