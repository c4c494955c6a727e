"""A real server for the tests: its process, its own temporary folder, and what is left there."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

import psutil

ROOT = Path(__file__).parents[2]
CLASSES = ("moves <b>left</b>", "<img src=x onerror=alert(1)>", "dreht 'sich' & \"steht\"", "招手")
"""They would break a careless page."""
BINARY = {"Content-Type": "application/octet-stream"}
LINES = {"Accept": "application/x-ndjson"}


class Server:
    """``serve``, or another ``command`` with a page, in a process of its own; ``before``: Python
    that runs there first."""

    def __init__(
        self, run: Path, folder: Path, *flags: str, before: str = "", command: str = "serve"
    ) -> None:
        self.folder = folder
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        if command == "serve" and "--backend" not in flags:
            flags = (*flags, "--backend", "torch")  # auto may prepare OpenVINO, for seconds
        start = f"{before}\nimport sys, slowfast_dist.cli.start as s\ns.main(sys.argv[1:])"
        self.log = folder / "stderr"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", start, command, str(run), "--port", "0", *flags],
                cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(self.temporary)},
            )  # fmt: skip
        assert self.process.stdout
        said, found = "", None
        while found is None:
            self.line = self.process.stdout.readline()
            said += self.line
            assert self.line, f"no address in {said!r}; {self.log.read_text()}"
            found = re.search(r"http://(\S+):(\d+)/(\S*) ", self.line)
        self.said = said
        self.host, self.port, self.query = found[1].strip("[]"), int(found[2]), found[3]

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/{self.query}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, what the answer holds (read as JSON where it says so), headers."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=300)
        chunked = body is not None and not isinstance(body, bytes)
        connection.request(method, path, body, headers or {}, encode_chunked=chunked)
        answer = connection.getresponse()
        content: Any = answer.read()
        found = {name.lower(): value for name, value in answer.getheaders()}
        connection.close()
        if found.get("content-type") == "application/json":
            content = json.loads(content)
        return answer.status, content, found

    def predict(self, video: bytes | Iterable[bytes], **more: str) -> tuple[int, Any]:
        return self.ask("POST", "/predict", video, BINARY | more)[:2]

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=120)

    def begin(self, size: int, sent: bytes = b"", accept: str = "*/*") -> socket.socket:
        """An upload that promises ``size`` bytes and sends ``sent``."""
        connection = self.connect()
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"
            + f"Accept: {accept}\r\nContent-Length: {size}\r\n\r\n".encode() + sent
        )  # fmt: skip
        return connection

    def is_up(self) -> bool:
        return self.ask("GET", "/")[0] == 200

    def open_files(self) -> Counter[str]:
        """What the server has open, as Linux names it: a path, or "socket:[NUMBER]"."""
        found: Counter[str] = Counter()
        held = Path(f"/proc/{self.process.pid}/fd")
        for descriptor in held.iterdir() if held.exists() else ():
            with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
                found[os.readlink(descriptor)] += 1
        return found

    def left(self) -> list[str]:
        """Files in the temporary folder, and those that the server holds without a name."""
        names = [str(path) for path in self.temporary.rglob("*")]
        names += self.open_files().elements()
        return [name for name in names if name.startswith(str(self.temporary))]

    def left_soon(self) -> list[str]:
        """`left`, once the server had the time to notice that a client is gone."""
        return _once_empty(self.left)

    def opened_since(self, before: Counter[str]) -> list[str]:
        """What it has open that it had not then, once it had the time to close a connection and to
        end what it had started."""
        return _once_empty(lambda: list((self.open_files() - before).elements()))

    def memory(self) -> int:
        """Resident bytes of the server."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def end(self, number: signal.Signals) -> tuple[int, float]:
        """Exit code, and the seconds it took."""
        start = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(120), time.monotonic() - start


def _once_empty(find: Callable[[], list[str]], seconds: float = 60.0) -> list[str]:
    """What it finds: nothing, or what is still there after so many seconds."""
    deadline = time.monotonic() + seconds
    while (found := find()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found
