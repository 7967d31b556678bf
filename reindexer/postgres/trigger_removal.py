"""Removes a source's triggers from tables, one table at a time, without blocking writers for long."""

from __future__ import annotations

from collections.abc import Collection

import psycopg
from psycopg import sql

from reindexer.core.errors import SourceError
from reindexer.core.source import Source
from reindexer.postgres.catalog import function_names
from reindexer.postgres.connect import Connection, one_line
from reindexer.postgres.queries import load
from reindexer.postgres.triggers import LOCK_TIMEOUT, attempts


def remove(
    connection: Connection, source: Source, *, keep: Collection[int] = (), give_up_after_s: float = 60.0
) -> None:
    """Drop the source's triggers, except on tables whose OIDs are in `keep`. If that is empty, drop its functions, too.

    Raises SourceError if a lock can't be had or a right is missing.
    """
    try:
        for _ in attempts(give_up_after_s):
            stripped = [_strip(connection, table, names) for table, names in _bearers(connection, source, keep)]
            if all(stripped):
                break
        else:
            raise SourceError(
                f"source {source.name!r}: other transactions held a table for {give_up_after_s:.0f} s; "
                "end them, or try again later"
            )
        if not keep:
            for name in function_names(source):
                connection.execute(sql.SQL("DROP FUNCTION IF EXISTS {}()").format(sql.Identifier("reindexer", name)))
    except psycopg.errors.InsufficientPrivilege as exc:
        raise SourceError(f"source {source.name!r}: {one_line(exc)}; do it as the owner of the table") from exc


def _bearers(connection: Connection, source: Source, keep: Collection[int]) -> list[tuple[sql.Identifier, list[str]]]:
    rows = connection.execute(load("catalog.sql")["bearers"], {"functions": function_names(source)}).fetchall()
    return [(sql.Identifier(schema, name), names) for oid, schema, name, names in rows if oid not in keep]


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
