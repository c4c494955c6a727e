"""The page as people use it: a real browser, real videos, and the list that training reads."""

import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest

from slowfast_dist.data.listing.segments import locate
from slowfast_dist.video.probe import probe_file
from slowfast_dist.video.reader import read_frames
from tests.commands.review.conftest import Start
from tests.helpers.browser import new_context, wait_until
from tests.helpers.serving import Server
from tests.helpers.video_kinds import KINDS, Videos, read_number
from tests.report.test_browser import CONTRAST

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

pytestmark = pytest.mark.slow


@dataclass
class Visit:
    """A page, with what it complained of and where it sent requests."""

    page: "Page"
    problems: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def text(self, element: str) -> str:
        return self.page.text_content(f"#{element}") or ""

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def playing(self, path: str) -> None:
        """Wait until that video is there to be seen."""
        self.page.wait_for_selector(f"#path:text-is({json.dumps(path)})")
        script = "document.getElementById('video').readyState >= 2"
        wait_until(self.page, f"{script} && document.getElementById('waiting').textContent === ''")

    def saved(self, words: str) -> None:
        self.page.wait_for_selector(f"#said:has-text({json.dumps('Saved: ' + words)})")

    def overflow(self) -> int:
        return int(self.page.evaluate("document.documentElement.scrollWidth - innerWidth"))


Open = Callable[..., Visit]


@pytest.fixture
def visit(browser: "Browser") -> Iterator[Open]:
    """At the end: no line in the console, no error, no request to anywhere else."""
    visits = []

    def open_page(server: Server, width: int = 1280, **options: Any) -> Visit:
        visit = Visit(new_context(browser, width, **options).new_page())
        visits.append(visit)

        def note_line(line: Any) -> None:
            # That an answer is refused is shown on the page; Chromium lists it besides.
            if "status of 409 (Conflict)" not in line.text:
                visit.problems.append(line.text)

        def note_request(request: "Request") -> None:
            if not request.url.startswith((server.url, "data:")):
                visit.elsewhere.append(request.url)

        visit.page.on("console", note_line)
        visit.page.on("pageerror", lambda error: visit.problems.append(str(error)))
        visit.page.on("request", note_request)
        visit.page.goto(server.url)
        return visit

    yield open_page
    for visit in visits:
        visit.page.context.close()
        assert visit.problems == [] and visit.elsewhere == []


def rows(path: Path) -> dict[str, tuple[str, str, str]]:
    with open(path, newline="") as file:
        return {row["path"]: (row["label"], row["start"], row["end"])
                for row in csv.DictReader(file)}  # fmt: skip


FIRST, SECOND = "moves right/clip_000.mp4", "moves right/clip_002.mp4"


def test_labels_are_mended_by_keys_alone(
    run: Path, review: Start, visit: Open, tmp_path: Path
) -> None:
    output = tmp_path / "annotations.csv"
    seen = visit(review(run))
    seen.playing(FIRST)
    assert seen.text("label") == "moves right" and seen.text("model").startswith("moves left 9")
    assert seen.page.locator("#classes kbd").all_text_contents() == ["1", "2", "3"]
    seen.press("1")  # a class, and on to the next
    seen.playing(SECOND)
    assert rows(output)[FIRST] == ("moves left", "", "")
    assert "1 answered" in seen.text("place")
    seen.press("Space")  # pauses; then a cut, which is kept at once
    wait_until(seen.page, "document.getElementById('video').paused")
    seen.page.wait_for_timeout(300)  # the last picture is on the screen, and counted
    clock = seen.text("clock")
    seen.press(".")  # not the first frame, with which the segment is the whole video as it was
    wait_until(seen.page, f"document.getElementById('clock').textContent !== {json.dumps(clock)}")
    seen.page.wait_for_timeout(300)
    clock = seen.text("clock")
    said = seen.text("said")
    seen.press("[")
    wait_until(seen.page, f"document.getElementById('said').textContent !== {json.dumps(said)}")
    start = float(re.findall(r"0:0(\S+),", clock)[0])
    assert float(rows(output)[SECOND][1] or 0) == pytest.approx(start, abs=1e-3)
    seen.press("w")
    seen.saved("the whole video")
    assert rows(output)[SECOND] == ("moves right", "", "")
    seen.press("Enter")  # right as it is
    seen.saved("moves right")
    seen.page.wait_for_selector("#place:has-text('2 answered')")
    third = seen.text("path")
    seen.playing(third)
    seen.press("x")
    seen.saved("left out")
    assert third not in rows(output)
    seen.page.wait_for_selector("#place:has-text('3 answered')")
    seen.press("u")
    seen.page.wait_for_selector("#said:has-text('Undone')")
    assert third in rows(output) and seen.text("path") == third
    seen.playing(third)
    seen.press("s")
    seen.saved("skipped")
    wait_until(seen.page, f"document.getElementById('path').textContent !== {json.dumps(third)}")
    fourth = seen.text("path")
    seen.press("+")
    seen.page.keyboard.type("stands still")
    seen.press("Enter")
    seen.saved("stands still")
    assert rows(output)[fourth][0] == "stands still"
    seen.press("b", "b")
    seen.press("?")
    assert seen.page.locator("#help").is_visible()
    assert seen.page.locator("#find-key").is_hidden()  # of four classes none has to be found
    seen.press("Escape")
    assert seen.page.locator("#help").is_hidden()


def test_another_window_is_told_and_nothing_is_written_over(
    run: Path, review: Start, visit: Open, tmp_path: Path
) -> None:
    server = review(run)
    one, other = visit(server), visit(server)
    one.playing(FIRST)
    other.playing(FIRST)
    one.press("1")
    one.playing(SECOND)
    other.press("3")
    other.page.wait_for_selector("#error:has-text('another window has answered')")
    assert other.text("label") == "moves left", "what the first one said"
    assert rows(tmp_path / "annotations.csv")[FIRST][0] == "moves left"
    other.press("3")  # in sight of it
    other.playing(SECOND)
    assert rows(tmp_path / "annotations.csv")[FIRST][0] == "turns clockwise"


def test_a_class_among_many_is_found_by_typing(
    clips: Path, review: Start, visit: Open, tmp_path: Path
) -> None:
    names = [f"class {number:02}" for number in range(30)]
    table = tmp_path / "list.csv"
    table.write_text("path,label\n" + "".join(
        f"moves left/clip_{number % 4:03}.mp4,{name}\n" for number, name in enumerate(names[:4])
    ))  # fmt: skip
    run = tmp_path / "many"
    (run / "models").mkdir(parents=True)
    (run / "models" / "best_model.json").write_text(json.dumps({"classes": names}))
    seen = visit(review(run, "--list", str(table), "--videos", str(clips)))
    seen.playing("moves left/clip_000.mp4")
    keys = seen.page.locator("#classes kbd").all_text_contents()
    assert len(keys) == len(set(keys)) == 24 and keys[:10] == [*"123456789", "a"]
    seen.press("/")
    seen.page.keyboard.type("s 27")
    assert seen.page.locator("#classes button").all_text_contents() == ["class 27"]
    seen.press("Enter")
    seen.playing("moves left/clip_001.mp4")
    assert rows(tmp_path / "annotations.csv")["moves left/clip_000.mp4"][0] == "class 27"
    seen.press("a")
    seen.saved("class 09")
    seen.press("?")
    assert seen.page.locator("#find-key").is_visible()


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (768, "light"), (1280, "dark")])
def test_nothing_overflows_and_all_can_be_touched(
    run: Path, review: Start, visit: Open, tmp_path: Path, width: int, scheme: str
) -> None:
    seen = visit(review(run), width, color_scheme=scheme, has_touch=True)
    seen.playing(FIRST)
    assert seen.overflow() <= 0
    dark = seen.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (dark == "rgb(17, 22, 27)") == (scheme == "dark")
    shown = seen.page.locator("main button:visible, main input:visible, main select:visible")
    for box in shown.evaluate_all("all => all.map(one => [one.offsetWidth, one.offsetHeight])"):
        assert min(box) >= 44, "WCAG 2.2, 2.5.5: 44 px"
    seen.page.locator("#start-more").tap()
    seen.saved("from 0:00.")
    seen.page.locator("#classes button", has_text="moves left").tap()
    seen.playing(SECOND)
    assert rows(tmp_path / "annotations.csv")[FIRST] == ("moves left", "0.066667", "1.600")


NAMELESS = """() => [...document.querySelectorAll("button, input, select, video, progress")]
  .filter(one => one.checkVisibility())
  .filter(one => !(one.textContent.trim() || one.getAttribute("aria-label") || one.labels?.length
    || one.getAttribute("aria-labelledby"))).map(one => one.outerHTML)"""


def test_all_has_a_name_and_nothing_moves_by_itself_where_that_is_not_wanted(
    run: Path, review: Start, visit: Open
) -> None:
    seen = visit(review(run), reduced_motion="reduce")
    seen.playing(FIRST)
    assert seen.page.evaluate(NAMELESS) == []
    assert seen.page.evaluate("document.getElementById('video').paused")
    assert seen.page.evaluate("document.getElementById('video').currentTime") < 0.1
    seen.page.locator("#next").click()
    seen.playing(SECOND)
    assert seen.page.evaluate("document.activeElement.id") == "path", "it is read aloud"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_its_ground(
    run: Path, review: Start, visit: Open, scheme: str
) -> None:
    """WCAG 2.2, 1.4.3: a contrast of 4.5, of every text that is shown."""
    seen = visit(review(run), color_scheme=scheme)
    seen.playing(FIRST)
    found = seen.page.evaluate(CONTRAST)
    assert len(found) > 30 and found[0][0] >= 4.5, found[:5]


NUMBER = """() => {
  const video = document.getElementById("video");
  const [width, height] = [video.videoWidth, video.videoHeight];
  const canvas = Object.assign(document.createElement("canvas"), {width, height});
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.drawImage(video, 0, 0, width, height);
  return [...Array(8).keys()].reduce((number, bit) => {
    const x = Math.floor(width * (2 * bit + 1) / 16), [red] = context.getImageData(x, height / 4, 1, 1).data;
    return number | (red > 128 ? 1 << bit : 0);
  }, 0);
}"""  # noqa: E501

OTHERS = {"H.264 many groups", "HEVC", "HEVC keyint 48", "H.264 intra"}
"""Kinds that differ from others here only in their length."""


def test_what_is_cut_in_the_browser_is_what_training_reads(
    videos: Videos, review: Start, visit: Open, tmp_path: Path
) -> None:
    """Each picture carries its number: the frames that were on the screen at both ends are those of
    the segment, in every kind of file, played as it is or as a copy."""
    folder = tmp_path / "kinds"
    folder.mkdir()
    kinds = [name for name in KINDS if name not in OTHERS]
    for place, name in enumerate(kinds):
        source = videos.path(name)
        shutil.copyfile(source, folder / f"{place:02}{source.suffix}")
    seen = visit(review(folder), reduced_motion="reduce")
    cut = dict[str, list[int]]()
    for name in sorted(path.name for path in folder.iterdir()):
        seen.playing(name)
        numbers = []
        for steps, key in ((7, "["), (9, "]")):
            for _ in range(steps):
                seen.press(".")
                wait_until(seen.page, "!document.getElementById('video').seeking")
            seen.page.wait_for_timeout(100)  # the picture is composed after the seek has ended
            numbers.append(seen.page.evaluate(NUMBER))
            seen.press(key)
            seen.saved("from")
            seen.page.evaluate("document.getElementById('said').textContent = ''")
        wait_until(seen.page, "!document.getElementById('video').seeking")
        if not cut:
            seen.press("+")
            seen.page.keyboard.type("seen")
            seen.press("Enter")
        else:
            seen.press("1")
        cut[name] = numbers
    seen.page.wait_for_selector("#said:has-text('All are answered')")
    listed = rows(tmp_path / "annotations.csv")
    assert len(listed) == len(kinds)
    wrong = {}
    for place, (name, numbers) in enumerate(sorted(cut.items())):
        _, start, end = listed[name]
        path = folder / name
        info = probe_file(path)
        [[first, behind]] = locate(info, np.array([[float(start), float(end)]])).spans.tolist()
        ends = read_frames(path, np.array([first, behind - 1]), info, "pyav", None)
        if (read := [read_number(frame) for frame in ends]) != numbers:
            wrong[kinds[place]] = numbers, read
    assert wrong == {}


def test_real_videos_that_no_browser_plays_are_played(
    real_data: Path, review: Start, visit: Open, tmp_path: Path
) -> None:
    """HEVC of 10 bits, AVI, uneven times, two streams, a rotation, MPEG: each is seen, and where it
    cannot be read the page says why and goes on."""
    odd = sorted(path.name for path in (real_data / "odd").iterdir() if path.suffix != ".md")
    seen = visit(review(real_data / "odd"), reduced_motion="reduce")
    found = {}
    for name in odd:
        seen.page.wait_for_selector(f"#path:text-is({json.dumps(name)})")
        ready = "document.getElementById('video').readyState >= 2"
        broken = "!document.getElementById('broken').hidden"
        empty = "document.getElementById('waiting').textContent === ''"
        wait_until(seen.page, f"({ready} && {empty}) || {broken}")
        size = seen.page.evaluate("[video.videoWidth, video.videoHeight]")
        found[name] = seen.text("broken") if seen.page.locator("#broken").is_visible() else size
        seen.press("n")
    shown = {name for name, size in found.items() if isinstance(size, list) and size[0] > 0}
    unread = {name for name in odd if name not in shown}
    assert {name for name in odd if not _is_readable(real_data / "odd" / name)} == unread
    assert all(found[name].startswith("cannot be read: ") for name in unread)


def _is_readable(path: Path) -> bool:
    from slowfast_dist.video.container import DecodeError

    try:
        probe_file(path)
    except DecodeError:
        return False
    return True


def test_a_segment_of_a_long_video_plays_its_part_alone(
    real_data: Path, review: Start, visit: Open, tmp_path: Path
) -> None:
    source = real_data / "odd" / "long_1394f_10fps.mp4"  # 139 s
    long = tmp_path / "long.avi"  # which no browser plays
    with av.open(str(source)) as reader, av.open(str(long), "w") as writer:
        stream = reader.streams.video[0]
        copy = writer.add_stream("mpeg4", rate=10, options={"qscale": "8"})
        copy.width, copy.height, copy.pix_fmt = 160, 120, "yuv420p"
        for number, frame in enumerate(reader.decode(stream)):
            small = frame.reformat(160, 120, "yuv420p")
            small.pts, small.time_base = number, Fraction(1, 10)
            writer.mux(copy.encode(small))
        writer.mux(copy.encode(None))
    table = tmp_path / "list.csv"
    table.write_text("path,label,start,end\nlong.avi,a,100,103\nlong.avi,b,20,21\nlong.avi,b,,\n")
    server = review(table)
    first = server.ask("GET", "/video/1")[1]  # by path and time: 20 to 21 s comes second
    assert first["copy"] and first["duration"] == pytest.approx(139.4, abs=0.2)
    whole = server.ask("GET", "/video/0")[1]
    assert (whole["from"], whole["to"]) == (0, pytest.approx(90, abs=0.2))
    seen = visit(server, reduced_motion="reduce")
    for place in (1, 2):
        seen.playing("long.avi")
        seen.press("n")
        seen.page.wait_for_selector(f"#place:has-text('{place + 1} of 3')")
    seen.page.wait_for_selector("#clock:has-text('1:40.000, frame 1001 of 1394')")
    seen.playing("long.avi")
    now = "document.getElementById('clock').textContent"
    seen.press("Space")
    times = set()
    for _ in range(60):
        seen.page.wait_for_timeout(100)
        minutes, seconds = re.findall(r"(\d+):(\S+),", seen.page.evaluate(now))[0]
        times.add(60 * int(minutes) + float(seconds))
    assert min(times) >= 100 and max(times) <= 103.05 and len(times) > 5, "around and around"
    seen.press("Space", "v")  # all of it: a part that is not here yet is fetched
    seen.page.locator("#seek").fill("10")
    seen.page.wait_for_selector("#clock:has-text('0:10.000, frame 101 of 1394')")
    seen.playing("long.avi")
    assert seen.page.evaluate("video.currentTime") == pytest.approx(5.05, abs=0.01)
