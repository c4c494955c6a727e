"""The page: one HTML file with its style and script inside, which loads nothing from anywhere."""

import base64
import functools
import hashlib
from importlib.resources import files


def _part(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


STYLE, SCRIPT = _part("page.css"), _part("page.js")


@functools.cache
def page() -> str:
    """The whole HTML file."""
    return _part("page.html").replace("/*STYLE*/", STYLE).replace("/*SCRIPT*/", SCRIPT)


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


POLICY = "; ".join((
    "default-src 'none'",
    f"script-src {_hash(SCRIPT)}",
    f"style-src {_hash(STYLE)}",
    "img-src data:",
    "media-src blob:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
))  # fmt: skip
"""Content-Security-Policy: this script and this style run, nothing else does, and nothing is
fetched but from this server."""
