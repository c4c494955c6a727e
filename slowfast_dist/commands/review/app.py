"""The addresses of the page: what is reviewed, what is played, and POST of an answer."""

import asyncio
from collections.abc import Sequence
from math import isfinite
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from slowfast_dist.annotations.segments import DIGITS
from slowfast_dist.annotations.segments import MOST_SECONDS as MOST_TIME
from slowfast_dist.commands.review.answers import Answer, Answers, StaleError
from slowfast_dist.commands.review.media import Media, Playable
from slowfast_dist.commands.review.samples import Sample, Source
from slowfast_dist.metrics.cells import SEPARATOR, parted
from slowfast_dist.system.files import reason_of
from slowfast_dist.system.parsing import parse_json
from slowfast_dist.system.text import clean, unwritable
from slowfast_dist.web.access import error_response, json_line
from slowfast_dist.web.app import make_guarded_app
from slowfast_dist.web.page import Page

MOST_BODY = 64 * 1024
"""Bytes of the largest answer that is read: hundreds of long labels."""

MOST_NAME = 200
"""Characters of the longest name of a class."""

AT_SECONDS = 50.0
"""Seconds of a long video that are copied from the time on that is asked for: in all about as much
as of a short one."""

LETTERS = {"open": "o", "done": "d", "skipped": "s", "dropped": "x"}
"""A sample's status in a word of one letter a sample, which of 100,000 is small."""


class Review:
    """The samples in the order in which they are shown, by number from 0."""

    def __init__(
        self, source: Source, queue: Sequence[Sample], ids: Sequence[str], answers: Answers,
        media: Media, facts: dict[str, Any],
    ) -> None:  # fmt: skip
        """``ids``: what the answers call each of ``queue``; ``facts``: what /facts says beside."""
        self.source, self.queue, self.ids = source, queue, ids
        self.answers, self.media, self.facts = answers, media, facts

    def app(self, host: str, port: int, token: str | None) -> Starlette:
        page = Page(__package__, media="'self'")

        async def show_page(request: Request) -> Response:
            return page.response()

        routes = [
            Route("/", show_page),
            Route("/facts", self.show_facts),
            Route("/item/{number:int}", self.show_item),
            Route("/video/{number:int}", self.show_video),
            Route("/media/{number:int}", self.send_media),
            Route("/answer", self.take_answer, methods=["POST"]),
            Route("/class", self.take_class, methods=["POST"]),
        ]
        return make_guarded_app(routes, host, port, token)

    @property
    def classes(self) -> list[str]:
        """The source's, then those that were added: a key stays that of its class."""
        return list(dict.fromkeys([*self.source.classes, *self.answers.classes]))

    # --- what is asked ---

    async def show_facts(self, request: Request) -> Response:
        statuses = await run_in_threadpool(self.answers.statuses, self.ids)
        letters = "".join(LETTERS[status] for status in statuses)
        return _json({**self.facts, "statuses": letters, "classes": self.classes,
                      "several": self.source.several})  # fmt: skip

    async def show_item(self, request: Request) -> Response:
        number = self._number(request)
        sample = self.queue[number]
        now = await run_in_threadpool(self.answers.now, self.ids[number])
        return _json({
            "number": number, "path": clean(sample.path), "part": [sample.start, sample.end],
            "labels": sample.labels, "predicted": parted(sample.predicted),
            "probability": sample.probability, "label_probability": sample.label_probability,
            "reason": sample.reason, "now": _told(now), "classes": self.classes,
        })  # fmt: skip

    async def show_video(self, request: Request) -> Response:
        number, found = await self._find(request)
        if isinstance(found, str):
            return _json({"unreadable": found})
        query = request.url.query
        source = f"media/{number}" + (f"?{query}" if query else "")
        return _json({**found.facts(), "source": source})

    async def send_media(self, request: Request) -> Response:
        _, found = await self._find(request)
        if isinstance(found, str) or not found.path.is_file():
            raise HTTPException(404)
        return FileResponse(found.path, media_type=found.type)

    async def _find(self, request: Request) -> tuple[int, Playable | str]:
        """What is played of a sample; ?copy=1: never the file itself, ?at=SECONDS: what is around
        that time of a long one."""
        number = self._number(request)
        sample, query = self.queue[number], request.query_params
        start, end = sample.start, sample.end
        if (text := query.get("at")) is not None:
            start = _seconds(text)
            end = start + AT_SECONDS
        as_it_is = query.get("copy") != "1"
        path = self.source.root / sample.path
        return number, await asyncio.wrap_future(self.media.find(path, start, end, as_it_is))

    def _number(self, request: Request) -> int:
        number = int(request.path_params["number"])
        if number >= len(self.queue):
            raise HTTPException(404)
        return number

    # --- what is answered ---

    async def take_answer(self, request: Request) -> Response:
        body = await _body(request)
        number = body.get("number")
        if not isinstance(number, int) or not 0 <= number < len(self.queue):
            raise HTTPException(422, "number: there is no such video")
        answer = self._answer(body)
        try:
            now = await run_in_threadpool(self.answers.answer, self.ids[number], answer)
        except StaleError as error:
            text = "another window has answered this one: nothing of yours is written over it"
            line = json_line({"error": text, "now": _told(error.now), "classes": self.classes})
            return Response(line, 409, media_type="application/json")
        except OSError as error:
            return error_response(507, f"the answer is not kept: {reason_of(error)}")
        return _json({"now": _told(now), "classes": self.classes})

    def _answer(self, body: dict[str, Any]) -> Answer:
        """Raises HTTPException (422) for what none can be."""
        labels, version, status = body.get("labels"), body.get("version"), body.get("status")
        if labels is not None:
            if not isinstance(labels, list) or not set(map(str, labels)) <= set(self.classes):
                raise HTTPException(422, "labels: give names of the classes")
            if not self.source.several and len(labels) != 1:
                raise HTTPException(422, "labels: give one")
            labels = tuple(sorted(set(map(str, labels))))
        if not isinstance(version, int) or status not in LETTERS:
            raise HTTPException(422, "version or status is missing")
        if status == "done" and labels is None:
            raise HTTPException(422, "labels: give one before it is done")
        start, end = body.get("start"), body.get("end")
        if (start is None) != (end is None):
            raise HTTPException(422, "start and end: give both, or none for the whole video")
        if start is not None:
            start, end = _seconds(start), _seconds(end)
            if start >= end:
                raise HTTPException(422, "start is not before end")
        return Answer(labels, start, end, status, version)

    async def take_class(self, request: Request) -> Response:
        name = (await _body(request)).get("name")
        name = " ".join(name.split()) if isinstance(name, str) else ""
        if not 0 < len(name) <= MOST_NAME or SEPARATOR in name or unwritable(name):
            raise HTTPException(422, f"a class: give a name of up to {MOST_NAME} letters, no |")
        same = next((one for one in self.classes if one.casefold() == name.casefold()), name)
        if same == name:
            try:
                await run_in_threadpool(self.answers.add_class, name)
            except OSError as error:
                return error_response(507, f"the class is not kept: {reason_of(error)}")
        return _json({"name": same, "classes": self.classes})


def _told(answer: Answer) -> dict[str, Any]:
    return {"labels": answer.labels, "start": answer.start, "end": answer.end,
            "status": answer.status, "version": answer.version}  # fmt: skip


def _json(value: dict[str, Any]) -> Response:
    return Response(json_line(value), media_type="application/json")


async def _body(request: Request) -> dict[str, Any]:
    """Raises HTTPException for what is no JSON object, or too large."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # no form of another page can send it
        raise HTTPException(415, "send application/json")
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > MOST_BODY:
            raise HTTPException(413, "too large")
    try:
        body = parse_json(data)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise HTTPException(400, "send a JSON object")
    return body


def _seconds(value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    if not isfinite(seconds) or not 0 <= seconds <= MOST_TIME or isinstance(value, bool):
        raise HTTPException(422, "a time: give seconds from the video's beginning")
    return round(seconds, DIGITS)
