"""The page's own routes: its files, login and logout, and the stream of what it shows live.

They are no part of the API's description: they belong to the page, and change with it. Everything else that it shows
and does is asked of the API, as anybody may.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from reindexer.core.api_key import Access
from reindexer.core.errors import ReindexerError

from ..auth import access_by_session, access_of, session_for, session_of
from ..dependencies import Container, get_container
from ..rights import operations_of
from .overview import LOOK_S
from .session import COOKIE, LASTS_S, Session, is_from_page

router = APIRouter(include_in_schema=False)

ContainerPart = Annotated[Container, Depends(get_container)]

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_POLICY = "; ".join(
    (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'",
        "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'",
    )
)  # fmt: skip
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_NO_STORE = {"Cache-Control": "no-store"}
_STATIC = {each.name: each.read_bytes() for each in (Path(__file__).parent / "static").iterdir()}


class Login(BaseModel):
    """A key."""

    model_config = ConfigDict(extra="forbid")

    key: Annotated[SecretStr, Field(max_length=1000)]


@router.get("/")
def page(request: Request) -> Response:
    """The page."""
    return _file(request, "index.html")


@router.post("/page/session")
async def login(request: Request, parts: ContainerPart, body: Login) -> Response:
    """Takes a key, and answers with the cookie that stands for it from now on."""
    _require_page(request)
    key = body.key.get_secret_value().strip()
    cookie, access = await session_for(parts, key)
    _require_operator(access)
    answer = JSONResponse(_told(access), headers=_NO_STORE)
    secure = request.url.scheme == "https" or request.headers.get("Origin", "").startswith("https:")
    answer.set_cookie(
        COOKIE, cookie, max_age=LASTS_S, path=_path(request), secure=secure, httponly=True, samesite="strict"
    )
    return answer


@router.get("/page/session")
async def session(request: Request, parts: ContainerPart) -> Response:
    """Who is logged in, and what they may do. 401: nobody is."""
    access = await access_of(parts, request)
    _require_operator(access)
    return JSONResponse(_told(access), headers=_NO_STORE)


@router.delete("/page/session")
async def logout(request: Request, parts: ContainerPart) -> Response:
    """Ends the login, its stream too."""
    _require_page(request)
    if (found := session_of(parts, request)) is not None:
        parts.sessions.end(found)
    answer = JSONResponse({}, headers=_NO_STORE)
    answer.delete_cookie(COOKIE, path=_path(request), httponly=True, samesite="strict")
    return answer


@router.get("/page/overview")
async def overview(request: Request, parts: ContainerPart) -> Response:
    """Server-sent events, each an overview in JSON. The last one, `ended`, comes when the login or its key ends."""
    _require_operator(await access_of(parts, request))
    found = session_of(parts, request)
    if found is None:
        raise HTTPException(401, "log in for this")
    ending: asyncio.Event = request.app.state.ending
    return StreamingResponse(
        _events(parts, request, found, ending), media_type="text/event-stream",
        headers={**_NO_STORE, "X-Accel-Buffering": "no"},
    )  # fmt: skip


@router.get("/page/{name}")
def file(request: Request, name: str) -> Response:
    """A file of the page."""
    if name not in _STATIC or name == "index.html":
        raise HTTPException(404, "the page has no such file")
    return _file(request, name)


async def _events(parts: Container, request: Request, session: Session, ending: asyncio.Event) -> AsyncIterator[str]:
    yield "retry: 2000\n\n"
    while not ending.is_set():  # guard stream-ends-with-server
        if not await _lives(parts, request, session):
            yield "event: ended\ndata: {}\n\n"
            return
        yield f"data: {await parts.overviews.look()}\n\n"
        try:
            await asyncio.wait_for(ending.wait(), LOOK_S)
        except TimeoutError:
            continue


async def _lives(parts: Container, request: Request, session: Session) -> bool:
    """Whether the login still allows the stream. While Postgres is away it does not end, and the page says why."""
    if session_of(parts, request) is None:  # guard stream-ends-with-login
        return False
    try:
        access = await access_by_session(parts, session)
    except ReindexerError:
        return True
    return access is not None and _operates(access)  # guard stream-ends-with-key


def _file(request: Request, name: str) -> Response:
    content = _STATIC[name]
    tag = f'"{sha256(content).hexdigest()[:32]}"'
    headers = {**_HEADERS, "ETag": tag}
    if request.headers.get("If-None-Match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=_TYPES[Path(name).suffix], headers=headers)


def _require_page(request: Request) -> None:
    if not is_from_page(request.method, request.headers):  # guard login-from-page
        raise HTTPException(403, "only the page itself logs in and out")


def _require_operator(access: Access) -> None:
    if not _operates(access):
        raise HTTPException(
            403, f"a key of the role {access.role} only searches; the page needs one of the role operate or admin"
        )


def _operates(access: Access) -> bool:
    return access.role in ("operate", "admin")


def _told(access: Access) -> dict[str, object]:
    return {"role": access.role, "name": access.name, "may": operations_of(access.role)}


def _path(request: Request) -> str:
    return f"{request.scope.get('root_path', '')}/"
