"""The store of sources: what is attached, as recorded in Postgres, and the problem of a source as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, LiteralString

import psycopg

from reindexer.core.errors import SourceError, UsageError
from reindexer.core.profile import Profile
from reindexer.core.source import Source
from reindexer.postgres.connect import Connection, one_line
from reindexer.postgres.queries import load


def all_sources(connection: Connection) -> list[Source]:
    """Return every attached source, by name."""
    return [_source(*row) for row in connection.execute(load("sources.sql")["all"])]


def attached_before(connection: Connection) -> dict[str, Source]:
    """Return every attached source by name, whatever the schema's revision. Empty if there is no schema."""
    try:
        rows = connection.execute(load("sources.sql")["any_revision"]).fetchall()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return {}
    known = {each.name for each in fields(Source)}
    sources = (Source(**{key: _part(key, value) for key, value in row.items() if key in known}) for (row,) in rows)
    return {source.name: source for source in sources}


def _part(key: str, stored: Any) -> Any:
    if key == "profile":
        return Profile.from_json(stored)
    return tuple(stored) if isinstance(stored, list) else stored


def find_source(connection: Connection, name: str) -> Source:
    """Return one attached source. Raises UsageError if there is no source of that name."""
    return _source(*_find(connection, "one", name))


def find_source_and_columns(connection: Connection, name: str) -> tuple[Source, Mapping[str, LiteralString]]:
    """Return the source as `find_source` does, and its table's columns with their `format_type` types.

    The columns are empty if the table is missing. Also raises SourceError if a privilege is missing.
    """
    try:
        *definition, columns = _find(connection, "one_with_columns", name)
    except psycopg.errors.InsufficientPrivilege as exc:
        raise SourceError(f"source {name!r}: {one_line(exc)}") from exc
    return _source(*definition), columns or {}


def _find(connection: Connection, query: str, name: str) -> tuple[Any, ...]:
    row = connection.execute(load("sources.sql")[query], {"name": name}).fetchone()
    if row is None:
        known = ", ".join(each.name for each in all_sources(connection)) or "none"
        raise UsageError(f"there is no source {name!r}; attached: {known}")
    return row


def set_problem(connection: Connection, name: str, problem: str | None) -> None:
    """Record why a source as a whole can't be worked on. None: it can."""
    connection.execute(load("sources.sql")["set_problem"], {"name": name, "problem": problem})


def problems(connection: Connection) -> Mapping[str, str]:
    """Return why sources can't be worked on, by name."""
    return dict(connection.execute(load("sources.sql")["problems"]).fetchall())


def clear_problem(connection: Connection, name: str, *, embedded: bool) -> None:
    """Record that the source can be worked on again: an item was embedded, or nothing waits for its problem any
    more."""
    connection.execute(load("sources.sql")["clear_problem"], {"name": name, "embedded": embedded})


def _source(
    name: str,
    table_schema: str,
    table_name: str,
    key_columns: list[str],
    text_columns: list[str],
    payload_columns: list[str],
    alias: str,
    template: str | None,
    condition: str | None,
    condition_columns: list[str],
    chunk_tokens: int | None,
    chunk_overlap: int,
    tenant_column: str | None,
    profile: dict[str, Any],
    resolved_condition: str | None,
    condition_objects: list[str],
    reads: str | None,
) -> Source:
    return Source(
        name, table_schema, table_name, tuple(key_columns), tuple(text_columns), tuple(payload_columns), alias,
        template, condition, tuple(condition_columns), chunk_tokens, chunk_overlap, tenant_column,
        Profile.from_json(profile), resolved_condition, tuple(condition_objects), reads or "",
    )  # fmt: skip
