"""Which requests are answered: those of the user's own browser and programs, and how others are
refused.

A page of another site, open in the same browser, can send requests to loopback addresses; and with
a name of its own that resolves to one (DNS rebinding) it could read the answers. The Host and
Origin headers tell, which such a page cannot choose.
"""

import ipaddress
import json
import socket
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Headers of every answer: nothing is stored, framed, sniffed, or shown to another site."""


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


def json_line(value: Mapping[str, Any]) -> bytes:
    """One JSON object on a line, in UTF-8."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode(errors="replace")


def error_response(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """An answer that says in one line of ``text``, which the page shows as it is, what is wrong."""
    return Response(json_line({"error": text}), status, headers, "application/json")


class SameOriginMiddleware:
    """Answers 403 in place of ``app`` to requests under another name, or from another site's page.

    Starlette's TrustedHostMiddleware (1.10) compares with a list of names: it cannot allow every
    address, as is needed where the server listens on all of them, and answers 400 in plain text.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        """``host``: the address listened on."""
        self.app = app
        self.names = LOOPBACK_NAMES | {host.lower()}
        self.any_address = is_wildcard(host)
        if self.any_address:
            self.names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope["method"], Headers(scope=scope))
        app = self.app if refusal is None else error_response(403, refusal)
        await app(scope, receive, send)

    def _refusal(self, method: str, headers: Headers) -> str | None:
        host = headers.get("host", "").lower()  # the HTTP parser sees to it that there is only one
        # Without the port, and the brackets of an IPv6 address.
        name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        # An address is what the browser really connected to: only a name can be made to lie.
        if name not in self.names and not (self.any_address and _address(name) is not None):
            shown = name[:80] or "of nobody"
            return f"not under the name {shown}: use the address that the server printed"
        if method in ("GET", "HEAD") or headers.getlist("sec-fetch-site") == ["same-origin"]:
            return None
        # A program sends none. The scheme may differ, behind what adds https.
        for origin in headers.getlist("origin"):
            if origin.lower().partition("://")[2] != host:
                return "not from the page of another site"
        return None
