"""With --host strangers come: who has the token gets in, and nobody gets all places."""

import http.client
import json
import select
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from starlette.types import Scope

from slowfast_dist.commands.serve.jobs import MAX_OF_ADDRESS, MAX_UPLOADS
from slowfast_dist.web.access import client_key
from slowfast_dist.web.server import MAX_CONNECTIONS_OF_ADDRESS
from tests.helpers.browser import chromium, new_context, wait_until
from tests.helpers.serving import BINARY, Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

QUICK = "import slowfast_dist.commands.serve.app as app; app.LONG_SECONDS = 0.2"
"""So that a test need not wait until an upload takes long."""


@pytest.fixture(scope="module")
def guarded(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("guarded")
    with Server(run, folder, "--host", "0.0.0.0", "--token", "auto", before=QUICK) as server:
        yield server


def token_of(server: Server) -> str:
    assert server.query.startswith("?token=")
    return server.query.removeprefix("?token=")


def test_only_who_shows_the_token_gets_in(guarded: Server, video: Path) -> None:
    token = token_of(guarded)
    assert len(token) == 32 and "who has the token may use this" in guarded.log.read_text()
    status, page, headers = guarded.ask("GET", "/")
    assert status == 401 and b'type="password"' in page and b"<script" not in page
    assert "set-cookie" not in headers and headers["cache-control"] == "no-store"
    for path in ("/model", "/nothing"):
        status, said, headers = guarded.ask("GET", path)
        assert status == 401 and "the token is missing or wrong" in said["error"]
        assert headers["www-authenticate"] == "Bearer"
    wrong = [
        {}, {"Authorization": f"Bearer {token[:-1]}"}, {"Authorization": f"Bearer {token}x"},
        {"Authorization": f"Basic {token}"}, {"Authorization": "Bearer \xe9"},
        {"Cookie": f"slowfast_dist_{guarded.port}={token}"}, {"Cookie": "=;\x80="},
    ]  # fmt: skip
    for given in wrong:
        assert guarded.predict(video.read_bytes(), **given)[0] == 401
        assert guarded.ask("GET", "/model", headers=given)[0] == 401
    for query in (f"?token={token[1:]}", "?token=", f"?token={token}&token={token}", "?token=%ff"):
        assert guarded.ask("GET", f"/{query}")[0] == 401
    assert guarded.ask("GET", f"/model?token={token}")[0] == 401  # of the page alone
    status, answer = guarded.predict(video.read_bytes(), Authorization=f"Bearer {token}")
    assert status == 200 and answer["top"]
    status, page, headers = guarded.ask("GET", f"/?token={token}")
    assert status == 200 and b"Drop a video here" in page
    name, *attributes = headers["set-cookie"].split("; ")
    assert set(attributes) == {"HttpOnly", "SameSite=Strict", "Path=/"} and token not in name
    for others in ("a=b; ", 'a={"x":1}; ', "a b=c; \x80; =; a=[1,2]; "):  # of other programs here
        assert guarded.ask("GET", "/model", headers={"Cookie": others + name})[0] == 200
    assert guarded.ask("GET", "/", headers={"Cookie": name, "Host": "evil.example"})[0] == 403
    assert not guarded.left_soon()


def test_a_body_without_the_token_is_not_read(guarded: Server) -> None:
    with guarded.begin(10**6) as connection:  # which never comes
        assert connection.recv(1000).startswith(b"HTTP/1.1 401 ")
        assert guarded.left() == []


def begin(server: Server, address: str, more: str = "") -> socket.socket:
    """An upload from one of the addresses of this machine that says 1 MB and sends 8 bytes."""
    connection = socket.create_connection(
        ("127.0.0.1", server.port), timeout=120, source_address=(address, 0)
    )
    connection.sendall(
        f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n{more}"
        f"Authorization: Bearer {token_of(server)}\r\n\r\n".encode() + bytes(8)
    )
    return connection


def answer_of(connection: socket.socket) -> bytes:
    said = b""
    while b"}" not in said and (more := connection.recv(4096)):
        said += more
    return said


def predict(server: Server, address: str, video: Path) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(
        "127.0.0.1", server.port, timeout=300, source_address=(address, 0)
    )
    headers = BINARY | {"Authorization": f"Bearer {token_of(server)}"}
    connection.request("POST", "/predict", video.read_bytes(), headers)
    answer = connection.getresponse()
    content = json.loads(answer.read())
    connection.close()
    return answer.status, content


def wait_for_places(server: Server, places: int) -> None:
    deadline = time.monotonic() + 60
    while len(server.left()) < places and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(server.left()) == places


@pytest.mark.slow
def test_slow_ones_do_not_hold_all_places(guarded: Server, video: Path) -> None:
    slow = [begin(guarded, "127.0.0.1") for _ in range(MAX_OF_ADDRESS)]
    wait_for_places(guarded, MAX_OF_ADDRESS)
    # What a header says of another address is not believed.
    with begin(guarded, "127.0.0.1", "X-Forwarded-For: 10.0.0.7\r\n") as one_more:
        said = answer_of(one_more)
    assert said.startswith(b"HTTP/1.1 429 ") and b"videos of your address" in said
    assert predict(guarded, "127.0.0.2", video)[0] == 200
    slow += [begin(guarded, "127.0.0.2") for _ in range(MAX_UPLOADS - MAX_OF_ADDRESS)]
    wait_for_places(guarded, MAX_UPLOADS)
    deadline = time.monotonic() + 60  # until they are slow
    while (status := predict(guarded, "127.0.0.3", video)[0]) == 429:
        assert time.monotonic() < deadline
    assert status == 200
    wait_for_places(guarded, MAX_UPLOADS - 1)
    answered, _, _ = select.select(slow, [], [], 60)
    assert ["the slowest upload was given up" in answer_of(one).decode() for one in answered] == [
        True
    ]
    for connection in slow:
        connection.close()
    assert not guarded.left_soon()


def test_one_address_does_not_hold_all_connections(guarded: Server) -> None:
    held = [
        socket.create_connection(("127.0.0.1", guarded.port), 120, source_address=("127.0.0.4", 0))
        for _ in range(MAX_CONNECTIONS_OF_ADDRESS + 1)
    ]
    with suppress(ConnectionResetError):
        assert held[-1].recv(1) == b""
    assert guarded.ask("GET", "/")[0] == 401
    for connection in held:
        connection.close()


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("10.0.0.7", "10.0.0.7"), ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"), ("::ffff:10.0.0.7", "10.0.0.7"),
    ],
)  # fmt: skip
def test_whose_a_request_is(address: str, key: str) -> None:
    scope: Scope = {"client": (address, 4000)}
    assert client_key(scope) == key


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with chromium() as found:
        yield found


@pytest.mark.slow
def test_a_browser_shows_the_token_once(guarded: Server, browser: "Browser") -> None:
    for by_form in (False, True):
        context = new_context(browser)
        page = context.new_page()
        plain = f"http://localhost:{guarded.port}/"
        if by_form:
            page.goto(plain)
            page.get_by_label("Token").fill("wrong")
            page.get_by_role("button", name="Open").click()
            page.get_by_label("Token").fill(token_of(guarded))
            page.get_by_role("button", name="Open").click()
        else:
            page.goto(guarded.url)
        wait_until(page, "document.getElementById('model')?.textContent.includes('classes')")
        assert page.url == plain  # the script took the token out of it
        [cookie] = context.cookies()
        assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
        assert page.evaluate("document.cookie") == ""
        page.goto(plain)  # the cookie is enough
        wait_until(page, "document.getElementById('model')?.textContent.includes('classes')")
        context.close()
