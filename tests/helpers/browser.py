"""A real Chromium for the tests of pages: the system's, or the one that playwright brought."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip
PATIENCE = 120_000.0
"""In ms: how long a page may take for what a test waits for. A busy machine is no failure."""


def no_driver_because(folder: Path) -> str | None:
    """Why the driver in playwright's ``folder``, a Node.js of its own, does not run here.

    None where it does."""
    node = folder / "driver" / "node"
    try:
        done = subprocess.run([node, "--version"], capture_output=True, text=True)
    except OSError as error:
        return f"playwright's driver does not start: {error}"
    if done.returncode == 0:
        return None
    # A minimal Debian: "... error while loading shared libraries: libatomic.so.1: cannot open ..."
    said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return f"playwright's driver does not start: {said.removeprefix(f'{node}: ')}"


@contextmanager
def chromium() -> "Iterator[Browser]":
    """Skips the tests that ask for it where playwright, its driver or a browser is missing."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: '.[test]'")
    if why := no_driver_because(Path(sync_api.__file__).parents[1]):
        pytest.skip(why)
    path = next(filter(None, map(shutil.which, NAMES)), None)
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(
                executable_path=path, args=FLAGS, timeout=PATIENCE
            )  # without a path, the one that playwright brought
        except sync_api.Error as error:
            if path is None:
                pytest.skip(f"needs one of {', '.join(NAMES)}, or `playwright install chromium`")
            pytest.skip(f"{path} does not start: {str(error).strip().splitlines()[0]}")
        yield browser
        browser.close()


def new_context(browser: "Browser", width: int = 1280, **options: Any) -> "BrowserContext":
    """A visitor of his own, with a window so many px wide, who waits as long as it takes."""
    context = browser.new_context(viewport={"width": width, "height": 800}, **options)
    context.set_default_timeout(PATIENCE)
    return context


def wait_until(page: "Page", expression: str) -> None:
    """Wait until JavaScript is true. page.wait_for_function asks again by eval(), which a page's
    policy may refuse."""
    deadline = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"never true: {expression}"
        page.wait_for_timeout(50)
