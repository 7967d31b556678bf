"""The actor of a request, for the audit: the client's address and, if it sends one, a name."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Request

from reindexer import audit

from .dependencies import SettingsDep


def get_actor(
    request: Request,
    settings: SettingsDep,
    name: Annotated[
        str | None,
        Header(alias="X-Actor", max_length=audit.MAX_NAME, description="Who you are, for the audit. Nobody checks it."),
    ] = None,
) -> str:
    """`api ADDRESS`, and the given name. A name that contains the admin key is dropped."""
    address = request.client.host if request.client else "local"
    named = audit.plain(name or "")
    key = settings.admin_api_key.get_secret_value() if settings.admin_api_key else ""
    if not named or (key and key in (name or "")):
        return f"api {address}"
    return f"api {address} ({named})"


ActorPart = Annotated[str, Depends(get_actor)]
