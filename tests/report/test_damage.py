"""A page is written whatever happened to the run's files: a training must not end by its report."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slowfast_dist.report.command import render, write_report
from slowfast_dist.report.comparison import comparison_context
from slowfast_dist.runs.predictions import read_predictions, write_neighbours
from tests.helpers.made_runs import made_run

FILES = (
    "metrics.jsonl", "config.yaml", "environment.json", "classes.json", "status", "split.csv",
    "unreadable_videos.csv", "predictions/val_best.csv", "predictions/val_best_neighbours.json",
    "models/best_model.json", "report.html", "evaluation-x/metrics.json", "report_cache.json",
)  # fmt: skip

VALUES: list[Any] = [
    None, True, -1, 10**400, 1e308, float("nan"), "", "x" * 5000, [], {}, [[]], {"a": {"b": [1]}},
    [None, "x"], "\udcff", 2**63, -0.0,
]  # fmt: skip


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = made_run(tmp_path_factory.mktemp("runs") / "run", ["a", "b", "c"], epochs=3, videos=4)
    for name in ("models/best_model.json", "evaluation-x/metrics.json"):
        content = {"epoch": 2, "metrics": {"val/accuracy": 0.5}, "intervals": {"accuracy": [0, 1]},
                   "accuracy": 0.5, "temporal_views": 1, "spatial_crops": 1}  # fmt: skip
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text(json.dumps(content))
    path = run / "predictions" / "val_best.csv"
    near = np.arange(12)[:, None] // 2
    write_neighbours(path, read_predictions(path).probabilities, near)
    write_report(run)
    return run


def write_both(run: Path) -> None:
    assert write_report(run).stat().st_size > 20_000
    render("comparison.html", comparison_context([run, run.parent]))


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_empty_file_or_another_kind_is_no_obstacle(
    original: Path, tmp_path: Path, name: str
) -> None:
    run = Path(shutil.copytree(original, tmp_path / "run"))
    (run / name).unlink()
    write_both(run)
    if name != "report.html":
        (run / name).write_bytes(b"")
        write_both(run)
        (run / name).unlink()
        (run / name).mkdir()
        write_both(run)
        (run / name).rmdir()
        os.mkfifo(run / name)  # reading it would wait for ever
        write_both(run)


def test_nothing_at_all_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b"")
    page = write_report(tmp_path)
    assert "No epoch is complete yet" in page.read_text()


def test_damaged_bytes_are_no_obstacle(original: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    run = Path(shutil.copytree(original, tmp_path / "run"))
    for turn in range(33):
        name = FILES[turn % len(FILES)]
        whole = (original / name).read_bytes()
        damaged = bytearray(whole)
        kind = turn // len(FILES) % 3
        for place in rng.integers(0, len(whole), 12):
            if kind == 0:
                damaged[place] = rng.integers(0, 256)
            elif kind == 1:
                damaged[place : place + 7] = b""
            else:
                damaged[place:place] = bytes(rng.choice(list(b'[]{}",:\n-9e\\')) for _ in range(3))
        if name == "report.html":  # what makes it ours
            damaged[:2048] = whole[:2048]
        (run / name).write_bytes(damaged)
        write_report(run)
        (run / name).write_bytes(whole)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith((".json", "jsonl"))])
def test_other_values_are_no_obstacle(original: Path, tmp_path: Path, name: str) -> None:
    """Of every key in turn, and of the whole."""
    run = Path(shutil.copytree(original, tmp_path / "run"))
    lines = [json.loads(line) for line in (original / name).read_text().splitlines()] if (
        name.endswith("jsonl")
    ) else [json.loads((original / name).read_text())]  # fmt: skip
    keys = sorted({key for line in lines for key in line})
    for turn, key in enumerate([*keys, None]):
        wrong = VALUES[turn % len(VALUES) :] + VALUES[: turn % len(VALUES)]
        texts = []
        for number, line in enumerate(lines):
            value = wrong[number % len(wrong)]
            if key is None:
                texts.append(json.dumps(value))
            else:
                texts.append(json.dumps({**line, key: value} if key in line else line))
        (run / name).write_text("\n".join(texts) + "\n")
        write_report(run)
