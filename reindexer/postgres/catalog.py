"""Reads the catalog about a source's tables: which tables there are, and what records their changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from reindexer.core.errors import SourceError
from reindexer.core.payload import PayloadColumn, kind_of
from reindexer.core.source import Source
from reindexer.postgres.connect import Connection, one_line
from reindexer.postgres.queries import load

FUNCTIONS = ("rows", "update", "whole", "replica")
"""The kinds of trigger functions."""

Facts = Mapping[str, str]
"""Hashes of the catalog rows that decide how changes are recorded: by table OID, and under `functions`; and of those
that decide how rows are read, under `reads`."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A table of a source: the named one, a partition at any depth, or an inheritance child."""

    oid: int
    schema_name: str
    table_name: str
    is_leaf: bool
    is_unlogged: bool
    """A crash empties the table."""
    is_foreign: bool
    """It can't carry triggers, and ours on a parent would make every UPDATE and DELETE fail."""
    triggers: frozenset[str]
    """Our triggers on it as `name:enabled`, `enabled` as in pg_trigger."""

    @property
    def identifier(self) -> sql.Identifier:
        """The qualified name, quoted by the driver."""
        return sql.Identifier(self.schema_name, self.table_name)

    def __str__(self) -> str:
        return f"{self.schema_name}.{self.table_name}"


def relations(connection: Connection, source: Source) -> list[Relation]:
    """The tables that have to carry triggers, parents and leaves. Raises SourceError if the table does not exist."""
    return [each for each in tree(connection, source) if not each.is_foreign]


def tree(connection: Connection, source: Source) -> list[Relation]:
    """The source's table and all tables below it, parents first. Raises SourceError if the table does not exist."""
    table, name = _table(connection, source), f"{source.table_schema}.{source.table_name}"
    try:
        rows = connection.execute(load("catalog.sql")["tree"], {"table": table}).fetchall()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        raise SourceError(f"source {source.name!r}: table {name} does not exist") from None
    except psycopg.errors.InsufficientPrivilege as exc:  # guard source-schema-privilege-error
        raise SourceError(f"source {source.name!r}: {one_line(exc)}") from None
    found = [
        Relation(oid, schema, table_name, kind == "r", persistence == "u", kind == "f", frozenset(triggers))
        for oid, schema, table_name, kind, persistence, triggers in rows
    ]
    if not found or found[0].is_foreign:
        raise SourceError(f"source {source.name!r}: {name} is not a table (views and foreign tables have no changes)")
    return found


def facts(connection: Connection, source: Source) -> Facts:
    """The present facts. Where they differ from an earlier answer, rows may have come, gone or changed, or may read
    differently, without a trigger that recorded it, even if all is well again."""
    parameters = {
        "table": _table(connection, source),
        "columns": [*source.key_columns, *source.declared_columns],
        "functions": function_names(source),
        "condition": source.condition,
    }
    return dict(connection.execute(load("catalog.sql")["facts"], parameters).fetchall())


def mark_uncrashed(connection: Connection, source: Source, tables: Iterable[Relation]) -> None:
    """Make sure that facts of unlogged tables, read from now on, differ from facts that are read after a crash.

    Raises SourceError if the right is missing.
    """
    if not any(table.is_unlogged for table in tables):
        return
    try:
        connection.execute(load("catalog.sql")["mark_uncrashed"])
    except psycopg.errors.InsufficientPrivilege as exc:
        raise SourceError(f"source {source.name!r}: {one_line(exc)}; grant SELECT and INSERT") from exc


def payload_columns(connection: Connection, source: Source) -> tuple[PayloadColumn, ...]:
    """The source's payload columns that exist, with the kinds of their values."""
    rows = _base_types(connection, source, source.payload_columns)
    kinds = {name: kind_of(type_name, is_enum=is_enum) for name, type_name, is_enum in rows}
    return tuple(
        PayloadColumn(name, kinds[name], name == source.tenant_column)
        for name in source.payload_columns
        if name in kinds
    )


def base_types(connection: Connection, source: Source, columns: Sequence[str]) -> dict[str, str]:
    """The type of each existing column, below domains and arrays, as the catalog names it."""
    return {name: type_name for name, type_name, _ in _base_types(connection, source, columns)}


def _base_types(connection: Connection, source: Source, columns: Sequence[str]) -> list[tuple[str, str, bool]]:
    parameters = {"table": _table(connection, source), "columns": list(columns)}
    return connection.execute(load("catalog.sql")["base_types"], parameters).fetchall()


def key_is_spelt_freely(connection: Connection, source: Source) -> bool:
    """Whether a collation of the key treats different spellings as equal."""
    parameters = {"table": _table(connection, source), "columns": list(source.key_columns)}
    return connection.execute(load("catalog.sql")["spelt_freely"], parameters).fetchone() is not None


def called_now(connection: Connection, oid: int) -> str | None:
    """The present name of the table with this OID; None if there is no such table."""
    row = connection.execute(load("catalog.sql")["called_now"], {"oid": oid}).fetchone()
    return str(row[0]) if row else None


def function_names(source: Source) -> list[str]:
    """The names of the source's trigger functions, in the order of `FUNCTIONS`."""
    return [f"{source.name}_{kind}" for kind in FUNCTIONS]


def _table(connection: Connection, source: Source) -> str:
    return sql.Identifier(source.table_schema, source.table_name).as_string(connection)
