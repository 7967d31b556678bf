"""From what the file wants to definitions: all checks that need the database. They change nothing in it."""

from __future__ import annotations

import psycopg
from psycopg import sql

from reindexer.core.errors import DefinitionError, UsageError
from reindexer.core.source import Source
from reindexer.flow.attach import require_alias, require_same_table
from reindexer.flow.definition import check, define
from reindexer.flow.vectors import require_same_vectors
from reindexer.postgres.connect import Connection, one_line
from reindexer.postgres.queries import load
from reindexer.sources_file.read import SourcesFile


def definitions(connection: Connection, file: SourcesFile) -> list[Source]:
    """Every source of the file. Raises UsageError, with file and line, at the first that does not fit its table."""
    row = connection.execute("SELECT to_regclass('reindexer.source')").fetchone()
    attached_before = row is not None and row[0] is not None
    found = []
    for name, wanted in file.sources.items():
        try:
            source = define(connection, wanted)
            check(connection, source)
            _require_owner(connection, source)
            if attached_before:
                require_alias(connection, source)
                require_same_table(connection, name, source.table_schema, source.table_name)
                require_same_vectors(connection, source)
        except UsageError as exc:
            key = exc.key if isinstance(exc, DefinitionError) else None
            raise UsageError(f"{file.at(name, key)}: {exc}") from exc
        except psycopg.errors.InsufficientPrivilege as exc:
            raise UsageError(f"{file.at(name)}: source {name!r}: {one_line(exc)}") from exc
        found.append(source)
    return found


def _require_owner(connection: Connection, source: Source) -> None:
    """Only the owner may put triggers on a table; found out before those of other sources are made."""
    table = sql.Identifier(source.table_schema, source.table_name).as_string(connection)
    row = connection.execute(load("catalog.sql")["owner"], {"table": table}).fetchone()
    if row and not row[1]:
        raise DefinitionError(
            f"source {source.name!r}: {source.table_schema}.{source.table_name} belongs to {row[0]}, who alone may put "
            "triggers on it; run this as that role",
            key="table",
        )
