"""Turns wanted sources into definitions: all checks that need the database. They change nothing in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from reindexer.core.errors import DefinitionError, ReindexerError, UsageError
from reindexer.core.redefinition import rebuild_reasons
from reindexer.core.source import Source
from reindexer.postgres.connect import Connection, one_line
from reindexer.postgres.queries import load
from reindexer.postgres.schema import revision
from reindexer.sources.attach import require_alias, require_same_table
from reindexer.sources.definition import Wanted, check, define, tables_of
from reindexer.sources.store import attached_before
from reindexer.sources_file.read import SourcesFile


@dataclass(frozen=True, slots=True)
class Definitions:
    """Sources that fit their tables, and by name the reasons why others do not."""

    sources: Sequence[Source] = ()
    unfit: Mapping[str, str] = field(default_factory=dict)
    rebuilds: Mapping[str, Rebuild] = field(default_factory=dict)
    """Attached sources that need another collection to become what the file says, by name."""

    @property
    def kept(self) -> Mapping[str, str]:
        """What is told of those sources, by name: they stay as they are."""
        return {name: f"left as it is, because it needs a rebuild ({each.why}): see `reindexer plan`"
                for name, each in self.rebuilds.items()}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rebuild:
    """A definition that can't be reached in place."""

    wanted: Source
    why: str


def definitions(connection: Connection, file: SourcesFile | None, *, strict: bool = True) -> Definitions:
    """The definition of every source in the file. An attached source that no longer works is unfit. One whose vectors
    would be others is kept as it is.

    Any other source that does not fit is a mistake in the file. If `strict`, it raises UsageError with file and line;
    else that source is unfit, too.
    """
    found, unfit, before = list[Source](), dict[str, str](), attached_before(connection) if file else {}
    rebuilds = dict[str, Rebuild]()
    for name, wanted in file.sources.items() if file else ():
        try:
            source = _fitting(connection, wanted)
            why = _why_rebuild(connection, before[name], source, wanted) if name in before else []
            if why:  # guard sources-file-other-vectors
                rebuilds[name] = Rebuild(source, "; ".join(why))
            else:
                found.append(source)
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
    return Definitions(found, unfit, rebuilds)


def _fitting(connection: Connection, wanted: Wanted) -> Source:
    source = define(connection, wanted)
    check(connection, source)
    _require_owner(connection, source)  # guard sources-file-table-owner
    if revision(connection) is not None:
        require_alias(connection, source)
        require_same_table(connection, source.name, source.table_schema, source.table_name)
    return source


def _why_rebuild(connection: Connection, before: Source, source: Source, wanted: Wanted) -> list[str]:
    """Why the attached source can't become the wanted one in place. Raises DefinitionError if no rebuild can do it."""
    row = connection.execute(load("sources.sql")["vectors"], {"name": source.name}).fetchone()
    why = rebuild_reasons(before, source, row[0] if row else None, asked=wanted.change == "rebuild")
    if why and before.key_columns != source.key_columns:
        raise DefinitionError(
            f"source {source.name!r}: a rebuild keeps the key, and this change needs one ({why[0]}); detach the source "
            "and attach it anew",
            key="key",
        )
    return why


def _breakage(connection: Connection, before: Source) -> str | None:
    """Why a source does not work as it is attached; None if it works."""
    try:
        check(connection, before)
    except (ReindexerError, psycopg.errors.InsufficientPrivilege) as exc:
        return one_line(exc)
    return None


def _require_owner(connection: Connection, source: Source) -> None:
    """Only the owner may create triggers on a table; checked before any source's triggers are created."""
    for each, key in tables_of(source):
        table = sql.Identifier(each.table_schema, each.table_name).as_string(connection)
        row = connection.execute(load("catalog.sql")["owner"], {"table": table}).fetchone()
        if row and not row[1]:
            raise DefinitionError(
                f"source {source.name!r}: {each.table_schema}.{each.table_name} belongs to {row[0]}, who alone may put "
                "triggers on it; run this as that role",
                key=key,
            )
