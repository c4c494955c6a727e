"""The page of timelines: small however much there is, and as safe as the report."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from slowfast_dist.data.listing.video_table import VideoTable
from slowfast_dist.data.probing import probe_videos
from slowfast_dist.metrics.detection import Events
from slowfast_dist.metrics.over_time import score_file, summarise_over_time
from slowfast_dist.report.command import render
from slowfast_dist.report.over_time_page import over_time_context
from slowfast_dist.report.timelines import Paint, Stretches, TimedFile, line, parted
from slowfast_dist.video.writer import write_video
from tests.helpers.browser import wait_until
from tests.helpers.made_runs import HOSTILE
from tests.report.test_browser import Opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FPS = 10
MOST_BYTES = 3_000_000


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> VideoTable:
    """One file of noise, whose JPEGs are as large as they come."""
    root = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    noise = (rng.integers(0, 256, (144, 192, 3), dtype=np.uint8) for _ in range(60))
    write_video(root / "noise.mp4", noise, FPS)
    table = VideoTable.of_paths([root / "noise.mp4"])
    return table.probed(probe_videos(table, 1, None, show_progress=False).infos)


def made_page(videos: VideoTable, classes: list[str], files: int, segments: int) -> bytes:
    rng = np.random.default_rng(0)
    timed = []
    for number in range(files):
        bounds = np.linspace(0, 6, segments + 1)
        bounds = np.stack([bounds[:-1], bounds[1:]], axis=1)
        labels, found = rng.integers(0, len(classes), (2, segments))
        starts = np.arange(60) / FPS
        place = np.searchsorted(bounds[:, 0], starts, "right") - 1
        truth, said = labels[place], found[place]
        shown = np.full(60, 1 / FPS)
        timed.append(TimedFile(
            f"{number} <b>.mp4", f"{number}", 0, 6.0, Stretches(bounds, labels),
            Stretches(bounds, found, np.full(segments, 0.5)),
            parted(truth, said, starts, shown, len(classes)),
            score_file(truth, said, shown, len(classes), None),
        ))  # fmt: skip
    none = Events(np.empty(0, int), np.empty(0, int), np.empty((0, 2)), np.empty(0))
    scores = summarise_over_time(
        [one.scores for one in timed], np.arange(files), none, none, classes, 20
    )
    facts = {"files": files, "recordings": files, "seconds": 6.0 * files,
             "labelled_seconds": 6.0 * files, "epoch": 3}  # fmt: skip
    return render("over_time.html", over_time_context(
        "made", timed, scores, facts, classes, None, videos, ["warning: look"]
    ))  # fmt: skip


def test_a_page_of_very_many_stays_small(videos: VideoTable) -> None:
    page = made_page(videos, [f"class {number}" for number in range(40)], 120, 250)
    assert len(page) < MOST_BYTES
    assert b"of 120 files" in page and page.count(b"<article") >= 5


def test_nothing_leaves_the_page_and_nothing_overflows(
    browser: "Browser", videos: VideoTable, tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    path.write_bytes(made_page(videos, HOSTILE, 3, 12))
    for width, scheme in ((360, "dark"), (1280, "light")):
        with Opened(browser, path, width, scheme) as opened:
            page = opened.page
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate("window.stolen") is None
            wait_until(page, "[...document.images].every(one => one.naturalWidth > 0)")
            assert page.evaluate("document.images.length") == 18
            # Each segment is drawn where its time is, in the width that there is.
            bed, last = page.evaluate(
                """() => { const line = document.querySelector(".line");
                const boxes = [line, line.lastElementChild.querySelector("rect")]
                    .map(one => one.getBoundingClientRect());
                return [boxes[0].width, boxes[1].right - boxes[0].left] }"""
            )
            assert last == pytest.approx(bed, abs=1.5)
            left = [url for url in opened.requests if not url.startswith("data:")]
            assert left == [path.as_uri()] and opened.complaints == []


def test_stretches_that_part_are_found_longest_first() -> None:
    truth = np.array([3, 3, 0, 0, 0, 1, 1, 1, 1, 3])
    found = np.array([0, 0, 0, 2, 2, 1, 2, 2, 2, 2])
    starts = np.arange(10) / FPS
    stretches = parted(truth, found, starts, np.full(10, 0.1), 3)
    facts = [(one.start, one.end, one.frame, one.truth, one.found) for one in stretches]
    np.testing.assert_allclose(facts, [(0.6, 0.9, 7, 1, 2), (0.3, 0.5, 4, 0, 2)])


def test_many_stretches_become_what_lies_at_some_places() -> None:
    bounds = np.linspace(0, 100, 5001)
    many = Stretches(np.stack([bounds[:-1], bounds[1:]], axis=1), np.arange(5000) // 1000 % 2)
    paint = Paint.of(["a", "b"], np.array([1.0, 2.0]), None)
    drawn = line(many, 100.0, paint, "truth")
    assert drawn.count("<title>") == 5  # equal neighbours are joined
    assert paint.css == ["fill1", "fill0", "none"]
