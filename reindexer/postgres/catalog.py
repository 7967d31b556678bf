"""What the catalog says about a source's tables: which there are, and by what their changes are recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
from psycopg import sql

from reindexer.core.errors import SourceError
from reindexer.core.payload import PayloadColumn, kind_of
from reindexer.core.source import Source
from reindexer.postgres.connect import Connection, one_line
from reindexer.postgres.queries import load

FUNCTIONS = ("rows", "update", "whole", "replica")
"""Kinds of trigger functions."""

Facts = Mapping[str, str]
"""Hashes of the catalog rows that changes are recorded by: of each table, by its OID, and of `functions`; and of those
that rows are `reads` by."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A table of a source: the named one, a partition at any depth, or an inheritance child."""

    oid: int
    schema_name: str
    table_name: str
    is_leaf: bool
    triggers: frozenset[str]
    """`name:enabled` of our triggers on it, `enabled` as in pg_trigger."""

    @property
    def identifier(self) -> sql.Identifier:
        """The name, quoted by the driver."""
        return sql.Identifier(self.schema_name, self.table_name)

    def __str__(self) -> str:
        return f"{self.schema_name}.{self.table_name}"


def relations(connection: Connection, source: Source) -> list[Relation]:
    """The source's table with all below it, parents and leaves. Raises SourceError if there is no such table."""
    table, name = _table(connection, source), f"{source.table_schema}.{source.table_name}"
    try:
        rows = connection.execute(load("catalog.sql")["tree"], {"table": table}).fetchall()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        raise SourceError(f"source {source.name!r}: table {name} does not exist") from None
    except psycopg.errors.InsufficientPrivilege as exc:
        raise SourceError(f"source {source.name!r}: {one_line(exc)}") from None
    if not rows:
        raise SourceError(f"source {source.name!r}: {name} is not a table (views and foreign tables have no changes)")
    return [Relation(oid, schema, name, kind == "r", frozenset(found)) for oid, schema, name, kind, found in rows]


def facts(connection: Connection, source: Source) -> Facts:
    """What changes are recorded and rows are read by, now. Where it differs from an earlier answer, rows may have come,
    gone, changed or begun to read otherwise without a trigger in between, even if all is well again."""
    parameters = {
        "table": _table(connection, source),
        "columns": [*source.key_columns, *source.declared_columns],
        "functions": function_names(source),
        "condition": source.condition,
    }
    return dict(connection.execute(load("catalog.sql")["facts"], parameters).fetchall())


def payload_columns(connection: Connection, source: Source) -> tuple[PayloadColumn, ...]:
    """The source's payload columns that are there, with the kinds of their values."""
    parameters = {"table": _table(connection, source), "columns": list(source.payload_columns)}
    rows = connection.execute(load("catalog.sql")["base_types"], parameters).fetchall()
    kinds = {name: kind_of(type_name, is_enum=is_enum) for name, type_name, is_enum in rows}
    return tuple(
        PayloadColumn(name, kinds[name], name == source.tenant_column)
        for name in source.payload_columns
        if name in kinds
    )


def key_is_spelt_freely(connection: Connection, source: Source) -> bool:
    """Whether a collation of the key takes two spellings for one."""
    parameters = {"table": _table(connection, source), "columns": list(source.key_columns)}
    return connection.execute(load("catalog.sql")["spelt_freely"], parameters).fetchone() is not None


def called_now(connection: Connection, oid: int) -> str | None:
    """The name of the table with this OID, if there is one."""
    row = connection.execute(load("catalog.sql")["called_now"], {"oid": oid}).fetchone()
    return str(row[0]) if row else None


def function_names(source: Source) -> list[str]:
    """Of its trigger functions, in the order of `FUNCTIONS`."""
    return [f"{source.name}_{kind}" for kind in FUNCTIONS]


def _table(connection: Connection, source: Source) -> str:
    return sql.Identifier(source.table_schema, source.table_name).as_string(connection)
