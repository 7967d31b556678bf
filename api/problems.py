"""Every error as RFC 9457 `application/problem+json`: ours, the framework's and unexpected ones.

Answers never contain values that the client sent, nor internals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from math import ceil
from typing import Annotated, Any

import psycopg
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reindexer.core.errors import (
    InputRejected,
    NoSuchItem,
    PermanentError,
    ReindexerError,
    SourceError,
    TransientError,
    UnfitRequest,
    UsageError,
)
from reindexer.core.wording import refusal
from reindexer.logs import where

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"

_STATUS: Mapping[type[ReindexerError], int] = {
    TransientError: 503,  # includes RateLimited and DependencyUnavailable: try again later
    SourceError: 503,
    UnfitRequest: 422,
    NoSuchItem: 404,
    UsageError: 503,  # of the settings; the routes themselves report a client's mistakes
    InputRejected: 422,
    PermanentError: 502,
    ReindexerError: 500,
}


KEYED = {
    401: "The key is wrong, has ended or is missing.",
    403: "The key's role does not allow it.",
    503: "Postgres does not answer, or no admin key is set.",
}
"""The problems of every route that needs a key."""


class Problem(BaseModel):
    """An error, as in RFC 9457."""

    type: Annotated[str, Field(description="`about:blank`: the status says what kind of problem it is.")] = (
        "about:blank"
    )
    title: Annotated[str, Field(description="The status in words.")]
    status: int
    detail: Annotated[str, Field(description="What is wrong, and what to do.")]


def problem(status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> JSONResponse:
    """A problem as a response. `more`: extension members."""
    members = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail).model_dump()
    return JSONResponse(members | more, status, headers, media_type=MEDIA_TYPE)


def documented(causes: Mapping[int, str], *, has_input: bool = True) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI `responses` of a route's problems, by status. Adds 422 if the route has any input."""
    if has_input:
        causes = {422: "The request is not what it should be; `errors` says where.", **causes}
    content = {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    return {status: {"description": causes[status], "content": content} for status in sorted(causes)}


def install(app: FastAPI) -> None:
    """Make the application answer every error with a problem."""
    app.add_middleware(_Unexpected)
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(RequestValidationError, _validation_problem)
    app.add_exception_handler(ReindexerError, _our_problem)
    for missing in (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedColumn):
        app.add_exception_handler(missing, _schema_problem)


async def _http_problem(_: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, HTTPException)
    if (exc.status_code, exc.detail) == (400, "There was an error parsing the body"):
        return problem(422, "the body is not JSON in UTF-8")  # FastAPI's message; other broken JSON it answers by 422
    detail = str(exc.detail) if exc.status_code != 404 or exc.detail != "Not Found" else "there is no such route"
    return problem(exc.status_code, detail, headers=exc.headers)


async def _validation_problem(_: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, RequestValidationError)
    errors = [{"at": _place(error["loc"]), "message": refusal(error)} for error in exc.errors()[:20]]
    detail = "; ".join(f"{error['at']}: {error['message']}" for error in errors[:3])
    return problem(422, detail, errors=errors)


async def _our_problem(request: Request, exc: Exception) -> JSONResponse:
    status = next(_STATUS[each] for each in type(exc).__mro__ if each in _STATUS)
    wait_s = exc.retry_after_s if isinstance(exc, TransientError) else None
    detail = str(exc)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and _only_searches(request):  # guard key-sees-no-internals
        log.warning("search_refused", path=request.url.path, error=detail)
        detail = "the search can't be answered now; whoever operates this API sees why in its log"
    return problem(status, detail, headers=None if wait_s is None else {"Retry-After": str(ceil(wait_s))})


def _only_searches(request: Request) -> bool:
    """Whether the caller is an application's user or a tenant: addresses, tables and columns are not for them."""
    access = getattr(request.state, "access", None)
    return access is not None and access.role == "search"


async def _schema_problem(_: Request, exc: Exception) -> JSONResponse:
    log.error("schema_mismatched", error=type(exc).__name__)
    return problem(503, "the database lacks a table that this route needs; run `reindexer migrate`")


def _place(location: Sequence[int | str]) -> str:
    """Names of fields and positions of elements. Names may be the client's, so they are cut and made printable."""
    return ".".join(str(part).encode("ascii", "backslashreplace").decode()[:50] for part in location[:8])


class _Unexpected:
    """The last resort: answers 500, and logs where it happened without the error's text, which may quote a row.

    It is inside Starlette's own handler, which would pass the error on to the server, to be logged in full.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def noting_start(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, noting_start)
        except Exception as exc:  # noqa: BLE001  the edge of the program
            log.error("unexpected_error", path=scope["path"], **where(exc))
            if started:
                raise ConnectionAbortedError("the response had begun") from None
            await problem(500, "an unexpected error; the log says where")(scope, receive, send)
