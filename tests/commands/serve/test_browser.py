"""The page as people use it: a real browser on a real server with real videos."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.browser import new_context, wait_until
from tests.helpers.serving import CLASSES, Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FileChooser, Page, Request

pytestmark = pytest.mark.slow


@dataclass
class Visit:
    """A page, with what it complained of and where it sent requests."""

    page: "Page"
    problems: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    choosers: list["FileChooser"] = field(default_factory=list)

    def overflow(self) -> int:
        return int(self.page.evaluate("document.documentElement.scrollWidth - innerWidth"))


@pytest.fixture
def visit(browser: "Browser", server: Server) -> Iterator[Callable[..., Visit]]:
    contexts = []

    def open_page(width: int = 1280, **options: Any) -> Visit:
        context = new_context(browser, width, **options)
        contexts.append(context)
        visit = Visit(context.new_page())
        own = (server.url, f"blob:{server.url}", "data:")
        page = visit.page
        page.on("console", lambda line: visit.problems.append(line.text))
        page.on("pageerror", lambda error: visit.problems.append(str(error)))
        page.on("dialog", lambda dialog: visit.problems.append(f"a dialog: {dialog.message}"))

        def note_request(request: "Request") -> None:
            if not request.url.startswith(own):
                visit.elsewhere.append(request.url)

        page.on("request", note_request)
        # Listening makes the browser hand choosers over instead of opening them. The order goes
        # another way than keys, which may overtake it: so it is given before the page is there.
        page.on("filechooser", lambda chooser: visit.choosers.append(chooser))
        page.goto(server.url)
        return visit

    yield open_page
    for context in contexts:
        context.close()


def position(page: "Page") -> float:
    return float(page.evaluate("document.getElementById('video').currentTime"))


def test_a_video_is_played_predicted_and_sought_through(
    visit: Callable[..., Visit], server: Server, video: Path
) -> None:
    seen = visit()
    page = seen.page
    page.set_input_files("#files", video)
    page.wait_for_selector("#segments:not([hidden])")
    assert page.text_content("#name") == video.name
    names = page.locator("#best .line span:first-child").all_text_contents()
    assert sorted(names) == sorted(CLASSES), "all of them, as they are written"
    widths = page.locator("#best .bar div").evaluate_all("all => all.map(each => each.offsetWidth)")
    assert widths == sorted(widths, reverse=True) and widths[0] > widths[-1] > 0
    wait_until(page, "document.getElementById('video').videoWidth === 128")
    segments = page.locator("#track button")
    count = segments.count()
    assert count == page.locator("#segments button").count() > 1
    page.evaluate("document.getElementById('video').pause()")
    segments.nth(count - 1).click()
    last = position(page)
    page.locator("#segments button").first.click()
    assert position(page) < 0.05 and last > 1
    first = page.locator("#segments button").first.locator("span").nth(1).text_content()
    assert page.text_content("#current") == first
    before = page.locator("#head").bounding_box()
    page.evaluate("document.getElementById('video').currentTime = 2")
    page.wait_for_selector("#clock:text-is('0:02.0')")
    after = page.locator("#head").bounding_box()
    assert before and after and after["x"] > before["x"] + 50
    assert seen.problems == [] and seen.elsewhere == []
    assert server.left_soon() == []


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (768, "light"), (1280, "dark")])
def test_nothing_overflows_at_any_width(
    visit: Callable[..., Visit], video: Path, width: int, scheme: str
) -> None:
    seen = visit(width, color_scheme=scheme)
    assert seen.overflow() <= 0
    seen.page.set_input_files("#files", video)
    seen.page.wait_for_selector("#segments:not([hidden])")
    assert seen.overflow() <= 0
    dark = seen.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (dark == "rgb(17, 22, 27)") == (scheme == "dark")
    assert seen.problems == [] and seen.elsewhere == []


def test_what_is_refused_says_so_and_the_next_video_is_scored(
    visit: Callable[..., Visit], video: Path, tmp_path: Path
) -> None:
    text, large = tmp_path / "text.mp4", tmp_path / "large.mp4"
    text.write_text("no video")
    large.write_bytes(video.read_bytes() + bytes(1_000_000))
    seen = visit(360)
    page = seen.page
    page.set_input_files("#files", [text, large, video])
    page.wait_for_selector("#error:not([hidden])")
    error = page.text_content("#error") or ""
    assert error.startswith("text.mp4: not a video: give one as mp4")
    assert page.locator("#unplayable").is_hidden(), "no promise beside a refusal"
    queue = page.locator("#queue button")
    queue.nth(1).click()
    page.wait_for_selector("#error:has-text('larger than the 1 MB')")
    queue.nth(2).click()
    page.wait_for_selector("#work.done")
    assert page.locator("#segments").is_visible()
    assert page.locator("#error").is_hidden()
    words = page.locator("#queue button span:last-child").all_text_contents()
    assert words[:2] == ["refused", "refused"] and words[2] in CLASSES
    assert seen.overflow() <= 0
    assert seen.problems == [] and seen.elsewhere == []


def test_it_is_used_with_the_keyboard_alone(visit: Callable[..., Visit], video: Path) -> None:
    seen = visit()
    page = seen.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"
    for moment in range(2400):
        if seen.choosers:
            break
        if moment % 100 == 0:  # as one does where nothing happened: once in CI, nothing did
            page.keyboard.press("Enter")
        page.wait_for_timeout(50)
    seen.choosers[-1].set_files(video)
    page.wait_for_selector("#segments:not([hidden])")
    wait_until(page, "document.getElementById('video').videoWidth === 128")
    page.evaluate("document.getElementById('video').pause()")  # or it would go on, and begin anew
    page.locator("#track button").first.focus()
    page.keyboard.press("End")
    last = page.locator("#track button").last
    assert last.evaluate("each => each === document.activeElement")
    assert last.get_attribute("aria-pressed") == "true"
    assert last.get_attribute("aria-label")
    assert seen.problems == []


def test_a_video_that_the_browser_cannot_play_is_predicted_all_the_same(
    visit: Callable[..., Visit], unplayable: Path
) -> None:
    seen = visit()
    seen.page.set_input_files("#files", unplayable)
    seen.page.wait_for_selector("#unplayable:not([hidden])")
    seen.page.wait_for_selector("#segments:not([hidden])")
    assert seen.page.locator("#video").is_hidden()
    seen.page.locator("#track button").last.click()
    assert seen.page.text_content("#current") in CLASSES
    assert seen.problems == [] and seen.elsewhere == []


def test_real_clips(visit: Callable[..., Visit], real_data: Path) -> None:
    clips = sorted((real_data / "ut_interaction").glob("*/set1_seq01_*.mp4"))[:2]
    seen = visit(768)
    seen.page.set_input_files("#files", [*clips, real_data / "odd" / "portrait_406x720.mp4"])
    seen.page.locator("#queue button").last.click()
    seen.page.wait_for_selector("#segments:not([hidden])")
    wait_until(seen.page, "document.getElementById('video').videoHeight === 720")
    assert seen.overflow() <= 0
    assert seen.problems == [] and seen.elsewhere == []


def test_what_is_unknown_is_grey(
    browser: "Browser", run: Path, unplayable: Path, tmp_path: Path
) -> None:
    models = Path(shutil.copytree(run, tmp_path / "models"))
    facts = json.loads((models / "best_model.json").read_text())
    (models / "best_model.json").write_text(json.dumps(facts | {"min_confidence": 1.0}))
    colour = "all => all.map(each => getComputedStyle(each).backgroundColor.split(' ')[1])"
    with Server(models, tmp_path / "server") as server:
        context = new_context(browser, 1280)
        page = context.new_page()
        page.goto(server.url)
        page.set_input_files("#files", unplayable)
        page.wait_for_selector("#segments:not([hidden])")
        names = page.locator("#segments button span:nth-child(2)").all_text_contents()
        assert set(names) == {"unknown"}
        for place in ("#track button", "#segments .dot"):
            assert set(page.locator(place).evaluate_all(colour)) == {"0"}
        assert "0" not in page.locator("#best .bar div").evaluate_all(colour)
        context.close()
