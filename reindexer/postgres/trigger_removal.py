"""Take a source's triggers off tables, one table at a time, without holding up writers for long."""

from __future__ import annotations

import time
from collections.abc import Collection

import psycopg
from psycopg import sql

from reindexer.core.errors import SourceError
from reindexer.core.source import Source
from reindexer.postgres.catalog import function_names
from reindexer.postgres.connect import Connection, one_line
from reindexer.postgres.queries import load
from reindexer.postgres.triggers import LOCK_TIMEOUT


def remove(connection: Connection, source: Source, *, keep: Collection[int] = (), give_up_after_s: float = 60.0) -> int:
    """Drop the source's triggers from all tables but those of the OIDs in `keep`, and without those its functions too.

    Returns from how many tables. Raises SourceError if a lock can't be had or a right is missing.
    """
    deadline, wait_s, stripped = time.monotonic() + give_up_after_s, 0.2, 0
    functions = {"functions": function_names(source)}
    try:
        while True:
            rows = connection.execute(load("catalog.sql")["bearers"], functions).fetchall()
            left = [(sql.Identifier(schema, name), names) for oid, schema, name, names in rows if oid not in keep]
            if not left:
                break
            done = sum(_strip(connection, table, names) for table, names in left)
            stripped += done
            if done < len(left):
                if time.monotonic() + wait_s > deadline:
                    raise SourceError(
                        f"source {source.name!r}: other transactions held a table for {give_up_after_s:.0f} s; "
                        "end them, or try again later"
                    )
                time.sleep(wait_s)
                wait_s = min(wait_s * 1.5, 3.0)
        if not keep:
            for name in function_names(source):
                connection.execute(sql.SQL("DROP FUNCTION IF EXISTS {}()").format(sql.Identifier("reindexer", name)))
    except psycopg.errors.InsufficientPrivilege as exc:
        raise SourceError(f"source {source.name!r}: {one_line(exc)}; do it as the owner of the table") from exc
    return stripped


def _strip(connection: Connection, table: sql.Identifier, names: list[str]) -> bool:
    """False if the table's lock could not be had in time."""
    try:
        with connection.transaction():
            connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(LOCK_TIMEOUT))
            for name in names:
                connection.execute(sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(sql.Identifier(name), table))
    except psycopg.errors.LockNotAvailable:
        return False
    return True
