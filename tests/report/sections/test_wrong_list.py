"""Labels in doubt as a list: review and training take it, and it goes with the predictions."""

import csv
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slowfast_dist.annotations.segments import sample_name
from slowfast_dist.cli import main as cli
from slowfast_dist.commands.review.samples import in_order
from slowfast_dist.commands.review.sources import find_source
from slowfast_dist.config.commands.browser import Review
from slowfast_dist.data.listing.manifest import list_videos
from slowfast_dist.metrics.wrong_labels import Doubt, doubts_of
from slowfast_dist.report.cache import CACHE
from slowfast_dist.report.command import write_report
from slowfast_dist.report.sections.wrong_list import (
    BY_FOLDS,
    NEAREST,
    WRONG_LABELS,
    write_wrong_labels,
)
from slowfast_dist.runs.predictions import (
    read_predictions,
    write_neighbours,
    write_predictions,
)
from tests.helpers.made_runs import made_run

TWO = ("moves left", "moves right")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of 20 videos, of which four are said to be of the other class."""
    names = [f"{name}/clip_{number}.mp4" for name in TWO for number in range(10)]
    for name in names:
        (tmp_path / "clips" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "clips" / name).touch()
    made = made_run(tmp_path / "run", [*TWO], videos=10, data=tmp_path / "clips", names=names)
    say(made, names, 4)
    return made


def say(run: Path, names: list[str], wrong: int) -> None:
    labels = np.arange(len(names)) // 10
    logits = np.where(labels[:, None] == np.arange(2), 2.0, 0.0)
    logits += 0.01 * np.arange(len(names))[:, None] * (labels[:, None] == np.arange(2))
    for number in range(wrong):
        logits[number] = 0.0, 5.0 - number
    write_predictions(run / "predictions" / "val_best.csv", names, labels, logits, TWO)


def test_review_and_training_take_it(run: Path) -> None:
    cli.main(["report", str(run), "--hardest", "0"])
    doubts = doubts_of(read_predictions(run / "predictions" / "val_best.csv"))
    assert len(doubts) >= 3
    path = run / WRONG_LABELS
    for word, command in ((run, Review(list=path)), (path, Review())):
        source = find_source(word, command)
        assert source.notes == [] and source.order == "suggested"
        shown = in_order(source, "suggested")
        listed: list[Any] = [
            (one.path, one.labels, one.predicted, round(one.probability or 0, 3)) for one in shown
        ]
        assert listed == [
            (str(run.parent / "clips" / one.path), (one.label,), one.probable,
             pytest.approx(one.probability, abs=1e-3)) for one in doubts
        ]  # fmt: skip
        assert in_order(source, "wrong") == shown  # by both probabilities, as the page
        assert all("validation alone" in one.reason for one in shown)
    listing = list_videos(path, "data.root", single_class=True)
    assert len(listing.videos) == len(doubts)
    assert set(listing.classes) == {one.label for one in doubts}


def test_it_goes_with_the_predictions_and_anothers_file_stays(run: Path) -> None:
    path, names = run / WRONG_LABELS, read_predictions(run / "predictions" / "val_best.csv").names
    write_report(run)
    first = path.read_text()
    path.unlink()
    write_report(run)  # of the cache, which has but the first of them
    assert path.read_text() == first
    say(run, list(names), 0)
    write_report(run)
    assert not path.exists()
    path.write_text("path,label\na.mp4,x\n")
    say(run, list(names), 4)
    (run / CACHE).unlink()
    write_report(run)
    assert path.read_text() == "path,label\na.mp4,x\n"
    path.unlink()
    cli.main(["report", str(run), "--hardest", "0", "--output", str(run.parent / "r.html")])
    assert not path.exists()  # another's run may be looked at, too


def test_columns_of_the_nearest_are_the_last_ones(run: Path) -> None:
    path = run / "predictions" / "val_best.csv"
    write_report(run)
    with open(run / WRONG_LABELS, newline="") as file:
        bare = list(csv.reader(file))
    assert "nearest clips" not in (run / "report.html").read_text()
    found = read_predictions(path)
    nearest = np.full((20, 3), -1)
    nearest[0], nearest[1, 0] = (5, 12, 13), 4
    write_neighbours(path, found.probabilities, nearest)
    (run / CACHE).unlink()
    cli.main(["report", str(run), "--hardest", "1"])
    with open(run / WRONG_LABELS, newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == [*bare[0], *NEAREST]
    told = {Path(row[0]).name: row for row in rows[1:]}
    assert told["clip_0.mp4"][-3:] == ["3", "2", "1"], "12 and 13 have the other class"
    assert told["clip_1.mp4"][-3:] == ["1", "0", "1"]
    assert told["clip_2.mp4"][-3:] == ["", "", ""]
    both = "2 of its 3 nearest clips are labelled moves right, 1 moves left"
    one = "none of its nearest clip is labelled moves right, 1 moves left"
    reasons = {name: row[6].rpartition("; ")[2] for name, row in told.items()}
    assert reasons["clip_0.mp4"] == both and reasons["clip_1.mp4"] == one
    assert [row[:6] for row in rows[1:]] == [row[:6] for row in bare[1:]]
    assert told["clip_2.mp4"][:8] == next(row for row in bare if row[0] == told["clip_2.mp4"][0])
    page = (run / "report.html").read_text()
    assert both in page and "0 of 1" in page and "Nearest that agree" in page
    source = find_source(run, Review(list=run / WRONG_LABELS))
    assert source.notes == [] and both in {one.reason.rpartition("; ")[2] for one in source.samples}


def test_parts_of_videos_regions_and_names_that_lead_elsewhere(run: Path) -> None:
    for name in ("a.mp4", "b.mp4", "odd@1-2.mp4@3-4"):
        (run.parent / "clips" / name).touch()
    names = [
        sample_name("a.mp4", 1.5, 2.25, (0.1, 0.2, 0.3, 0.4)), sample_name("b.mp4", nan, nan),
        "odd@1-2.mp4@3-4", "../elsewhere.mp4", "new\nline.mp4", "\udcff.mp4",
    ]  # fmt: skip
    doubts = [Doubt(name, *TWO, 0.1, 0.8, 4, 3, 1) for name in names]
    write_wrong_labels(run, run, doubts, BY_FOLDS)
    with open(run / WRONG_LABELS, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    clips = run.parent / "clips"
    assert [(one["path"], one["start"], one["end"], one["w"]) for one in rows] == [
        (str(clips / "a.mp4"), "1.5", "2.25", "0.3"), (str(clips / "b.mp4"), "", "", ""),
        (str(clips / "odd@1-2.mp4@3-4"), "", "", ""),
    ]  # fmt: skip
    assert [(one["nearest"], one["nearest_suggested"]) for one in rows] == [("4", "3")] * 3
    assert list(rows[0])[-7:] == ["x", "y", "w", "h", *NEAREST]
    shown = find_source(run / WRONG_LABELS, Review()).samples
    assert [one.more.get("h") for one in shown] == ["0.4", None, None], shown
    (run / "config.yaml").unlink()  # which tells where the videos are
    write_wrong_labels(run, run, doubts, BY_FOLDS)
    assert not (run / WRONG_LABELS).exists()
