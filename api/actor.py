"""The actor of a request, for the audit: the client's address, its key's name, and, if it sends one, a name."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Request

from reindexer import audit

from .auth import AccessPart, given_keys


def get_actor(
    request: Request,
    access: AccessPart,
    name: Annotated[
        str | None,
        Header(alias="X-Actor", max_length=audit.MAX_NAME, description="Who you are, for the audit. Nobody checks it."),
    ] = None,
) -> str:
    """`api ADDRESS`, then `key NAME` if it is one of the database, and the given name. A name that contains a key is
    dropped."""
    who = f"api {request.client.host if request.client else 'local'}"
    if access.name is not None:
        who += f" key {access.name}"  # guard audit-key-name
    named = audit.plain(name or "")
    if not named or any(key in (name or "") for key in given_keys(request.headers)):
        return who
    return f"{who} ({named})"


ActorPart = Annotated[str, Depends(get_actor)]
