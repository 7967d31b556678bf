"""Dependencies for FastAPI: a response says the mark of what its request committed, and a later request brings it back.

`get_session` is the application's own dependency, which yields a session of SQLAlchemy's:

    get_mark = mark_of(get_session)

    @app.post("/notes")
    def add(body: str, session: Session = Depends(get_session), mark: Mark = Depends(get_mark)) -> None:
        session.add(Note(body=body))
        session.commit()  # the response has the header Reindexer-Mark

    @app.get("/notes/search")
    def search(query: str, after: AfterMark = None) -> list[Hit]:
        return client.search("notes", query, after=after).hits
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, TypeAlias

from fastapi import Depends, Header, Response

from reindexer.core.trace import place_of
from reindexer.core.transaction_mark import Mark
from reindexer.sqlalchemy import marked
from reindexer.tracing import current

__all__ = ["MARK_HEADER", "AfterMark", "Mark", "mark_of"]

MARK_HEADER = "Reindexer-Mark"

AfterMark: TypeAlias = Annotated[
    str | None,
    Header(alias=MARK_HEADER, description="The mark of an earlier response: search when what that wrote is indexed."),
]
"""A parameter: the mark that the client brings back, as it came. It is whatever a client sent, and may be no token."""


def mark_of(get_session: Callable[..., Any]) -> Callable[..., AsyncIterator[Mark]]:
    """Return a dependency that marks what the request's session commits.

    `get_session` is a dependency that yields a `Session` or `AsyncSession`; within a request both get the same one. The
    token is in the header `Reindexer-Mark` of the response, and is what the dependency returns has as `token`, once the
    route has committed. A commit after the route returned, in `get_session` itself, is too late for the header. So is
    the header of a `Response` that the route makes itself: set it there.
    """

    async def mark_of_request(
        response: Response,
        session: Any = Depends(get_session),
        traceparent: str | None = Header(default=None, include_in_schema=False),
    ) -> AsyncIterator[Mark]:
        trace = current.traceparent() or (traceparent if place_of(traceparent) else None)
        with marked(session, traceparent=trace) as mark:
            mark.on_token(lambda token: response.headers.__setitem__(MARK_HEADER, token))
            yield mark

    return mark_of_request
