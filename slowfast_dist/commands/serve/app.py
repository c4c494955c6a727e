"""The addresses of the server: the page, the model's facts, and POST /predict."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from slowfast_dist.commands.serve.jobs import Job, JobQueue
from slowfast_dist.commands.serve.upload import Upload, check_headers, receive_upload
from slowfast_dist.web.access import client_key, json_line
from slowfast_dist.web.app import make_guarded_app
from slowfast_dist.web.page import Page

TICK_SECONDS = 1.0
"""Seconds after which a client that waits is sent how many videos are before its own, and it is
seen whether it is still there."""

LONG_SECONDS = 20.0
"""Seconds of an upload after which another one may have its place, where it is the slowest and all
are taken: a video of 50 MB takes so long on a line of 20 Mbit/s."""

NDJSON = "application/x-ndjson"
"""What a client accepts that wants one JSON object a line, as things are known: {"waiting": videos
before it}, {"progress": 0 to 1}, parts of the answer; the last one is the answer, or {"error",
"status"}: the status of HTTP, which goes out first, is 200 whatever comes."""


def make_app(
    predict: "PredictEndpoint", facts: Mapping[str, Any], host: str, port: int, token: str | None
) -> Starlette:
    """``facts``: what /model answers; ``host``, ``port``: the address listened on; ``token``: what
    all have to show, None: nothing."""
    page = Page(__package__, media="blob:")

    async def show_page(request: Request) -> Response:
        return page.response()

    async def show_facts(request: Request) -> Response:
        return JSONResponse(facts)

    predicting = Route("/predict", predict, methods=["POST"])
    routes = [Route("/", show_page), Route("/model", show_facts), predicting]
    return make_guarded_app(routes, host, port, token)


class PredictEndpoint:
    """POST /predict: takes a video as the body, answers with what the work on its job sends."""

    def __init__(
        self, jobs: JobQueue, max_bytes: int, time_limit: float, share: bool = False
    ) -> None:
        """``share``: strangers of several addresses come, among whom the places are shared out."""
        self.jobs, self.max_bytes, self.time_limit = jobs, max_bytes, time_limit
        self._share = share
        self._shutting_down = False
        self._uploading: dict[asyncio.Task[Any], Upload] = {}

    def shutdown(self) -> None:
        """Answer 503 to all who wait, and to all who come; in the event loop's thread."""
        self._shutting_down = True
        for task in self._uploading:
            task.cancel()
        self.jobs.fail_all(_shutdown_error())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        streamed = NDJSON in request.headers.get("accept", "")
        try:
            job = self.jobs.start(await self._receive(request))
        except HTTPException as error:
            if not streamed:
                raise
            await Response(_error_line(error), media_type=NDJSON)(scope, receive, send)
            return
        try:
            response = await self._response(request, job, streamed)
            await response(scope, receive, send)
        finally:
            self.jobs.drop(job)

    async def _receive(self, request: Request) -> Upload:
        if self._shutting_down:
            raise _shutdown_error()
        check_headers(request.headers, self.max_bytes)
        if self._share:
            self.jobs.check_share(key := client_key(request.scope))
            self._make_room()
        upload = self.jobs.open(key if self._share else None)
        task = asyncio.current_task()
        assert task is not None
        self._uploading[task] = upload
        try:
            await receive_upload(request, upload, self.max_bytes)
        except BaseException as error:
            self.jobs.close(upload)
            if isinstance(error, asyncio.CancelledError):
                raise (_shutdown_error() if self._shutting_down else _slow_error()) from None
            raise
        finally:
            self._uploading.pop(task)
        return upload

    def _make_room(self) -> None:
        """Where all places are taken, give up the slowest of the uploads that take long."""
        long = {task: one for task, one in self._uploading.items() if one.seconds() > LONG_SECONDS}
        if self.jobs.free or not long:
            return
        task, slowest = min(long.items(), key=lambda item: item[1].size / item[1].seconds())
        self.jobs.close(slowest)
        task.cancel()

    async def _response(self, request: Request, job: Job, streamed: bool) -> Response:
        if streamed:
            return StreamingResponse(_lines(self._events(job)), media_type=NDJSON)
        event: dict[str, Any] = {}
        async for event in self._events(job):
            if not event and await request.is_disconnected():
                raise ClientDisconnect
        return Response(json_line(event), media_type="application/json")

    async def _events(self, job: Job) -> AsyncIterator[dict[str, Any]]:
        """What is known of the job, as it comes, {} where nothing came for TICK_SECONDS; the whole
        answer last. Raises HTTPException where it fails or takes too long."""
        clock = asyncio.get_running_loop().time
        deadline = float("inf")
        last_ahead, answer = -1, dict[str, Any]()
        while True:
            try:
                async with asyncio.timeout(max(0.0, min(TICK_SECONDS, deadline - clock()))):
                    event = await job.events.get()
            except TimeoutError:
                event = {}
            if event is None:
                yield answer
                return
            if clock() > deadline:
                raise HTTPException(
                    504, f"the work took longer than the {self.time_limit:g} s it may take here: "
                    "give a shorter video, or a part of it",
                )  # fmt: skip
            if isinstance(event, HTTPException):
                raise event
            if event:
                if deadline == float("inf"):  # the first one: its turn has come
                    deadline = clock() + self.time_limit
                answer |= {name: value for name, value in event.items() if name != "progress"}
            elif deadline == float("inf") and (ahead := self.jobs.ahead(job)) != last_ahead:
                last_ahead, event = ahead, {"waiting": ahead}
            yield event


async def _lines(events: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    try:
        async for event in events:
            if event:
                yield json_line(event)
    except HTTPException as error:
        yield _error_line(error)


def _error_line(error: HTTPException) -> bytes:
    return json_line({"error": error.detail, "status": error.status_code})


def _slow_error() -> HTTPException:
    text = "the slowest upload was given up, as others wait: try again later, or on a faster line"
    return HTTPException(408, text)


def _shutdown_error() -> HTTPException:
    return HTTPException(503, "the server is ending")
