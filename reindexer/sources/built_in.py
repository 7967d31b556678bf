"""The built-in table, and when it is a source. It is created only on request, and not again after a detach."""

from __future__ import annotations

from collections.abc import Collection

import psycopg

from reindexer.core.errors import UsageError
from reindexer.core.source import CONTEXT_ITEMS, Source
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load
from reindexer.sources.definition import check


def require_place(connection: Connection) -> None:
    """Raises UsageError if another table has the built-in table's name."""
    there = _there(connection)
    if there is not None and not there[0]:
        raise UsageError(
            "there is a public.context_items that is not the built-in table; attach it under a name of your own: "
            "reindexer attach NAME --table public.context_items --text …"
        )


def built_in(connection: Connection, sources: Collection[Source], *, wanted: bool, again: bool) -> Source | None:
    """Return the built-in source if it is to be attached. `sources`: those that are or will be attached.

    It is attached if `wanted`, or if a table like it exists on which we may create triggers. It is not attached if it
    was detached before (unless `wanted` and `again`), if another table has its name, or if another source follows the
    table.
    """
    if not (wanted and again) and was_detached(connection):
        return None
    if any(_has_our_table(each) or each.name == CONTEXT_ITEMS.name for each in sources):
        return None
    there = _there(connection)
    # guard context-items-opt-in
    return CONTEXT_ITEMS if there == (True, True) or (wanted and (there is None or there[0])) else None


def make_table(connection: Connection) -> None:
    """Create the table, if nothing has its name."""
    if _there(connection) is None:
        connection.execute(load("context_items.sql")["make"])


def table_exists(connection: Connection) -> bool:
    """Whether something has the table's name."""
    return _there(connection) is not None


def is_attached(connection: Connection) -> bool:
    """Whether the table exists and writes to it are indexed."""
    row = connection.execute(load("context_items.sql")["is_attached"]).fetchone()
    return bool(row and row[0])


def was_detached(connection: Connection) -> bool:
    """Whether the built-in source was detached and has not been attached since."""
    try:
        row = connection.execute(load("context_items.sql")["was_detached"], {"name": CONTEXT_ITEMS.name}).fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return False  # the schema is older than detaching
    return bool(row and row[0])


def is_built_in(source: Source) -> bool:
    """Whether a source is the built-in one, however it is defined by now."""
    return source.name == CONTEXT_ITEMS.name and _has_our_table(source)


def _has_our_table(source: Source) -> bool:
    ours = (CONTEXT_ITEMS.table_schema, CONTEXT_ITEMS.table_name)
    return (source.table_schema, source.table_name) == ours


def _there(connection: Connection) -> tuple[bool, bool] | None:
    """Of what has the table's name: whether it can be the built-in table, and whether we may create triggers on it."""
    row = connection.execute(load("context_items.sql")["there"]).fetchone()
    if row is None:
        return None
    fits, may = row
    try:
        if fits:
            check(connection, CONTEXT_ITEMS)
    except UsageError:
        fits = False
    return fits, may
