"""The store of sources: what is attached, as recorded in Postgres, and the problem of a source as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, LiteralString

import psycopg

from reindexer.core.errors import NewerDefinition, SourceError, UsageError
from reindexer.core.source import Source
from reindexer.postgres.connect import Connection, one_line
from reindexer.postgres.queries import load


def all_sources(connection: Connection) -> list[Source]:
    """Return every attached source, by name, but for those that a newer version defined.

    `find_source` says why one is left out. A newer version's processes look after it.
    """
    found = []
    for row in connection.execute(load("sources.sql")["defined"], {"name": None, "generation": None}):
        try:
            found.append(Source.from_document(*row))
        except NewerDefinition:  # guard definition-newer-source-skipped
            continue
    return found


def attached_before(connection: Connection) -> dict[str, Source]:
    """Return every attached source by name, also of an older schema. Empty if there is no schema.

    Raises NewerDefinition if a newer version defined one.
    """
    try:
        rows = connection.execute(load("sources.sql")["any_revision"]).fetchall()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return {}
    return {name: Source.from_document(name, alias, document) for name, alias, document in rows}


def find_source(connection: Connection, name: str, generation: int | None = None) -> Source:
    """Return one attached source, as one of its generations defines it (None: the one that searches use).

    Raises UsageError if there is no source of that name, NewerDefinition if a newer version defined it.
    """
    return Source.from_document(*_find(connection, "defined", name, generation))


def find_attached(connection: Connection, name: str) -> Source | None:
    """Return the source of that name if it is attached. Raises NewerDefinition if a newer version defined it."""
    row = connection.execute(load("sources.sql")["defined"], {"name": name, "generation": None}).fetchone()
    return Source.from_document(*row) if row else None


def find_source_and_columns(
    connection: Connection, name: str, generation: int
) -> tuple[Source, Mapping[str, LiteralString]]:
    """Return the source as `find_source` does, and its table's columns with their `format_type` types.

    The columns are empty if the table is missing. Also raises SourceError if a privilege is missing.
    """
    try:
        *definition, made_by, servers, columns = _find(connection, "one_with_columns", name, generation)
    except psycopg.errors.InsufficientPrivilege as exc:
        raise SourceError(f"source {name!r}: {one_line(exc)}") from exc
    source = Source.from_document(*definition)
    return replace(source, made_by=made_by, servers=tuple(servers)), columns or {}


def _find(connection: Connection, query: str, name: str, generation: int | None) -> tuple[Any, ...]:
    row = connection.execute(load("sources.sql")[query], {"name": name, "generation": generation}).fetchone()
    if row is None:
        known = ", ".join(each.name for each in all_sources(connection)) or "none"
        raise UsageError(f"there is no source {name!r}; attached: {known}")
    return row


def set_problem(connection: Connection, name: str, generation: int, problem: str | None) -> None:
    """Record why one generation of a source can't be worked on as a whole. None: it can."""
    parameters = {"name": name, "generation": generation, "problem": problem}
    connection.execute(load("sources.sql")["set_problem"], parameters)


def problems(connection: Connection) -> Mapping[str, str]:
    """Return why sources can't be worked on, by name: the problems of the generations that searches use."""
    return dict(connection.execute(load("sources.sql")["problems"]).fetchall())


def problems_beside(connection: Connection) -> list[tuple[str, int]]:
    """Return the generations, by source and number, that can't be worked on and that no search uses."""
    return connection.execute(load("sources.sql")["problems_beside"]).fetchall()


def clear_problem(connection: Connection, name: str, generation: int, *, embedded: bool) -> None:
    """Record that the generation can be worked on again: an item was embedded, or nothing waits for its problem any
    more."""
    parameters = {"name": name, "generation": generation, "embedded": embedded}
    connection.execute(load("sources.sql")["clear_problem"], parameters)
