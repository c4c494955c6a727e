"""What a command adds, later, to the run on wandb of a training that is over."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from slowfast_dist.config.errors import UserError
from slowfast_dist.config.training import WandbConfig
from slowfast_dist.tracking.wandb_late import (
    KEPT,
    open_late,
    remember,
    require_logged,
    videos_named,
)
from slowfast_dist.tracking.wandb_panels import joined_panels, suggested_panels, timelines_panels
from slowfast_dist.tracking.wandb_run import NullRun, WandbRun, open_wandb
from tests.helpers.wandb_files import history, records, tables, without_account


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    yield from without_account(monkeypatch, tmp_path / "home")


def test_it_goes_into_the_same_run_and_names_what_it_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = WandbConfig(mode="offline", project="mice", hardest=3)
    first = open_wandb(config, tmp_path / "run", {"epochs": 2}, None)
    assert isinstance(first, WandbRun)
    first.log_step({"epoch": 1, "global_step": 1, "loss": 0.5})
    remember(tmp_path / "run", config, first)
    first.finish()
    assert videos_named(tmp_path / "run") == 3
    time.sleep(1.1)  # wandb names folders by the second
    capsys.readouterr()
    late = open_late(tmp_path / "run", "auto", "timelines of 1 file; no names of files")
    picture = Image.new("RGB", (60, 20))
    late.log_panels(lambda: joined_panels(
        timelines_panels("long", {"frame_accuracy": 0.5, "map_50": float("nan")},
                         [("file 1", 0.5, 0.25, picture), ("file 2", None, 0.0, picture)]),
        suggested_panels([("walks", 0.5), ("walks", 0.25), ("", None)]),
    ))  # fmt: skip
    late.finish()
    assert isinstance(late, WandbRun) and not late._warned
    line = capsys.readouterr().err
    assert "offline; project mice, run run; holds timelines of 1 file; no names of files;" in line
    assert line.count("offline-run-") == 2  # both are named for the upload
    [row] = [one for one in history(tmp_path / "run") if "over_time/long/frame_accuracy" in one]
    assert row["over_time/long/frame_accuracy"] == 0.5 and "over_time/long/map_50" not in row
    [info] = [one.run for one in records(tmp_path / "run") if one.HasField("run")]
    assert (info.run_id, info.project) == (first.id, "mice")
    found = tables(tmp_path / "run")
    assert [one[:3] for one in found["classes"]["data"]] == [
        ["walks", 2, 0.375], ["none", 1, None],
    ]  # fmt: skip
    rows = found["timelines"]["data"]
    assert [one[:3] for one in rows] == [["file 1", 0.5, 0.25], ["file 2", None, 0.0]]
    assert {one[3]["_type"] for one in rows} == {"image-file"}


def test_nothing_goes_where_the_run_was_not_logged_or_wandb_is_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(UserError, match="--wandb-mode online: .* was not logged on wandb"):
        require_logged(run, "online")
    require_logged(run, "auto")
    for content in (None, "[]", "{", '{"id": 3}', '{"id": ""}'):
        if content is not None:
            (run / KEPT).write_text(content)
        assert isinstance(open_late(run, "auto", "x"), NullRun) and videos_named(run) == 0
    kept = {"id": "abc123", "project": "mice", "name": "run", "mode": "offline", "hardest": 3}
    (run / KEPT).write_text(json.dumps(kept))
    assert isinstance(open_late(run, "disabled", "x"), NullRun)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert isinstance(open_late(run, "auto", "x"), NullRun)
    assert [path.name for path in run.iterdir()] == [KEPT]
    remember(run, WandbConfig("disabled"), NullRun("abc123"))  # resumed without
    assert list(run.iterdir()) == []
