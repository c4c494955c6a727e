"""The strips of ``predict --explain`` on a run's page."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slowfast_dist.report.command import _templates
from slowfast_dist.report.sections import explained
from slowfast_dist.report.sections.explained import KEPT, MOST_STRIPS, WIDTH, read_explained


def strip(path: Path, width: int = 2120) -> None:
    path.parent.mkdir(exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (40, width, 3), np.uint8)
    Image.fromarray(noise).save(path)


def test_strips_are_shown_narrowed_and_damaged_ones_left_out(tmp_path: Path) -> None:
    assert read_explained(tmp_path) == ([], 0)
    folder = tmp_path / "explained"
    strip(folder / "b<i>.explained.png")
    strip(folder / "other.png")
    (folder / "a.explained.png").write_bytes(b"\x89PNG, but not all of it")
    (folder / "c.explained.png").symlink_to(folder / "other.png")
    (folder / "d.explained.png").mkdir()
    [(name, picture)], total = read_explained(tmp_path)
    assert name == "b<i>" and picture[:2] == b"\xff\xd8"
    page = _templates().get_template("explained.html").module.explained_section(  # type: ignore[attr-defined]
        [(name, picture)], total
    )
    assert f'width="{WIDTH}" height="20"' in page and "b&lt;i&gt;" in page and "<i>" not in page
    assert "Of the 4 videos in explained/ 1, the first by name" in page


def test_the_page_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(MOST_STRIPS + 2):
        strip(tmp_path / "explained" / f"{number:02}.explained.png")
    shown, total = read_explained(tmp_path)
    assert total == MOST_STRIPS + 2
    assert [name for name, _ in shown] == [f"{number:02}" for number in range(MOST_STRIPS)]
    monkeypatch.setattr(explained, "STRIP_BYTES", 3 * len(shown[0][1]))
    assert len(read_explained(tmp_path)[0]) == 3


def test_what_an_older_best_model_saw_is_not_shown(tmp_path: Path) -> None:
    for name in "abc":
        strip(tmp_path / "explained" / f"{name}.explained.png")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "best_model.json").write_text(json.dumps({"weights_sha256": "new"}))
    (tmp_path / "explained" / KEPT).write_text(json.dumps({"a": "old", "b": "new"}))
    shown, total = read_explained(tmp_path)
    assert [name for name, _ in shown] == ["b", "c"] and total == 2  # c is somebody's own
