"""The admin key: `Authorization: Bearer KEY` or `X-API-Key: KEY`.

The key is checked before the body of a request is read: a request without the key causes no work.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPBearer
from starlette.datastructures import Headers

from reindexer.settings import Settings

_ABOUT = "REINDEXER_ADMIN_API_KEY"
_DOCUMENTED = (
    Depends(HTTPBearer(auto_error=False, description=_ABOUT)),
    Depends(APIKeyHeader(name="X-API-Key", auto_error=False, description=_ABOUT)),
)
"""These document the key in OpenAPI, and check nothing."""


def keyed_router(
    *, prefix: str = "", tags: list[str], unless: Callable[[Settings], bool] = lambda _: False
) -> APIRouter:
    """A router whose routes need the key, unless `unless(settings)` is true."""
    return APIRouter(prefix=prefix, tags=[*tags], dependencies=_DOCUMENTED, route_class=keyed_route(unless))


def keyed_route(unless: Callable[[Settings], bool]) -> type[APIRoute]:
    """The class of routes that need the key, unless `unless(settings)` is true."""

    class Route(_KeyedRoute):
        def is_open(self, settings: Settings) -> bool:
            return unless(settings)

    return Route


class _KeyedRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def keyed(request: Request) -> Response:
            settings = request.app.state.parts.settings
            if not self.is_open(settings):
                require_key(settings, request.headers)  # guard api-key-required
            return await handle(request)

        return keyed

    def is_open(self, settings: Settings) -> bool:
        """Whether the route needs no key."""
        raise NotImplementedError


def require_key(settings: Settings, headers: Headers) -> None:
    """Raises HTTPException 401 if the request has no key or a wrong one, 503 if no key is set."""
    wanted = settings.admin_api_key.get_secret_value().encode() if settings.admin_api_key else b""
    if not wanted:
        raise HTTPException(503, "no admin key is set: set REINDEXER_ADMIN_API_KEY and start the API again")
    scheme, _, credentials = headers.get("Authorization", "").partition(" ")
    given = [headers.get("X-API-Key", ""), credentials.strip() if scheme.lower() == "bearer" else ""]
    # Headers are decoded as Latin-1. No shortcut: the time must not tell which header matched, nor how much of it.
    if not any([same(each.encode("latin-1"), wanted) for each in given]):  # noqa: C419
        raise HTTPException(
            401,
            "the admin key is wrong or missing; send `Authorization: Bearer KEY` or `X-API-Key: KEY`",
            {"WWW-Authenticate": "Bearer"},
        )


def same(given: bytes, wanted: bytes) -> bool:
    """Whether a key is the wanted one. Takes the same time wherever they differ."""
    return hmac.compare_digest(given, wanted)  # guard api-key-constant-time
