"""A source's key: the types of its columns, and an id as Postgres prints it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import LiteralString

import psycopg
from psycopg import sql

from reindexer.core.errors import SourceError
from reindexer.core.related import Link
from reindexer.core.source import Source
from reindexer.postgres.connect import Connection, one_line
from reindexer.postgres.session import IN_TRANSACTION

KeyTypes = tuple[LiteralString, ...]
"""SQL types of a source's key columns."""


def canonical_id(connection: Connection, source: Source, item_id: str) -> str | None:
    """Return an id as Postgres prints the key, which is how the triggers write it. None: it can't be a key of the
    source.

    The server converts the id, and no Python does (as in `reindexer.sources.item_ids`): it also decides for a row that
    can't be read whether its id is to blame, and only the server knows which characters its encoding holds. Raises
    SourceError if the table or a declared column is missing.
    """
    types = key_types(connection, source)
    parts = sql.SQL(", ").join(
        sql.SQL("({part})::{type}::text").format(
            part=sql.SQL("%(item_id)s::text")
            if len(types) == 1
            else sql.SQL("%(item_id)s::jsonb ->> {}").format(place),
            type=sql.SQL(type_name),
        )
        for place, type_name in enumerate(types)
    )
    query = sql.SQL("SELECT {}") if len(types) == 1 else sql.SQL("SELECT jsonb_build_array({})::text")
    try:
        with connection.pipeline(), connection.transaction():
            connection.execute(IN_TRANSACTION)
            row = connection.execute(query.format(parts), {"item_id": item_id}).fetchone()
    except (psycopg.DataError, UnicodeEncodeError):
        return None
    return None if row is None or row[0] is None else str(row[0])


def key_types(connection: Connection, source: Source) -> KeyTypes:
    """Return the types as `format_type` names them. Raises SourceError if a key column or declared column is
    missing."""
    return key_types_among(source, column_types(connection, source.name, source.table_schema, source.table_name))


def link_types(connection: Connection, source: str, link: Link) -> KeyTypes:
    """Return the types of the columns by which a related table is joined. Raises SourceError if one is missing."""
    types = column_types(connection, source, link.table_schema, link.table_name)
    if missing := [column for column in link.far if column not in types]:
        what = f"column {missing[0]!r} of {link}" if types else f"table {link}"
        raise SourceError(f"source {source!r}: {what} does not exist")
    return tuple(types[column] for column in link.far)


def column_types(connection: Connection, source: str, schema: str, table: str) -> dict[str, LiteralString]:
    """Return the columns of a table with their types, as `format_type` names them. Empty: there is no such table."""
    try:
        rows = connection.execute(
            """
            SELECT attname, format_type(atttypid, NULL) FROM pg_attribute
            WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
            """,
            [sql.Identifier(schema, table).as_string(connection)],
        ).fetchall()
    except psycopg.errors.InsufficientPrivilege as exc:
        raise SourceError(f"source {source!r}: {one_line(exc)}") from exc
    return dict(rows)


def key_types_among(source: Source, columns: Mapping[str, LiteralString]) -> KeyTypes:
    """Like `key_types`, for a table whose columns and types (quoted by the server) are already known."""
    missing = [c for c in (*source.key_columns, *source.declared_columns) if c not in columns]
    if missing:
        table = f"{source.table_schema}.{source.table_name}"
        what = f"column {missing[0]!r} of {table}" if columns else f"table {table}"
        raise SourceError(f"source {source.name!r}: {what} does not exist")
    return tuple(columns[column] for column in source.key_columns)
