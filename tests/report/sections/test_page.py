"""A run's page with all that it can show: what each part says, that it stays small, and that
nothing leaves it."""

import json
import re
import shlex
import shutil
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from slowfast_dist.cli import main as cli
from slowfast_dist.cli.commands import COMMANDS
from slowfast_dist.cli.parser import parse_command
from slowfast_dist.commands.review.samples import in_order
from slowfast_dist.commands.review.sources import find_source
from slowfast_dist.config.commands.browser import Review
from slowfast_dist.config.report import ENOUGH_SECONDS
from slowfast_dist.data.synthetic import make_videos
from slowfast_dist.metrics.calibration import tempered
from slowfast_dist.metrics.summary import summarise
from slowfast_dist.metrics.uncertainty import reliability
from slowfast_dist.report.command import write_report
from slowfast_dist.report.sections.explained import (
    EXPLAINED,
    MOST_STRIPS,
    STRIP_BYTES,
    read_explained,
)
from slowfast_dist.report.sections.folds import RESULT, folds_of
from slowfast_dist.report.sections.judged import judge
from slowfast_dist.report.sections.listed import LIST_BYTES, with_room
from slowfast_dist.report.sections.missing import missing
from slowfast_dist.report.sections.over_time import COLUMNS, timelines
from slowfast_dist.report.thumbnails import Thumbnails
from slowfast_dist.runs.predictions import read_predictions
from slowfast_dist.runs.run import Split, read_run
from slowfast_dist.video.writer import write_video
from tests.helpers.browser import wait_until
from tests.helpers.full_runs import full_run
from tests.helpers.made_runs import HOSTILE, made_run
from tests.report.test_browser import CONTRAST, Opened
from tests.report.test_report import Page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TWO = ("moves left", "moves right")
SECTIONS = ("calibration", "folds", "wrong", "suggested", "timelines")
MOST_BYTES = 3_000_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fold of 20 videos with all that there can be, and four videos without labels."""
    root = tmp_path_factory.mktemp("full")
    make_videos(root / "clips", 10, 0, size=48, frames=16, classes=TWO)
    make_videos(root / "new", 2, 1, size=48, frames=16, classes=TWO)
    names = [f"{name}/clip_{number:03}.mp4" for name in TWO for number in range(10)]
    run = full_run(
        root / "cv", [*TWO], root / "clips", names, 10, sorted((root / "new").rglob("*.mp4"))
    )
    cli.main(["report", str(run)])
    return run


def test_each_part_is_there_and_says_whence_it_is(made: Path) -> None:
    page = Page(made / "report.html")
    ids = {one.get("id") for one in page.of("section")}
    assert ids >= {*SECTIONS, "missing"}
    assert "This run is fold 2 of a cross-validation over 60 videos in 15 groups" in page.text
    assert "Fold 2, this run" in page.text and "Scores by training groups" in page.text
    assert "Judged from the validation alone" in page.text
    assert "12 labels" not in page.text and "--order wrong" in page.text
    best = json.loads((made / "models" / "best_model.json").read_text())
    assert f"After: with temperature {best['temperature']:.3g}" in page.text
    links = {one.get("href") for one in page.of("a")}
    assert links >= {"../cross_validation.html", "evaluation-long/over_time.html"}
    # Of the videos without labels, which lie elsewhere, none is opened before that is named.
    assert "it is not below the folder of the data" in page.text
    pictures = len(page.of("img"))
    other = made.parent / "other.html"
    new = made.parents[1] / "new"
    cli.main(["report", str(made), "--videos", str(new), "--output", str(other)])
    assert len(Page(other).of("img")) == pictures + 4 * 4


def test_the_doubts_are_those_that_review_shows(made: Path) -> None:
    found = read_predictions(made / "predictions" / "val_best.csv")
    judged = judge(found, 2.0)
    assert judged.doubted == len(judged.doubts) >= 3
    after = reliability(found.labels, tempered(found.probabilities, 2.0))
    assert judged.calibrated == after != summarise(found).bins
    assert judge(found, 1.0).calibrated == []
    (made / "split.csv").rename(made / "its.csv")  # which is of no real videos
    try:
        rows = "".join(
            f"{name},{found.classes[label]},val,{name}\n"
            for name, label in zip(found.names, found.labels.tolist(), strict=True)
        )
        (made / "split.csv").write_text(f"path,class,split,group\n{rows}")
        shown = in_order(find_source(made, Review()), "wrong")
    finally:
        (made / "its.csv").rename(made / "split.csv")
    assert [(one.path, one.predicted) for one in shown] == [
        (one.path, one.probable) for one in judged.doubts
    ]


def test_timelines_compare_over_time(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", [*TWO], epochs=2)
    folder = run / "evaluation-x"
    folder.mkdir()
    facts = {"segments": True, "files": 2, "background": None}
    (folder / "metrics.json").write_text(json.dumps(facts))
    rows = (
        "a.mp4,truth,moves left,0,4,", "a.mp4,truth,moves right,6,10,",
        "a.mp4,prediction,moves left,0,5,.9", "a.mp4,prediction,moves left,5,10,.6",
        "b.mp4,truth,moves left,0,1,", "b.mp4,prediction,moves left,0,1,.5",
        "b.mp4,truth,moves left,never,1,", "b.mp4,what,moves left,0,1,",
    )  # fmt: skip
    text = "\n".join([",".join(COLUMNS), *rows])
    (folder / "segments.csv").write_text(text)
    found = timelines(read_run(run))
    assert found is not None and (found.name, found.total) == ("x", 2)
    # Of 8 s with a label the first 4 are right; between 4 and 6 there is none.
    assert [(one.name, one.right) for one in found.files] == [("a.mp4", 0.5), ("b.mp4", 1.0)]
    assert found.files[0].lines[2].count('class="apart"') == 1
    # With a background what has no row is that, and left is not.
    (folder / "metrics.json").write_text(json.dumps(facts | {"background": "none"}))
    (run / "classes.json").write_text(json.dumps({0: "moves left", 1: "moves right", 2: "none"}))
    found = timelines(read_run(run))
    assert found is not None and found.files[0].right == pytest.approx(0.4)
    (folder / "segments.csv").write_bytes(b"\xff\x00")
    assert timelines(read_run(run)) is None


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"per_fold": 3}', '{"metrics": {"accuracy": 1}, "per_fold": [1]}']
)
def test_a_damaged_result_is_none(made: Path, content: str) -> None:
    folder = made.parent
    whole = (folder / RESULT).read_text()
    try:
        (folder / RESULT).write_text(content)
        assert folds_of(made, {"fold": "2"}) is None
        write_report(made)
        assert "folds" not in {one.get("id") for one in Page(made / "report.html").of("section")}
    finally:
        (folder / RESULT).write_text(whole)
        write_report(made)  # which other tests look at
    assert folds_of(made, {}) is None and folds_of(made, {"fold": "2"}) is not None


def test_what_is_missing_has_its_command(tmp_path: Path) -> None:
    run = read_run(made_run(tmp_path / "run", [*TWO], epochs=2))
    assert missing(run, False, False, False, False) == []  # without a model there is nothing to do
    (run.folder / "models").mkdir()
    (run.folder / "models" / "best_model.json").write_text('{"epoch": 1}')
    assert missing(read_run(run.folder), False, False, False, False) == []  # its weights are gone
    (run.folder / "models" / "best_model_weights.pth").touch()
    split = Split({"a": 5}, {"a": 2}, False, {"a": (9.0, 3.0)}, {"a": (4.0, 2.0)})
    run = read_run(run.folder).__class__(**{**vars(read_run(run.folder)), "split": split})
    commands = [one.command.split()[3] for one in missing(run, False, False, False, False)]
    assert commands == ["evaluate", "cross-validate", "suggest"]
    assert missing(run, True, True, True, True) == []


def test_maps_of_the_hardest_videos_have_their_command(made: Path) -> None:
    section = (made / "report.html").read_text().partition('id="missing"')[2]
    command = unescape(re.findall(r"<code>(.* --explain-seconds .*)</code>", section)[0])
    words = shlex.split(command)
    assert words[3:5] == ["report", str(made)]
    told = parse_command(COMMANDS["report"], words[4:])
    assert told is not None and told[1].explain_seconds == ENOUGH_SECONDS


def test_pictures_end_where_there_is_no_room() -> None:
    large = Thumbnails((bytes(LIST_BYTES // 3),))
    drawn = with_room("abcd", dict.fromkeys("abcd", large))
    assert [bool(one.pictures) for one in drawn.values()] == [True, True, True, False]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 classes with hostile ones among them, whose pictures are noise, as large as they come."""
    root = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(0)
    noise = (rng.integers(0, 256, (144, 192, 3), dtype=np.uint8) for _ in range(12))
    (root / "clips").mkdir()
    write_video(root / "clips" / "0.mp4", noise, 10)
    classes = [*HOSTILE, *(f"class number {number}" for number in range(43))]
    names = [f"{number}.mp4" for number in range(200)]
    for name in names[1:]:
        (root / "clips" / name).symlink_to(root / "clips" / "0.mp4")
    unlabelled = [root / "clips" / f"new_{number}.mp4" for number in range(20)]
    for path in unlabelled:
        shutil.copyfile(root / "clips" / "0.mp4", path)
    run = full_run(
        root / "cv", classes, root / "clips", names, 4, unlabelled, files=20, segments=150,
        epochs=40,
    )  # fmt: skip
    for number in range(MOST_STRIPS):  # as large as those that predict --explain draws
        picture = np.repeat(np.repeat(rng.integers(0, 256, (118, 530, 3), np.uint8), 4, 0), 4, 1)
        path = run / EXPLAINED / f"clip {number}.explained.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(path)
    cli.main(["report", str(run)])
    return run


def test_with_50_classes_it_stays_below_3_mb(large: Path) -> None:
    page = Page(large / "report.html")
    ids = {one.get("id") for one in page.of("section")}
    assert ids >= {*SECTIONS, "explained"} and len(page.of("img")) > 100
    strips = sum(map(len, (picture for _, picture in read_explained(large)[0])))
    assert 0.75 * STRIP_BYTES < strips <= STRIP_BYTES
    assert 1_000_000 < (large / "report.html").stat().st_size <= MOST_BYTES


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["made", pytest.param("large", marks=pytest.mark.slow)])
def test_nothing_leaves_it_and_nothing_overflows(
    browser: "Browser", request: pytest.FixtureRequest, name: str, width: int, scheme: str
) -> None:
    path = request.getfixturevalue(name) / "report.html"
    with Opened(browser, path, width, scheme) as opened:
        page = opened.page
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for section in SECTIONS:
            page.locator(f"#{section}").scroll_into_view_if_needed()
        wait_until(page, "[...document.images].every(one => one.naturalWidth > 0)")
        assert page.evaluate("window.stolen") is None
        if name == "made" and width == 1280:
            found = page.evaluate(CONTRAST)
            assert len(found) > 100 and found[0][0] >= 4.5, found[:5]
        left = [url for url in opened.requests if not url.startswith("data:")]
        assert left == [path.as_uri()] and opened.complaints == []
