"""A stand-in for the Hugging Face hub on loopback: what huggingface_hub asks of it for an upload
and a download, over HTTP, with its own rules for logins and names. It keeps what it is given."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

TOKEN, USER = "hf_secret", "me"
LARGE = 100_000
"""Bytes from which a file goes through Git LFS."""


@dataclass
class Hub:
    """``repositories``: name -> file -> content; ``private``: name -> whether it is."""

    url: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)
    status: int | None = None
    """Answered to everything, where it is set."""


@contextmanager
def hub_server() -> Iterator[Hub]:
    hub = Hub()

    class Handler(_Handler):
        state = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Refused(Exception):
    def __init__(self, status: int, message: str, content: Any = None) -> None:
        self.status, self.message = status, message
        self.content = {"error": message} if content is None else content


class _Handler(BaseHTTPRequestHandler):
    state: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None: ...

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def do_GET(self) -> None:
        self._answer("GET")

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def _answer(self, method: str) -> None:
        body, path = self._body(), unquote(urlsplit(self.path).path)
        headers: dict[str, str] = {}
        try:
            if self.state.status is not None:
                raise _Refused(self.state.status, "as the test wants it")
            if not path.startswith("/lfs/") and self.headers["Authorization"] != f"Bearer {TOKEN}":
                raise _Refused(401, "Invalid credentials in Authorization header")
            status, found, headers = 200, *self._found(method, path, body)
        except _Refused as refused:
            status, found = refused.status, refused.content
            headers = {"X-Error-Message": refused.message}
        content = found if isinstance(found, bytes) else json.dumps(found).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if method != "HEAD":
            self.wfile.write(content)

    def _body(self) -> bytes:
        if "chunked" not in (self.headers["Transfer-Encoding"] or ""):
            return self.rfile.read(int(self.headers["Content-Length"] or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _found(self, method: str, path: str, body: bytes) -> tuple[Any, dict[str, str]]:
        hub = self.state
        if path.startswith("/lfs/"):
            assert hashlib.sha256(body).hexdigest() == path[5:]
            hub.objects[path[5:]] = body
            return {}, {}
        if path == "/api/repos/create":
            return self._create(json.loads(body)), {}
        if path == "/api/validate-yaml":
            return _validated(json.loads(body)["content"]), {}
        if match := re.fullmatch(r"/(.+?/.+?)\.git/info/lfs/objects/batch", path):
            objects = json.loads(body)["objects"]
            for one in objects:
                one["actions"] = {"upload": {"href": f"{hub.url}/lfs/{one['oid']}"}}
            return {"transfer": "basic", "objects": objects}, {}
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/.*)?", path):
            return self._of_model(match[1], match[2] or "", body), {}
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            content = self._files(match[1])[match[2]]
            return content, {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": hub.commits[-1]}
        raise _Refused(404, f"nothing at {method} {path}")

    def _create(self, wanted: dict[str, Any]) -> dict[str, str]:
        name = f"{wanted['organization']}/{wanted['name']}"
        if wanted["organization"] != USER:
            raise _Refused(403, f"you may not create repositories of {wanted['organization']}")
        url = {"url": f"{self.state.url}/{name}"}
        if name in self.state.repositories:
            raise _Refused(409, "You already created this model repo", url)
        self.state.repositories[name] = {}
        # Versions of the library differ in the word for it.
        self.state.private[name] = wanted.get("private", wanted.get("visibility") == "private")
        return url

    def _files(self, name: str) -> dict[str, bytes]:
        if name not in self.state.repositories:
            raise _Refused(404, "Repository not found")
        return self.state.repositories[name]

    def _of_model(self, name: str, what: str, body: bytes) -> Any:
        hub, files = self.state, self._files(name)
        if what.startswith("/preupload/"):
            return {
                "files": [
                    {"path": file["path"], "shouldIgnore": False,
                     "uploadMode": "lfs" if file["size"] >= LARGE else "regular"}
                    for file in json.loads(body)["files"]
                ]
            }  # fmt: skip
        if what.startswith("/commit/"):
            for line in body.splitlines():
                key, value = (entry := json.loads(line))["key"], entry["value"]
                if key == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif key == "lfsFile":
                    files[value["path"]] = hub.objects[value["oid"]]
                else:
                    assert key == "header", key
            hub.commits.append(hashlib.sha1(body).hexdigest())
            url = f"{hub.url}/{name}/commit/{hub.commits[-1]}"
            return {"success": True, "commitUrl": url, "commitOid": hub.commits[-1]}
        if what.startswith("/tree/"):
            return [
                {"type": "file", "path": path, "size": len(content), "oid": _oid(content)}
                for path, content in files.items()
            ]
        siblings = [{"rfilename": path} for path in files]
        return {"id": name, "sha": hub.commits[-1], "private": True, "siblings": siblings}


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def _validated(content: str) -> dict[str, Any]:
    """The hub wants the front matter to be a YAML mapping, and results with a value each."""
    match = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
    problems = []
    try:
        front = yaml.safe_load(match[1]) if match else {}
        for model in front.get("model-index", []):
            for result in model["results"]:
                problems += [] if {"task", "dataset", "metrics"} <= set(result) else ["results"]
    except (yaml.YAMLError, AttributeError) as error:
        problems.append(str(error))
    if problems:
        errors = {"errors": [{"message": text} for text in problems], "warnings": []}
        raise _Refused(400, "Invalid metadata", errors)
    return {"errors": [], "warnings": []}
