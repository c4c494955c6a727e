"""From facts to one HTML file: the templates, the page's policy, and whose file it is."""

import time
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2

from slowfast_dist.files import atomic_write
from slowfast_dist.text import clean

MARKER = "slowfast_dist report"
"""In the head of every page, by which one is known that may be written anew."""
HEAD_BYTES = 2048
"""Of a page, in which the marker is."""


@cache
def _templates() -> jinja2.Environment:
    def shown(value: Any) -> Any:
        return clean(value) if type(value) is str else value

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=shown,
    )


@cache
def _parts() -> dict[str, str]:
    """Style sheet and script, and a policy that lets these alone work, by their hashes."""
    style = _templates().get_template("style.css").render()
    script = _templates().get_template("sort.js").render()

    def digest(text: str) -> str:
        return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"

    policy = (
        f"default-src 'none'; img-src data:; style-src {digest(style)}; "
        f"script-src {digest(script)}; base-uri 'none'; form-action 'none'"
    )
    return {"style": style, "script": script, "policy": policy}


def render(template: str, context: Mapping[str, Any]) -> bytes:
    """The page as UTF-8. All text in ``context`` is escaped; only charts are taken as they are."""
    try:
        version = metadata.version("slowfast_dist")
    except metadata.PackageNotFoundError:
        version = ""
    written = f"{version} on {time.strftime('%Y-%m-%d at %H:%M')}".strip()
    page = _templates().get_template(template)
    text = page.render({**context, "marker": MARKER, "written": written, **_parts()})
    return text.encode("utf-8", "replace")


def is_foreign(path: Path) -> bool:
    """Whether something is at ``path`` that no report wrote. Raises OSError."""
    if not path.exists() and not path.is_symlink():
        return False
    if not path.is_file():
        return True
    with open(path, "rb") as file:
        return f'content="{MARKER}"'.encode() not in file.read(HEAD_BYTES)


def write_page(path: Path, content: bytes) -> None:
    """Write it whole or not at all. Raises OSError with the path."""
    with atomic_write(path) as file:
        file.write(content)
