"""Keys: `Authorization: Bearer KEY` or `X-API-Key: KEY`. The key of the setting may do everything, also while Postgres
is away. Keys of the database may do what their roles allow. Without either header the cookie of a login to the page
stands for its key, if the request comes from the page itself.

The key is checked before the body of a request is read. A request without a key causes no work, nor does a text that
has not the form of a key.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.datastructures import Headers

from reindexer.core.api_key import Access, is_key, key_hash, same
from reindexer.settings import Settings

from .dependencies import Container
from .page.session import COOKIE, SAFE, Session, is_from_page
from .rights import allows

_ABOUT = "REINDEXER_ADMIN_API_KEY, or a key that `reindexer keys create` made"
_DOCUMENTED = (
    Depends(HTTPBearer(auto_error=False, description=_ABOUT)),
    Depends(APIKeyHeader(name="X-API-Key", auto_error=False, description=_ABOUT)),
)
"""These document the key in OpenAPI, and check nothing."""

_EVERYTHING = Access("admin")
_ANYBODY = Access("search")
"""Of a request without a key, where search is open."""


def keyed_router(
    *, prefix: str = "", tags: list[str], unless: Callable[[Settings], bool] = lambda _: False
) -> APIRouter:
    """A router whose routes need a key, unless `unless(settings)` is true. A key that is given narrows it even then."""
    route = keyed_route(unless, heeds_keys=True)
    return APIRouter(prefix=prefix, tags=[*tags], dependencies=_DOCUMENTED, route_class=route)


def keyed_route(unless: Callable[[Settings], bool], *, heeds_keys: bool = False) -> type[APIRoute]:
    """The class of routes that need a key, unless `unless(settings)` is true.

    `heeds_keys`: then a key that is given must be a right one, and allows no more than it says.
    """

    class Route(_KeyedRoute):
        def needs_key(self, settings: Settings, given: Sequence[str]) -> bool:
            return not unless(settings) or (heeds_keys and bool(given))  # guard key-heeded-while-open

    return Route


class _KeyedRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def keyed(request: Request) -> Response:
            parts: Container = request.app.state.parts
            given = given_keys(request.headers) or given_cookies(request)
            access = _ANYBODY
            if self.needs_key(parts.settings, given):
                access = await access_of(parts, request)  # guard api-key-required
                _require_right(access, f"{request.method} {self.path_format}")
            request.state.access = access
            answer = await handle(request)
            if not given_keys(request.headers) and given and request.method not in SAFE:
                parts.overviews.forget()  # who pressed a button of the page sees what it did
            return answer

        return keyed

    def needs_key(self, settings: Settings, given: Sequence[str]) -> bool:
        """Whether the route needs a key; `given`: those that the request has."""
        raise NotImplementedError


def given_keys(headers: Headers) -> list[str]:
    """The keys that a request gives."""
    scheme, _, credentials = headers.get("Authorization", "").partition(" ")
    given = [headers.get("X-API-Key", ""), credentials.strip() if scheme.lower() == "bearer" else ""]
    return [each for each in given if each]


def given_cookies(request: Request) -> list[str]:
    """The cookie of a login that a request gives."""
    return [cookie] if (cookie := request.cookies.get(COOKIE)) else []


async def access_of(parts: Container, request: Request) -> Access:
    """What a request may do by its key or, if it gives none, by its login to the page.

    Raises HTTPException 401 or 403, and TransientError while Postgres does not answer.
    """
    given = given_keys(request.headers)
    if given or not given_cookies(request):
        return await access_by_keys(parts, given)
    if not is_from_page(request.method, request.headers):
        raise HTTPException(403, "a login to the page allows what the page itself asks for; send a key instead")
    access = await access_by_session(parts, session_of(parts, request))
    if access is None:
        raise HTTPException(401, "the login has ended; log in again")
    return access


def session_of(parts: Container, request: Request) -> Session | None:
    """The login of a request, whatever became of its key. None: it has none."""
    return next(map(parts.sessions.read, given_cookies(request)), None)


async def access_by_session(parts: Container, session: Session | None) -> Access | None:
    """What a login allows now. None: nothing, because it has ended, or its key has."""
    if session is None:
        return None
    if session.key_hash is None:
        return _EVERYTHING
    return await parts.keys.find_hash(session.key_hash)  # guard session-key-looked-up


def wanted_key(parts: Container) -> bytes:
    """The key of the setting. Empty: there is none."""
    return parts.settings.admin_api_key.get_secret_value().encode() if parts.settings.admin_api_key else b""


async def session_for(parts: Container, key: str) -> tuple[str, Access]:
    """A cookie that stands for a key, and what that allows. Raises HTTPException 401 if it is no live key."""
    access = await access_by_keys(parts, [key])
    return parts.sessions.begin(None if access is _EVERYTHING else key_hash(key)), access


async def access_by_keys(parts: Container, given: Sequence[str]) -> Access:
    """What the first of these keys that is live allows. Raises HTTPException 401 and 503."""
    wanted = wanted_key(parts)
    # Headers are decoded as Latin-1. No shortcut: the time must not tell which header matched, nor how much of it.
    if wanted and any([same(each.encode("latin-1"), wanted) for each in given]):  # noqa: C419
        return _EVERYTHING
    for key in filter(is_key, given):
        if (found := await parts.keys.find(key)) is not None:
            return found
    if not wanted and not any(map(is_key, given)):
        raise HTTPException(
            503,
            "no admin key is set: set REINDEXER_ADMIN_API_KEY and start the API again, or make a key for this",
        )
    raise _refused()


def _refused() -> HTTPException:
    return HTTPException(
        401,
        "the key is wrong, has ended or is missing; send `Authorization: Bearer KEY` or `X-API-Key: KEY`",
        {"WWW-Authenticate": "Bearer"},
    )


def require_key(access: Access) -> None:
    """Raises HTTPException 401 if the request has no key."""
    if not has_key(access):
        raise _refused()


def has_key(access: Access) -> bool:
    """Whether the request has a key, which an open search does not need."""
    return access is not _ANYBODY


def _require_right(access: Access, operation: str) -> None:
    if access is not _EVERYTHING and not allows(access.role, operation):
        raise HTTPException(403, f"a key of the role {access.role} does not allow this")


def get_access(request: Request) -> Access:
    """What the request may do."""
    access: Access = request.state.access
    return access


AccessPart = Annotated[Access, Depends(get_access)]
