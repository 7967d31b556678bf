"""What a search key narrows: the source that it searches, and conditions that stand beside those of each request."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import HTTPException

from reindexer.core.api_key import Access, forced_filter
from reindexer.core.errors import UsageError
from reindexer.core.filters import Filter
from reindexer.core.payload import PayloadColumn
from reindexer.core.source import Source
from reindexer.postgres.connect import Connection
from reindexer.sources.store import find_attached

from .dependencies import source_or_404


def searched_source(connection: Connection, name: str, access: Access) -> Source:
    """The source of a search.

    Raises HTTPException: 404 if it is not the key's, whatever others there are; 403 if the key's own is not attached.
    """
    if access.source is None:
        return source_or_404(connection, name)
    if name != access.source:  # guard key-source
        raise HTTPException(404, f"there is no such source for this key; it searches {access.source!r}")
    if (source := find_attached(connection, name)) is None:
        raise HTTPException(403, f"the source of this key, {name!r}, is not attached; ask for another key")
    return source


def forced_conditions(access: Access, columns: Sequence[PayloadColumn]) -> Filter:
    """The conditions of the key. Raises HTTPException 403 if they do not fit the source's payload any more."""
    try:
        return forced_filter(access.filter, columns)
    except UsageError as exc:  # guard key-column-gone
        raise HTTPException(403, f"this key finds nothing any more: {exc}; ask for another key") from exc
