"""Removes a source's triggers from tables, one table at a time, without blocking writers for long."""

from __future__ import annotations

from collections.abc import Collection

import psycopg
from psycopg import sql

from reindexer.core.errors import SourceError
from reindexer.core.source import Source
from reindexer.postgres.catalog import function_names, relations
from reindexer.postgres.connect import Connection, one_line
from reindexer.postgres.queries import load
from reindexer.postgres.triggers import LOCK_TIMEOUT, attempts


def remove(
    connection: Connection, source: Source, *, keep: Collection[int] = (), give_up_after_s: float = 60.0
) -> None:
    """Drop the source's triggers, except on tables whose OIDs are in `keep`. If that is empty, drop its functions, too.
    Those of related tables that it reads no more are dropped in any case.

    Raises SourceError if a lock can't be had or a right is missing.
    """
    try:
        for _ in attempts(give_up_after_s):
            stripped = [_strip(connection, table, names) for table, names in bearers(connection, source, keep)]
            if all(stripped):
                break
        else:
            raise SourceError(
                f"source {source.name!r}: other transactions held a table for {give_up_after_s:.0f} s; "
                "end them, or try again later"
            )
        queries, named = load("catalog.sql"), {"functions": function_names(source), "begin": f"{source.name}:"}
        gone = [str(name) for (name,) in connection.execute(queries["former_functions"], named)]
        for name in [*gone, *(() if keep else function_names(source))]:
            connection.execute(sql.SQL("DROP FUNCTION IF EXISTS {}()").format(sql.Identifier("reindexer", name)))
    except psycopg.errors.InsufficientPrivilege as exc:
        raise SourceError(f"source {source.name!r}: {one_line(exc)}; do it as the owner of the table") from exc


def remove_former(connection: Connection, source: Source) -> bool:
    """Drop the source's triggers on related tables that no kept generation reads. Returns False if there are none.

    Raises SourceError as `remove` does, at once.
    """
    named = {"functions": function_names(source), "begin": f"{source.name}:"}
    if connection.execute(load("catalog.sql")["former_functions"], named).fetchone() is None:
        return False
    remove(connection, source, keep=[table.oid for table in relations(connection, source)], give_up_after_s=0)
    return True


def bearers(connection: Connection, source: Source, keep: Collection[int]) -> list[tuple[sql.Identifier, list[str]]]:
    """The tables that carry triggers of the source and should not, with the names of those."""
    named = {"functions": function_names(source), "begin": f"{source.name}:", "keep": list(keep)}
    rows = connection.execute(load("catalog.sql")["bearers"], named).fetchall()
    return [(sql.Identifier(schema, name), names) for schema, name, names in rows]


def _strip(connection: Connection, table: sql.Identifier, names: list[str]) -> bool:
    """False if the table's lock was not available in time."""
    try:
        with connection.transaction():
            connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(LOCK_TIMEOUT))
            for name in names:
                connection.execute(sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(sql.Identifier(name), table))
    except psycopg.errors.LockNotAvailable:
        return False
    return True
