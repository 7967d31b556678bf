"""Reads the catalog about a source's tables: which tables there are, and what records their changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from reindexer.core.errors import SourceError
from reindexer.core.related import Followed
from reindexer.core.source import Source
from reindexer.postgres.connect import Connection, one_line
from reindexer.postgres.queries import load

FUNCTIONS = ("rows", "update", "whole", "replica")
"""The kinds of trigger functions."""

Facts = Mapping[str, str]
"""Hashes of the catalog rows that decide how changes are recorded: by table OID, and under `functions`; and of those
that decide how rows are read, under `reads`."""


@dataclass(frozen=True, slots=True)
class Capture:
    """What records the changes of one table for a source: of its own, or of a related one."""

    source: Source
    followed: Followed | None = None
    """None: the source's own table."""

    @property
    def table(self) -> tuple[str, str]:
        """Schema and name."""
        of = self.followed.link if self.followed else self.source
        return of.table_schema, of.table_name

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that decide what is recorded and read."""
        return self.followed.columns if self.followed else self.source.key_columns + self.source.declared_columns

    @property
    def condition(self) -> str | None:
        """The condition that rows have to meet, as the user wrote it."""
        if self.followed is None:
            return self.source.condition
        is_table = self.followed.link is self.followed.relation.table
        return self.followed.relation.condition if is_table else None

    @property
    def functions(self) -> list[str]:
        """The names of the trigger functions, in the order of `FUNCTIONS`. No source's name has a colon."""
        own = f"{self.source.name}:{self.followed.id}" if self.followed else self.source.name
        return [f"{own}_{kind}" for kind in FUNCTIONS]

    def trigger(self, kind: str) -> str:
        """The name of a trigger. Postgres takes 63 letters."""
        if self.followed is None:
            return f"reindexer_{self.source.name}_{kind}"
        return f"reindexer_{self.source.name}:{self.followed.id}_{kind[0]}"


def captures(source: Source) -> list[Capture]:
    """What records the changes of a source's tables: its own first."""
    return [Capture(source), *(Capture(source, each) for each in source.recorded_tables)]


@dataclass(frozen=True, slots=True)
class Relation:
    """A table of a source, or a related one: the named one, a partition at any depth, or an inheritance child."""

    capture: Capture
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
    """The source's table and all tables below it, parents first, then those of each related table.

    Raises SourceError if a table does not exist.
    """
    return [table for capture in captures(source) for table in _tree(connection, capture)]


def _tree(connection: Connection, capture: Capture) -> list[Relation]:
    about, name = f"source {capture.source.name!r}", ".".join(capture.table)
    table = sql.Identifier(*capture.table).as_string(connection)
    try:
        rows = connection.execute(load("catalog.sql")["tree"], {"table": table}).fetchall()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        raise SourceError(f"{about}: table {name} does not exist") from None
    except psycopg.errors.InsufficientPrivilege as exc:  # guard source-schema-privilege-error
        raise SourceError(f"{about}: {one_line(exc)}") from None
    found = [
        Relation(capture, oid, schema, table_name, kind == "r", persistence == "u", kind == "f", frozenset(triggers))
        for oid, schema, table_name, kind, persistence, triggers in rows
    ]
    if not found or found[0].is_foreign:
        raise SourceError(f"{about}: {name} is not a table (views and foreign tables have no changes)")
    return found


def facts(connection: Connection, source: Source) -> Facts:
    """The present facts. Where they differ from an earlier answer, rows may have come, gone or changed, or may read
    differently, without a trigger that recorded it, even if all is well again."""
    found = dict[str, str]()
    for capture in captures(source):
        parameters = {
            "table": sql.Identifier(*capture.table).as_string(connection),
            "columns": list(capture.columns),
            "functions": capture.functions,
            "condition": capture.condition,
        }
        of = f" of {capture.followed.id}" if capture.followed else ""
        rows = connection.execute(load("catalog.sql")["facts"], parameters).fetchall()
        found |= {f"{subject}{of}": fact for subject, fact in rows}
    return found


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


def base_types(connection: Connection, source: Source, columns: Sequence[str]) -> dict[str, str]:
    """The type of each existing column, below domains and arrays, as the catalog names it."""
    parameters = {"table": _table(connection, source), "columns": list(columns)}
    rows = connection.execute(load("catalog.sql")["base_types"], parameters).fetchall()
    return {name: type_name for name, type_name, *_ in rows}


def key_is_spelt_freely(connection: Connection, source: Source) -> bool:
    """Whether a collation of the key treats different spellings as equal."""
    parameters = {"table": _table(connection, source), "columns": list(source.key_columns)}
    return connection.execute(load("catalog.sql")["spelt_freely"], parameters).fetchone() is not None


def called_now(connection: Connection, oid: int) -> str | None:
    """The present name of the table with this OID; None if there is no such table."""
    row = connection.execute(load("catalog.sql")["called_now"], {"oid": oid}).fetchone()
    return str(row[0]) if row else None


def function_names(source: Source) -> list[str]:
    """The names of all trigger functions of a source."""
    return [name for capture in captures(source) for name in capture.functions]


def _table(connection: Connection, source: Source) -> str:
    return sql.Identifier(source.table_schema, source.table_name).as_string(connection)
