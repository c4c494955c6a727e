"""The page in a real browser: nothing leaves it, nothing overflows, and it can be used."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slowfast_dist.cli import main as cli
from slowfast_dist.data.synthetic import make_videos
from tests.helpers.browser import new_context, wait_until
from tests.helpers.made_runs import HOSTILE, made_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser

WIDTHS = (360, 768, 1280)
TWO = ("moves left", "moves right")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of a run with thumbnails, of one with hostile names, and of both compared."""
    root = tmp_path_factory.mktemp("pages")
    make_videos(root / "clips", 3, 0, size=64, frames=24, classes=TWO)
    names = [f"{name}/clip_{number:03}.mp4" for name in TWO for number in range(3)]
    plain = made_run(
        root / "plain", list(TWO), epochs=30, videos=3, data=root / "clips", names=names, skill=0.2
    )
    hostile = made_run(root / "hostile", HOSTILE, videos=6)
    compared = root / "comparison.html"
    cli.main(["report", str(plain)])
    cli.main(["report", str(hostile)])
    cli.main(["report", str(plain), str(hostile), "--output", str(compared)])
    return {"plain": plain / "report.html", "hostile": hostile / "report.html",
            "compared": compared}  # fmt: skip


class Opened:
    """A page in a context of its own, with what it complained of and asked for."""

    def __init__(self, browser: "Browser", path: Path, width: int, scheme: str = "light") -> None:
        self.context = new_context(browser, width, color_scheme=scheme)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.route("**/*", self._route)
        self.page.goto(path.as_uri())

    def _route(self, route: Any) -> None:
        self.requests.append(route.request.url)
        route.continue_()

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


@pytest.mark.parametrize(
    "name",
    [
        "plain",
        pytest.param("hostile", marks=pytest.mark.slow),
        pytest.param("compared", marks=pytest.mark.slow),
    ],
)
def test_nothing_leaves_the_page_and_nothing_overflows(
    browser: "Browser", pages: dict[str, Path], name: str
) -> None:
    for width in WIDTHS:
        with Opened(browser, pages[name], width) as opened:
            page = opened.page
            page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.mouse.move(width / 2, 400)
            page.mouse.wheel(0, 3000)
            assert page.evaluate("window.stolen") is None
            wait_until(page, "[...document.images].every(one => one.naturalWidth > 0)")
            left = [url for url in opened.requests if not url.startswith("data:")]
            assert left == [pages[name].as_uri()]
            assert opened.complaints == []


MORE = """one => [one.scrollWidth - one.clientWidth,
  parseFloat(getComputedStyle(one).getPropertyValue("--more"))]"""


LINES = "one => Math.round(one.offsetHeight / parseFloat(getComputedStyle(one).lineHeight))"


def test_a_table_that_goes_on_to_the_right_shows_so(
    browser: "Browser", pages: dict[str, Path]
) -> None:
    with Opened(browser, pages["hostile"], 360) as opened:
        wide = opened.page.locator("#classes .scroll").first
        now = f"({MORE})(document.querySelector('#classes .scroll'))"
        wait_until(opened.page, f"{now}.every(one => one > 20)")  # once a first picture is drawn
        wide.evaluate("one => one.scrollTo(one.scrollWidth, 0)")
        wait_until(opened.page, f"{now}[1] == 0")
    with Opened(browser, pages["plain"], 1280) as opened:
        assert opened.page.locator("#classes .scroll").first.evaluate(MORE) == [0, 0]
        heads = opened.page.locator("#confusion thead th + th span")
        sizes = heads.evaluate_all("all => all.map(one => [one.scrollHeight, one.clientHeight])")
        assert len(sizes) == 2 and all(whole <= shown for whole, shown in sizes)


def test_names_are_not_broken_inside_words_that_fit(
    browser: "Browser", pages: dict[str, Path]
) -> None:
    with Opened(browser, pages["plain"], 360) as opened:
        for place in ("#classes .scores", "#confusion tbody"):
            name = opened.page.locator(f"{place} bdi").first
            for text, count in (("hand_shaking", 1), ("turns anticlockwise", 2)):
                name.evaluate("(one, text) => one.textContent = text", text)
                assert name.evaluate(LINES) <= count, (place, text)


@pytest.mark.slow
def test_the_policy_lets_nothing_else_run(browser: "Browser", pages: dict[str, Path]) -> None:
    with Opened(browser, pages["plain"], 1280) as opened:
        opened.page.evaluate(
            """() => {
                window.refused = [];
                document.addEventListener("securitypolicyviolation",
                    event => window.refused.push(event.effectiveDirective));
                const script = document.createElement("script");
                script.textContent = "window.stolen = 1";
                document.body.append(script);
                const image = document.createElement("img");
                image.src = "http://127.0.0.1:9/x.png";
                document.body.append(image);
            }"""
        )
        wait_until(opened.page, "window.refused.length >= 2")
        refused = opened.page.evaluate("window.refused")
        assert sorted(refused) == ["img-src", "script-src-elem"]
        assert opened.page.evaluate("window.stolen") is None
        assert not any("127.0.0.1" in url for url in opened.requests)


COLUMN = "one => [...one.tBodies[0].rows].map(row => row.cells[{}].textContent.trim())"


def test_tables_are_sorted_by_click_and_by_keyboard(
    browser: "Browser", pages: dict[str, Path]
) -> None:
    with Opened(browser, pages["hostile"], 1280) as opened:
        table = opened.page.locator("#classes table.sortable").first
        recall = table.locator("th", has_text="Recall")
        recall.locator("button").click()
        values = [float(text) for text in table.evaluate(COLUMN.format(2))]
        assert values == sorted(values, reverse=True) and len(set(values)) > 1
        assert recall.get_attribute("aria-sort") == "descending"
        recall.locator("button").focus()
        opened.page.keyboard.press("Enter")
        values = [float(text) for text in table.evaluate(COLUMN.format(2))]
        assert values == sorted(values) and recall.get_attribute("aria-sort") == "ascending"
        opened.page.keyboard.press("Shift+Tab")  # to Precision
        opened.page.keyboard.press("Shift+Tab")  # to Class
        opened.page.keyboard.press("Space")
        names = table.evaluate(COLUMN.format(0))
        assert names == opened.page.evaluate(
            "names => [...names].sort((a, b) => a.localeCompare(b, undefined, {numeric: true}))",
            names,
        )
        assert recall.get_attribute("aria-sort") == "none"
        assert opened.complaints == []


@pytest.mark.slow
def test_it_reads_without_scripts(browser: "Browser", pages: dict[str, Path]) -> None:
    context = new_context(browser, java_script_enabled=False)
    page = context.new_page()
    page.goto(pages["plain"].as_uri())
    assert page.locator("#classes th", has_text="Recall").is_visible()
    assert page.locator("th button").count() == 0
    context.close()


CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const parse = (text) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const light = ([r, g, b]) => {
    const part = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const under = (node) => {
    const layers = [];
    const drawn = node.previousElementSibling;  // as of a segment, whose name is written on it
    if (node.matches("svg svg > text") && drawn?.tagName === "rect")
      layers.push(parse(getComputedStyle(drawn).fill));
    for (; node; node = node.parentElement)
      layers.push(parse(getComputedStyle(node).backgroundColor));
    let colour = [255, 255, 255];
    for (const [r, g, b, a] of layers.reverse())
      colour = [r, g, b].map((v, i) => a * v + (1 - a) * colour[i]);
    return colour;
  };
  const found = [];
  for (const node of document.querySelectorAll("main *")) {
    const own = [...node.childNodes].some(one => one.nodeType === 3 && one.textContent.trim());
    if (!own || node.closest("title") || !node.getClientRects().length) continue;
    const style = getComputedStyle(node);
    const colour = parse(node.closest("svg") ? style.fill : style.color);
    const [a, b] = [light(colour), light(under(node))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), node.tagName, node.className.baseVal ?? node.className,
      node.textContent.trim().slice(0, 30)]);
  }
  return found.sort((x, y) => x[0] - y[0]);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["plain", pytest.param("compared", marks=pytest.mark.slow)])
def test_all_text_stands_out_from_its_ground(
    browser: "Browser", pages: dict[str, Path], name: str, scheme: str
) -> None:
    """WCAG 2.2, 1.4.3: a contrast of 4.5, of every text that is shown."""
    with Opened(browser, pages[name], 1280, scheme) as opened:
        found = opened.page.evaluate(CONTRAST)
        assert len(found) > 100 and found[0][0] >= 4.5, found[:5]
        ground = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        bright = sum(int(part) for part in ground[4:-1].split(",")) > 3 * 128
        assert bright == (scheme == "light")
