"""Which requests are answered: those of the user's own browser and programs, and how others are
refused.

A page of another site, open in the same browser, can send requests to loopback addresses; and with
a name of its own that resolves to one (DNS rebinding) it could read the answers. The Host and
Origin headers tell, which such a page cannot choose.
"""

import hashlib
import hmac
import ipaddress
import json
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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


def client_key(scope: Scope) -> str:
    """Whose request it is: the address that it comes from, of IPv6 the network of 64 bits that one
    household has. What a header says of others (X-Forwarded-For) anybody can write."""
    address = _address((scope.get("client") or ("",))[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.ip_network((address, 64), strict=False))
        address = address.ipv4_mapped
    return str(address)


LOGIN_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Token</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"></head>
<body><form action="/" method="get"><label>Token that the server asks for:
<input name="token" type="password" autocomplete="off" required autofocus></label>
<button>Open</button></form></body></html>
"""

LOGIN_POLICY = "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"


class TokenMiddleware:
    """Lets only those through to ``app`` who show the token: as ``Authorization: Bearer TOKEN``, or
    once in the address of the page, ``/?token=TOKEN``, which gives the browser a cookie.

    The page itself answers that address, and its script takes the token out of it: a redirect that
    a page of another site began would not send a cookie that is SameSite=Strict. The cookie's value
    is made of the token, so that it cannot be read from there. What is compared is so in constant
    time, before anything of the body is read.
    """

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        """``port``: browsers send cookies of a host to all its ports."""
        self.app = app
        self.token = token.encode()
        self.cookie = f"slowfast_dist_{port}"
        self.value = hmac.digest(self.token, b"cookie", hashlib.sha256).hex()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        is_page = scope["path"] == "/" and scope["method"] in ("GET", "HEAD")
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if is_page and self._is(self.token, *(text.encode() for text in query.get("token", ()))):

            async def send_with_cookie(message: Message) -> None:
                if message["type"] == "http.response.start":
                    line = f"{self.cookie}={self.value}; HttpOnly; SameSite=Strict; Path=/"
                    message["headers"] = [*message["headers"], (b"set-cookie", line.encode())]
                await send(message)

            await self.app(scope, receive, send_with_cookie)
        elif self._is_known(headers):
            await self.app(scope, receive, send)
        elif is_page:
            policy = {"Content-Security-Policy": LOGIN_POLICY}
            await HTMLResponse(LOGIN_PAGE, 401, policy)(scope, receive, send)
        else:
            text = "the token is missing or wrong: send it as Authorization: Bearer TOKEN"
            answer = error_response(401, text, {"WWW-Authenticate": "Bearer"})
            await answer(scope, receive, send)

    def _is_known(self, headers: Headers) -> bool:
        bearer = [
            value[7:].strip()
            for value in headers.getlist("authorization")
            if value[:7].lower() == "bearer "
        ]
        if self._is(self.token, *(text.encode("latin-1") for text in bearer)):
            return True
        # As a browser reads them: Python's SimpleCookie drops all of them at the first odd one,
        # which any other program on this host may have set.
        cookie = cookie_parser(headers.get("cookie", "")).get(self.cookie)
        return cookie is not None and self._is(self.value.encode(), cookie.encode())

    @staticmethod
    def _is(wanted: bytes, *given: bytes) -> bool:
        return len(given) == 1 and hmac.compare_digest(wanted, given[0])


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
