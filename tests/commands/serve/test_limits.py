"""The server at its limits: time, memory, its start and its end, by servers of their own."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.helpers.serving import LINES, ROOT, Server

HURRY = """
import slowfast_dist.commands.serve.upload as upload, slowfast_dist.web.server as server
upload.SILENCE_SECONDS, server.REQUEST_SECONDS = 6.0, 6.0
"""
"""Less patience than the server has for people; but more than a busy machine asks for."""


def serve(*words: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """A start that must fail."""
    code = f"{before}\nimport sys\nfrom slowfast_dist.cli.start import main\nmain(sys.argv[1:])"
    return subprocess.run(
        [sys.executable, "-c", code, "serve", *words],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


# Its start


def test_a_port_that_is_taken_is_named_with_the_remedy(run: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = serve(str(run), "--port", str(port))
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == (
        f"error: --port {port}: another program listens there: give another one, or 0 for any\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "before", "expected"),
    [
        (("--host", "192.0.2.7"), "", "error: --host 192.0.2.7: no address of this machine"),
        (("--host", "0.0.0.0"), "", "error: --host 0.0.0.0: others reach it: give --token auto"),
        (("--token", "guessme"), "", "error: --token guessme: give auto, or 16 to 256 of A to Z"),
        (("--token", "auto", "--no-token"), "", "error: --token and --no-token: give one of them"),
        (("--host", "no such name"), "", "error: --host no such name: no address of this machine"),
        ((), "import sys; sys.modules['starlette'] = None", "pip install '.[demo]'"),
        ((), "import sys; sys.modules['uvicorn'] = None", "pip install '.[demo]'"),
        (("--max-megabytes", "0"), "", "error: --max-megabytes 0"),
    ],
)
def test_a_start_that_cannot_be_ends_with_one_line(
    run: Path, words: tuple[str, ...], before: str, expected: str
) -> None:
    done = serve(str(run), "--port", "0", *words, before=before)
    assert done.returncode == 2 and done.stdout == ""
    assert expected in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_another_host_comes_with_a_warning(run: Path, tmp_path: Path) -> None:
    with Server(run, tmp_path / "server", "--host", "0.0.0.0", "--no-token") as server:
        assert server.host == "localhost"
        assert server.log.read_text() == (
            f"warning: --host 0.0.0.0, port {server.port}: there is no login: whoever reaches it "
            "may use this; nothing is encrypted\n"
        )
        assert server.ask("GET", "/", headers={"Host": "192.168.0.9"})[0] == 200
        assert server.ask("GET", "/", headers={"Host": "evil.example"})[0] == 403


# Its end


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_its_end_leaves_nothing_whatever_it_was_doing(
    run: Path, tmp_path: Path, number: signal.Signals, black: Callable[[int, int, float], bytes]
) -> None:
    with Server(run, tmp_path / "server") as server:
        long = black(11_000, 64, 20)
        uploading = server.begin(len(long), long[:1000])
        idle = server.connect()
        working = server.begin(len(long), long)  # for 8 s and more
        waiting = server.begin(len(long), long, LINES["Accept"])
        deadline = time.monotonic() + 60
        while len(server.left()) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(server.left()) == 3, "all are there, without a name"
        assert list(server.temporary.iterdir()) == []
        code, seconds = server.end(number)
        assert list(server.temporary.iterdir()) == []
        if number != signal.SIGKILL:
            assert code == 0 and seconds < 30  # 0.5 s on a machine that does nothing else
            assert b" 503 " in working.recv(1000) and b" 503 " in uploading.recv(1000)
            assert b'{"error": "the server is ending", "status": 503}\n' in whole(waiting)
            assert server.log.read_text() == ""
        for connection in (working, waiting, uploading, idle):
            connection.close()
    gone = time.monotonic() + 60
    while (left := processes_with(str(server.temporary))) and time.monotonic() < gone:
        time.sleep(0.1)
    assert left == []


def processes_with(temporary: str) -> list[int]:
    """Processes that have this temporary folder in their environment: those of the server."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                if temporary.encode() in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


# Its patience


@pytest.mark.slow
def test_who_is_slow_or_silent_is_given_up(run: Path, tmp_path: Path, video: Path) -> None:
    content = video.read_bytes()
    with Server(run, tmp_path / "server", before=HURRY) as server:
        files = server.open_files()
        silent = server.begin(len(content), content[:100])
        trickling = server.begin(len(content), content[:100])
        trickling.settimeout(0.05)
        answer, deadline = b"", time.monotonic() + 60
        while b"error" not in answer and time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                answer += trickling.recv(1000)
                continue
            trickling.sendall(b"x")
        assert b" 408 " in answer and b"slower than" in answer
        assert b"nothing came for 6 s" in whole(silent)
        beginnings = [server.connect(), server.connect()]
        beginnings[1].sendall(b"GET / HTTP/1.1\r\nHost: local")
        with server.begin(10**9) as connection:  # refused at once, but the client goes on
            assert b" 413 " in whole(connection)
        for connection in beginnings:
            assert ends(connection), "a request that is not begun, or not ended"
            connection.close()
        silent.close()
        trickling.close()
        assert server.left_soon() == [] and server.is_up()
        assert server.opened_since(files) == []
        assert server.predict(content)[0] == 200
        assert server.log.read_text() == ""


def whole(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    connection.settimeout(60)
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(1000):
            answer += part
    return answer


def ends(connection: socket.socket) -> bool:
    connection.settimeout(60)
    try:
        return connection.recv(1000) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


@pytest.mark.slow
def test_work_that_takes_too_long_is_broken_off(
    run: Path, tmp_path: Path, video: Path, black: Callable[[int, int, float], bytes]
) -> None:
    with Server(run, tmp_path / "server", "--time-limit", "0.2") as server:
        process = psutil.Process(server.process.pid)
        before = sum(process.cpu_times()[:4])  # with those of the processes that read
        status, answer = server.predict(black(11_000, 64, 20))  # 8 s and more
        assert status == 504 and "longer than the 0.2 s" in answer["error"]
        assert server.left_soon() == []
        assert sum(process.cpu_times()[:4]) - before < 4
        assert server.predict(video.read_bytes())[0] in (200, 504)
        assert server.is_up() and server.log.read_text() == ""


@pytest.mark.slow
def test_a_kilobyte_that_unfolds_into_hours_of_large_pictures_does_not_fill_the_memory(
    run: Path, tmp_path: Path, black: Callable[[int, int, float], bytes]
) -> None:
    with Server(run, tmp_path / "server", "--time-limit", "60") as server:
        before = server.memory()
        bomb = black(12, 4096, 0.01)
        assert len(bomb) < 1_000_000
        status, answer = server.predict(bomb)
        assert status == 422 and "s long, more than the 600 s" in answer["error"]
        status, _ = server.predict(black(12, 4096, 10))
        assert status in (200, 504)
        assert server.left_soon() == []
        assert server.memory() < before + 300e6


@pytest.mark.slow
def test_uploads_of_all_kinds_leave_files_and_memory_as_they_were(
    run: Path, tmp_path: Path, video: Path
) -> None:
    content, rng = video.read_bytes(), np.random.default_rng(0)
    with Server(run, tmp_path / "server", "--max-megabytes", "3") as server:
        for _ in range(5):
            assert server.predict(content)[0] == 200
        files, memory = server.open_files(), server.memory()
        for turn in range(12):
            damaged = bytearray(content)
            for place in rng.integers(0, len(content), 20 if turn % 2 else 0):
                damaged[place] = rng.integers(256)
            upload = bytes(damaged) if turn % 10 else rng.bytes(2_000_000)
            status, answer = server.predict(upload)
            assert status in (200, 415, 422) and ("error" in answer) == (status != 200)
        after_memory = server.memory()
        print(f"server: {memory / 1e6:.0f} MB after 5 uploads, {after_memory / 1e6:.0f} after 17")
        assert server.left_soon() == [] and server.opened_since(files) == []
        assert after_memory < memory + 60e6
        assert server.log.read_text() == ""


FULL = """
import errno
import slowfast_dist.video.guarded_reader as guard
def refuse(size): raise OSError(errno.ENOMEM, "Cannot allocate memory")
guard.new_memory = refuse
"""
"""No decoding process can be started."""


@pytest.mark.slow
def test_a_machine_without_memory_is_said_in_one_line(
    run: Path, tmp_path: Path, video: Path
) -> None:
    with Server(run, tmp_path / "server", before=FULL) as server:
        status, answer = server.predict(video.read_bytes())
        cause = "a decoding process does not start: Cannot allocate memory"
        assert status == 503 and answer["error"].startswith(
            f"the server cannot read videos now: {cause}"
        )
        said = server.log.read_text()
        assert f"warning: {cause}" in said and "Traceback" not in said
