"""The addresses of the server: the page, the model's facts, and POST /predict."""

import asyncio
import base64
import functools
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from slowfast_dist.commands.serve.access import Access, ClientGone, Refusal, refuse
from slowfast_dist.commands.serve.jobs import (
    DONE,
    GONE,
    STARTED,
    Job,
    Jobs,
    Line,
    check_headers,
    receive_upload,
)

TICK_SECONDS = 1.0
"""After which a client that waits is told how many are before it."""

LINES = "application/x-ndjson"
"""What a client accepts that wants one JSON object a line, as things are known: {"waiting": videos
before it}, {"progress": 0 to 1}, parts of the answer; the last one is the answer, or {"error",
"status"}: the status of HTTP, which goes out first, is 200 whatever comes."""


def make_app(
    jobs: Jobs, predict: "Predict", facts: Mapping[str, Any], host: str
) -> Access:
    """``facts``: what /model answers; ``host``: the address listened on."""

    async def show_page(request: Request) -> Response:
        return HTMLResponse(page(), headers={"Content-Security-Policy": POLICY})

    async def show_facts(request: Request) -> Response:
        return JSONResponse(facts)

    async def show_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        line = {404: "there is nothing here", 405: f"not with {request.method}"}
        text = line.get(error.status_code, error.detail)
        return JSONResponse({"error": text}, error.status_code, error.headers)

    routes = [
        Route("/", show_page),
        Route("/model", show_facts),
        Route("/predict", predict, methods=["POST"]),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: show_error})
    app.router.redirect_slashes = False
    return Access(app, host)


class Predict:
    """POST /predict: takes a video as the body, answers with what `scoring` tells of it."""

    def __init__(self, jobs: Jobs, max_bytes: int, time_limit: float) -> None:
        self.jobs = jobs
        self.max_bytes = max_bytes
        self.time_limit = time_limit
        self._ending = False
        self._active: set[asyncio.Task[Any]] = set()

    def end(self) -> None:
        """Tell all who wait that the server ends; in the event loop's thread."""
        self._ending = True
        for task in self._active:
            task.cancel()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = Headers(scope=scope)
        answer = Answer(send, LINES in headers.get("accept", ""))
        task = asyncio.current_task()
        assert task is not None
        self._active.add(task)
        try:
            await self._predict(headers, receive, answer)
        except asyncio.CancelledError:
            if not self._ending:
                raise
            await answer.refuse(Refusal(503, "the server is ending"))
        except Refusal as refusal:
            await answer.refuse(refusal)
        except ClientGone:
            pass
        finally:
            self._active.discard(task)

    async def _predict(self, headers: Headers, receive: Any, answer: "Answer") -> None:
        if self._ending:
            raise Refusal(503, "the server is ending")
        check_headers(headers, self.max_bytes)
        upload = self.jobs.open()
        try:
            await receive_upload(receive, upload, self.max_bytes)
        except BaseException:
            self.jobs.close(upload)
            raise
        job = self.jobs.start(upload)
        watching = asyncio.create_task(_watch(receive, job))
        try:
            await self._follow(job, answer)
        finally:
            self.jobs.drop(job)
            watching.cancel()

    async def _follow(self, job: Job, answer: "Answer") -> None:
        """Pass on what the job tells. Raises Refusal where it fails or takes too long."""
        clock = asyncio.get_running_loop().time
        deadline: float | None = None
        told, result = -1, dict[str, Any]()
        while True:
            patience = TICK_SECONDS if deadline is None else deadline - clock()
            try:
                async with asyncio.timeout(max(0.0, min(TICK_SECONDS, patience))):
                    event = await job.events.get()
            except TimeoutError:
                event = dict[str, Any]()
            if deadline is not None and clock() > deadline and event != DONE:
                raise Refusal(
                    504, f"the work took longer than the {self.time_limit:g} s it may take here: "
                    "give a shorter video, or a part of it",
                )  # fmt: skip
            if isinstance(event, Refusal):
                raise event
            if event == GONE:
                raise ClientGone
            if event == STARTED:
                deadline = clock() + self.time_limit
                await answer.line({"progress": 0.0})
            elif event == DONE:
                await answer.end(result)
                return
            elif isinstance(event, dict) and event:
                result |= {name: value for name, value in event.items() if name != "progress"}
                await answer.line(event)
            elif deadline is None and (ahead := self.jobs.ahead(job)) != told:
                told = ahead
                await answer.line({"waiting": ahead})


async def _watch(receive: Any, job: Job) -> None:
    """Let the job know when its client goes away."""
    while (await receive())["type"] != "http.disconnect":
        pass
    job.tell(GONE)


class Answer:
    """To one request: one JSON object, or one a line as they come."""

    def __init__(self, send: Any, lines: bool) -> None:
        self._send, self._lines = send, lines
        self._started = False

    async def line(self, line: Line) -> None:
        """On the way to the answer; only for those who want it."""
        if self._lines:
            await self._send_line(line, more=True)

    async def end(self, result: Line) -> None:
        await self._send_line(result, more=False)

    async def refuse(self, refusal: Refusal) -> None:
        if self._lines:
            error = {"error": refusal.line, "status": refusal.status}
            await self._send_line(error, more=False)
        else:
            await refuse(self._send, refusal)

    async def _send_line(self, value: Line, more: bool) -> None:
        if not self._started:
            self._started = True
            kind = LINES if self._lines else "application/json"
            headers = [(b"content-type", kind.encode())]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        body = f"{text}\n".encode(errors="replace")
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


# The page: one HTML file with its style and script inside, which loads nothing from anywhere.


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
