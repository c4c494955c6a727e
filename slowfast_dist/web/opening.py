"""The address that a command with a page listens on, and what those have to show who reach it."""

import secrets
import socket
import sys
from dataclasses import dataclass

from slowfast_dist.config.errors import UserError
from slowfast_dist.web.access import is_loopback, is_wildcard
from slowfast_dist.web.server import listen

TOKEN_BYTES = 24
"""Random bytes of a token that --token auto makes: nobody tries 2^192 of them."""


@dataclass(frozen=True)
class Address:
    """A socket that listens on ``host``; ``token``: what all have to show, None: nothing."""

    listener: socket.socket
    host: str
    token: str | None

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    @property
    def shared(self) -> bool:
        """Whether other machines reach it."""
        return not is_loopback(self.host)

    def print(self) -> None:
        """Say where the page is, and to whom it is open."""
        host, port, token = self.host, self.port, self.token
        if self.shared:
            who = "who has the token" if token else "there is no login: whoever reaches it"
            print(
                f"warning: --host {host}, port {port}: {who} may use this; nothing is encrypted",
                file=sys.stderr, flush=True,
            )  # fmt: skip
        name = "localhost" if is_wildcard(host) else f"[{host}]" if ":" in host else host
        shown = f"?token={token}" if token else ""
        print(f"open http://{name}:{port}/{shown} in a browser (Ctrl-C ends this)", flush=True)


def open_address(host: str, port: int, token: str | None, no_token: bool | None) -> Address:
    """``token``: auto makes one; ``no_token``: let in whoever comes, None: there is no such flag.

    Raises UserError where the port is taken, and for an address that others reach without either.
    """
    listener = listen(host, port)
    if not is_loopback(host) and token is None and not no_token:
        other = "" if no_token is None else ", or --no-token to let in whoever comes"
        raise UserError(
            f"--host {host}: others reach it: give --token auto (it prints one that they need)"
            f"{other}"
        )
    if token is not None and no_token:
        raise UserError("--token and --no-token: give one of them")
    return Address(listener, host, secrets.token_urlsafe(TOKEN_BYTES) if token == "auto" else token)
