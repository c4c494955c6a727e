"""Downloads are bounded while they arrive, whatever the server says of their size."""

from collections.abc import Iterator
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from slowfast_dist.model.download import PART, download


class Answers(BaseHTTPRequestHandler):
    """/SENT/TOLD: so many bytes, of which the header tells another number, or none."""

    def do_GET(self) -> None:
        sent, told = self.path.strip("/").split("/")
        self.send_response(200)
        if told != "none":
            self.send_header("Content-Length", told)
        self.end_headers()
        self.wfile.write(b"x" * int(sent))

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("told", ["1000", "none"])
def test_as_many_bytes_as_allowed(server: str, tmp_path: Path, told: str) -> None:
    download(f"{server}/1000/{told}", tmp_path / "cache" / "a.bin", 1000)
    assert (tmp_path / "cache" / "a.bin").read_bytes() == b"x" * 1000
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["a.bin"]


@pytest.mark.parametrize("told", ["1001", "none", "9" * 30])
def test_one_byte_more_is_refused_and_nothing_kept(server: str, tmp_path: Path, told: str) -> None:
    with pytest.raises(OSError, match="it gives more than 1,000 bytes"):
        download(f"{server}/1001/{told}", tmp_path / "a.bin", 1000)
    assert list(tmp_path.iterdir()) == []


def test_no_more_is_taken_than_the_bound_and_a_part(server: str, tmp_path: Path) -> None:
    sizes: list[Path] = []
    with pytest.raises(OSError, match="more than 1,000 bytes"):
        download(f"{server}/{20 * PART}/none", tmp_path / "a.bin", 1000, sizes.append)
    assert sizes == []  # was not looked at


def test_a_download_that_ends_early_is_not_kept(server: str, tmp_path: Path) -> None:
    with pytest.raises((OSError, HTTPException)):
        download(f"{server}/100/500", tmp_path / "a.bin", 1000)
    assert list(tmp_path.iterdir()) == []
