"""Who may ask: the user's own browser and programs, on this page's own behalf.

A page of another site, open in the same browser, can send requests to loopback addresses; and with
a name of its own that resolves to one (DNS rebinding) it could read the answers. The Host and
Origin headers tell, which such a page cannot choose.
"""

import ipaddress
import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every answer."""


def is_wildcard(host: str) -> bool:
    """Whether it stands for all addresses of the machine."""
    address = _address(host)
    return host == "" or (address is not None and address.is_unspecified)


def is_loopback(host: str) -> bool:
    """Whether no other machine reaches it."""
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


class Access:
    """Answers, in front of ``app``, those who may not ask; adds HEADERS to what the others get."""

    def __init__(self, app: Any, host: str) -> None:
        """``host``: the address listened on."""
        self.app = app
        self.names = LOCAL_NAMES | {host.lower()}
        self.any_address = is_wildcard(host)
        if self.any_address:
            self.names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                more = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *more]}
            await send(message)

        try:
            self.check(scope["method"], _headers(scope["headers"]))
        except Refusal as refusal:
            await refuse(send_with_headers, refusal)
        else:
            await self.app(scope, receive, send_with_headers)

    def check(self, method: str, headers: Mapping[str, str]) -> None:
        """Raise Refusal for a request under another name, or from another site's page."""
        host = headers.get("host", "").lower()
        name = host_name(host)
        # An address is what the browser really connected to: only a name can be made to lie.
        if name not in self.names and not (self.any_address and _address(name) is not None):
            raise Refusal(403, f"not under the name {name[:80] or 'of nobody'}: use the address "
                               "that the server printed")  # fmt: skip
        if method in ("GET", "HEAD") or headers.get("sec-fetch-site") == "same-origin":
            return
        origin = headers.get("origin")
        # A program sends none. The scheme may differ, behind what adds https.
        if origin is not None and origin.lower().partition("://")[2] != host:
            raise Refusal(403, "not from the page of another site")


def host_name(host: str) -> str:
    """Of a Host header: without the port, and the brackets of an IPv6 address."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _headers(pairs: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """By name in small letters; of one that is given twice, both, so that neither is trusted."""
    found: dict[str, str] = {}
    for name, value in pairs:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


# What the server answers where it gives no prediction.


class Refusal(Exception):
    """An HTTP ``status`` and one line for people, which the page shows as it is."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(status, line)
        self.status = status
        self.line = line

    @property
    def headers(self) -> dict[str, str]:
        """Those of HTTP that go with it."""
        return {"Retry-After": "10"} if self.status == 429 else {}


async def refuse(send: Any, refusal: Refusal) -> None:
    """Answer a request with {"error": line}."""
    body = json.dumps({"error": refusal.line}, ensure_ascii=False).encode() + b"\n"
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    pairs = [
        (name.lower().encode(), value.encode())
        for name, value in (headers | refusal.headers).items()
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


class ClientGone(Exception):
    """Nobody waits for the answer any more."""
