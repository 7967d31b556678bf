"""Turns wanted sources into definitions: all checks that need the database. They change nothing in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from reindexer.core.errors import DefinitionError, ReindexerError, UsageError
from reindexer.core.source import Source
from reindexer.postgres.connect import Connection, one_line
from reindexer.postgres.queries import load
from reindexer.postgres.schema import revision
from reindexer.sources.attach import require_alias, require_same_table
from reindexer.sources.definition import Wanted, check, define
from reindexer.sources.embedder_record import require_same_vectors
from reindexer.sources.store import attached_before
from reindexer.sources_file.read import SourcesFile


@dataclass(frozen=True, slots=True)
class Definitions:
    """Sources that fit their tables, and by name the reasons why others do not."""

    sources: Sequence[Source] = ()
    unfit: Mapping[str, str] = field(default_factory=dict)


def definitions(connection: Connection, file: SourcesFile | None, *, strict: bool = True) -> Definitions:
    """The definition of every source in the file. An attached source that no longer works is unfit.

    Any other source that does not fit is a mistake in the file. If `strict`, it raises UsageError with file and line;
    else that source is unfit, too.
    """
    found, unfit, before = list[Source](), dict[str, str](), attached_before(connection) if file else {}
    for name, wanted in file.sources.items() if file else ():
        try:
            found.append(_fitting(connection, wanted))
        except (UsageError, psycopg.errors.InsufficientPrivilege) as exc:
            if broken := name in before and _breakage(connection, before[name]):  # guard sources-file-broken-source
                unfit[name] = broken
                continue
            key = exc.key if isinstance(exc, DefinitionError) else None
            about = "" if isinstance(exc, UsageError) else f"source {name!r}: "
            told = f"{file.at(name, key)}: {about}{one_line(exc)}" if file else ""
            if strict:
                raise UsageError(told) from exc
            unfit[name] = told
    return Definitions(found, unfit)


def _fitting(connection: Connection, wanted: Wanted) -> Source:
    source = define(connection, wanted)
    check(connection, source)
    _require_owner(connection, source)  # guard sources-file-table-owner
    if revision(connection) is not None:
        require_alias(connection, source)
        require_same_table(connection, source.name, source.table_schema, source.table_name)
        require_same_vectors(connection, source)
    return source


def _breakage(connection: Connection, before: Source) -> str | None:
    """Why a source does not work as it is attached; None if it works."""
    try:
        check(connection, before)
    except (ReindexerError, psycopg.errors.InsufficientPrivilege) as exc:
        return one_line(exc)
    return None


def _require_owner(connection: Connection, source: Source) -> None:
    """Only the owner may create triggers on a table; checked before any source's triggers are created."""
    table = sql.Identifier(source.table_schema, source.table_name).as_string(connection)
    row = connection.execute(load("catalog.sql")["owner"], {"table": table}).fetchone()
    if row and not row[1]:
        raise DefinitionError(
            f"source {source.name!r}: {source.table_schema}.{source.table_name} belongs to {row[0]}, who alone may put "
            "triggers on it; run this as that role",
            key="table",
        )
