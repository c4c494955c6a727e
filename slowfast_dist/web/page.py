"""A page of one HTML file with its style and script inside, which loads nothing from elsewhere."""

import base64
import hashlib
from importlib.resources import files

from starlette.responses import HTMLResponse, Response


class Page:
    """page.html of a package, with its page.css and page.js in place of /*STYLE*/ and /*SCRIPT*/.

    ``policy``, its Content-Security-Policy: this script and this style run, nothing else does, and
    nothing is fetched but from the same server.
    """

    def __init__(self, package: str, media: str) -> None:
        """``media``: where its videos may come from, as blob: or 'self'."""
        page, style, script = (
            (files(package) / f"page.{ending}").read_text(encoding="utf-8")
            for ending in ("html", "css", "js")
        )
        self.html = page.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script)
        self.policy = "; ".join((
            "default-src 'none'", f"script-src {_hash(script)}", f"style-src {_hash(style)}",
            "img-src data:", f"media-src {media}", "connect-src 'self'",
            "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
        ))  # fmt: skip

    def response(self) -> Response:
        return HTMLResponse(self.html, headers={"Content-Security-Policy": self.policy})


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
