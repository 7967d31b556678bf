"""Change a source's definition: given values change, the rest stays, and the effect on rows is reported beforehand.

This module only computes the change; it writes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from dataclasses import fields as fields_of
from difflib import get_close_matches
from typing import Any

import psycopg
from psycopg import sql

from reindexer.core.errors import OtherVectors, SourceError, UsageError
from reindexer.core.profile import Profile
from reindexer.core.redefinition import Change, changes, may_move, other_rules
from reindexer.core.source import SAID, Source
from reindexer.postgres.connect import Connection, first_line, one_line
from reindexer.postgres.names import Name
from reindexer.sources.attach import require_alias, require_same_table
from reindexer.sources.condition import is_item, read_only, require
from reindexer.sources.definition import Wanted, check, define
from reindexer.sources.embedder_record import require_same_vectors
from reindexer.sources.joins import laterals, text_of
from reindexer.sources.relations import words_of
from reindexer.sources.tables import find_table

COUNT_S = 5.0

_NEEDED = ("table", "text")
_OPTIONAL = (*(word for word in SAID if word not in (*_NEEDED, "alias")), "related")
_PROFILE = tuple(f"profile.{each.name}" for each in fields_of(Profile))


@dataclass(frozen=True, slots=True)
class Moved:
    """How many rows a changed definition would add to the index and remove from it."""

    enter: int = 0
    leave: int = 0
    unknown: str | None = None
    """Why the rows can't be counted."""

    def __bool__(self) -> bool:
        return bool(self.enter or self.leave or self.unknown)

    def __str__(self) -> str:
        if self.unknown:
            return f"some may enter the index or leave it: {self.unknown}"
        if not self:
            return "none would enter the index or leave it"
        return f"{self.enter} would enter the index, {self.leave} would leave it"


@dataclass(frozen=True, slots=True)
class Redefinition:
    """A source's old and new definition, and the effect of the change."""

    before: Source | None
    after: Source
    changes: Mapping[str, Change]
    moved: Moved


def redefine(
    connection: Connection, name: str, before: Source | None, given: Mapping[str, Any], unset: Collection[str]
) -> Redefinition:
    """Return the change that a user asks of a source, attached (`before`) or not.

    `given` are values of `Wanted`, by its field names. Raises UsageError if the resulting definition is incomplete, or
    does not fit its table.
    """
    if before is None:
        for key in _NEEDED:
            if key not in given:
                raise UsageError(f"there is no source {name!r} yet; to attach it, say --table and --text")
    elif "table" in given:
        require_same_table(connection, name, *find_table(connection, given["table"], f"source {name!r}"))
    # guard definition-omitted-values-kept
    wanted = Wanted(name, "", ()) if before is None else _said(connection, before)
    after = define(connection, replace(wanted, **(_taken_away(wanted, given, unset) | dict(given))))
    check(connection, after)
    require_alias(connection, after)
    require_same_vectors(connection, after)
    if before is not None and other_rules(before, after):
        raise OtherVectors(
            f"source {name!r}: its keywords are made by other rules, which are fixed for a generation: `reindexer "
            f"rebuild {name}` fills one by the sources file, docs/generations.md",
            key="language",
        )
    differing = changes(before, after)
    moves = before is not None and may_move(differing)
    return Redefinition(before, after, differing, moved_by(connection, before, after) if before and moves else Moved())


def _said(connection: Connection, source: Source) -> Wanted:
    """Return the words that would define the source as it is."""
    table = sql.Identifier(source.table_schema, source.table_name).as_string(connection)
    said = {word: getattr(source, each.name) for word, each in SAID.items()}
    return Wanted(source.name, table, related=words_of(connection, source), **said)


def _taken_away(wanted: Wanted, given: Mapping[str, Any], unset: Collection[str]) -> dict[str, Any]:
    empty, profile = Wanted("", "", ()), wanted.profile
    values: dict[str, Any] = {}
    for key in unset:
        field, _, part = key.replace("-", "_").partition(".")
        if field in given:
            raise UsageError(f"--unset {key}: it is given as well; say one of both")
        if part and f"{field}.{part}" in _PROFILE:
            profile = replace(profile, **{part: getattr(Profile(), part)})
            values["profile"] = profile
        elif not part and field in _OPTIONAL:
            values[field] = getattr(empty, field)
        else:
            raise UsageError(f"--unset {key}: {_why_not(field, key)}")
    return values


def _why_not(field: str, key: str) -> str:
    if field in _NEEDED:
        return "a source can't be without it"
    if field == "alias":
        return "it names the collection and can't be changed; detach the source and attach it anew"
    close = get_close_matches(key, [*_OPTIONAL, *_PROFILE], n=1)
    known = f"did you mean {close[0]}?" if close else f"known are {', '.join(_OPTIONAL)} and profile.KEY"
    return f"there is no such key; {known}"


def _why_not_counted(connection: Connection, before: Source, exc: psycopg.Error) -> str:
    """Say why rows can't be counted. If the old condition is to blame, in Postgres's words: they quote it, and no
    row."""
    try:
        require(connection, before)
    except SourceError as gone:
        return first_line(gone.__cause__ or gone)
    return one_line(exc)


def moved_by(connection: Connection, before: Source, after: Source) -> Moved:
    """Return how many rows a change of definition moves into the index or out of it. Takes `COUNT_S` at most."""
    was, now = _in_index(before), _in_index(after)
    if before.key_columns != after.key_columns:
        # The ids differ: everything indexed before leaves the index, and everything indexed afterwards enters it.
        enter, leave = now, was
    else:
        enter, leave = _but_not(now, was), _but_not(was, now)
    query = sql.SQL("SELECT count(*) FILTER (WHERE {}), count(*) FILTER (WHERE {}) FROM {} AS t").format(
        enter, leave, Name(after.table_schema, after.table_name)
    )
    try:
        with read_only(connection, COUNT_S):
            row = connection.execute(query, (), binary=True).fetchone()
    except psycopg.errors.QueryCanceled:
        return Moved(unknown=f"counting them took longer than {COUNT_S:g} s")
    except psycopg.Error as exc:
        if connection.closed:
            raise
        return Moved(unknown=f"they can't be counted: {_why_not_counted(connection, before, exc)}")
    return Moved(*row) if row else Moved()


def _in_index(source: Source) -> sql.Composed:
    """Return SQL for whether row `t` has a point: it is an item, and has text."""
    texts = sql.SQL(" OR ").join(
        sql.SQL("coalesce({} ~ '\\S', false)").format(text_of(source, name)) for name in source.columns_of_text
    )
    if source.related:
        texts = sql.SQL("EXISTS (SELECT FROM (SELECT) AS always{} WHERE {})").format(laterals(source), texts)
    return sql.SQL("({} AND ({}))").format(is_item(source), texts)


def _but_not(one: sql.Composed, other: sql.Composed) -> sql.Composed:
    return sql.SQL("{} AND NOT {}").format(one, other)
