"""Build a source's definition from what a user says of a table, and check that a definition fits its table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Literal

from psycopg import sql

from reindexer import registry
from reindexer.core.errors import DefinitionError, SourceError, UsageError
from reindexer.core.keywords import ENGLISH
from reindexer.core.payload import TENANT_KINDS
from reindexer.core.profile import Profile
from reindexer.core.related import Related, split_name
from reindexer.core.source import SAID, Source
from reindexer.postgres import catalog
from reindexer.postgres.catalog import Relation
from reindexer.postgres.connect import Connection
from reindexer.postgres.payload_kinds import payload_columns
from reindexer.postgres.queries import load
from reindexer.sources import condition
from reindexer.sources.keys import key_types
from reindexer.sources.relations import (
    RelatedTable,
    define_relations,
    draft_relation,
    fit_relations,
    require_indexes,
)
from reindexer.sources.tables import KEY_TYPES, PRINTS_NAMES, alternatives, find_table

_ALIAS = re.compile(r"[^\x00-\x1f<>:\"/\\|?*\x7f]{1,200}")
"""Characters that both Qdrant and file systems accept."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a user says of a source: `table`, named as in SQL, and what `SAID` lists. Column names are taken
    literally."""

    name: str
    table: str
    text: tuple[str, ...]
    key: tuple[str, ...] = ()
    """Empty: the primary key."""
    payload: tuple[str, ...] = ()
    template: str | None = None
    """`\\n` and `\\t` in it, as shells leave them, are a new line and a tab."""
    where: str | None = None
    alias: str | None = None
    chunk_tokens: int | None = None
    chunk_overlap: int = 0
    chunker: str = field(default="text", kw_only=True)
    chunk_header: str | None = field(default=None, kw_only=True)
    """A template over the text columns and `{headings}`."""
    store_text: str | None = field(default=None, kw_only=True)
    """The key of the payload that holds a chunk's text."""
    tenant: str | None = None
    profile: Profile = field(default_factory=Profile)
    keywords: bool = field(default=False, kw_only=True)
    language: str = field(default=ENGLISH, kw_only=True)
    stop_words: tuple[str, ...] = field(default=(), kw_only=True)
    stemmer: bool = field(default=True, kw_only=True)
    related: tuple[RelatedTable, ...] = field(default=(), kw_only=True)
    change: Literal["in-place", "rebuild"] = field(default="in-place", kw_only=True)
    """How a change is made where it can be made in place. Not part of the definition."""


def draft(
    wanted: Wanted,
    schema: str = "",
    table: str = "",
    key: Sequence[str] = ("?",),
    related: Sequence[Related] | None = None,
) -> Source:
    """Return the definition as far as it follows from the user's words, without reading the table. Raises
    DefinitionError."""
    about = f"source {wanted.name!r}"
    if related is None:
        try:
            related = [draft_relation(each) for each in wanted.related]
        except DefinitionError as exc:
            raise DefinitionError(f"{about}: {exc}", key=exc.key) from None
    if wanted.alias is not None and not _ALIAS.fullmatch(wanted.alias):
        raise DefinitionError(
            f"{about}: Qdrant takes no alias {wanted.alias[:40]!r}; use letters, digits, '_' and '-'",
            key="alias",
        )
    try:
        registry.CHUNKERS.require(wanted.chunker)
    except UsageError as exc:
        raise DefinitionError(f"{about}: {exc}", key="chunker") from None
    template = wanted.template.replace("\\n", "\n").replace("\\t", "\t") if wanted.template else wanted.template
    said = {attribute.name: getattr(wanted, word) for word, attribute in SAID.items() if word != "where"}
    said |= {"key_columns": wanted.key or tuple(key), "alias": wanted.alias or "", "template": template}
    return Source(name=wanted.name, table_schema=schema, table_name=table, related=tuple(related), **said)


def define(connection: Connection, wanted: Wanted) -> Source:
    """Return the definition. Raises UsageError, one line that says what to change, if it fits no table."""
    about = f"source {wanted.name!r}"
    schema, table = find_table(connection, wanted.table, about)
    if wanted.related:
        draft(wanted)  # the words themselves, before the tables are asked
    facts = load("catalog.sql")
    named = {"table": sql.Identifier(schema, table).as_string(connection)}
    columns = [str(name) for (name,) in connection.execute(facts["column_names"], named)]
    key = wanted.key or tuple(str(c) for (c,) in connection.execute(facts["primary_key"], named))
    if not key:
        raise DefinitionError(
            f"{about}: {schema}.{table} has no primary key; name columns under a unique NOT NULL index as key",
            key="key",
        )
    related = define_relations(connection, about, wanted.related, schema, table) if wanted.related else ()
    for what, names in (("key", key), ("text", wanted.text), ("payload", wanted.payload)):
        for column in names:
            if column not in columns and (what == "key" or split_name(column, related)[0] is None):
                words = f"{schema}.{table} has no column {column!r}; {alternatives(column, columns)}"
                if what != "key" and "." in column:
                    words = _no_relation(wanted, column)
                raise DefinitionError(f"{about}: {words}", key=what)
    source = draft(wanted, schema, table, key, related)
    if wanted.where is None:
        return source
    try:
        return condition.resolved(connection, source, wanted.where)
    except condition.ConditionRejected as exc:
        raise DefinitionError(f"{about}: {exc}", key="where") from exc


def _no_relation(wanted: Wanted, column: str) -> str:
    name = column.partition(".")[0]
    close = get_close_matches(name, [each.name for each in wanted.related], n=1)
    hint = f"is it {close[0]!r}?" if close else (
        f"write [sources.{wanted.name}.related.{name}] with its table into the sources file, or say --related "
        f"{name}=TABLE"
    )  # fmt: skip
    return f"there is no relation {name!r} for {column!r}; {hint}"


def check(connection: Connection, source: Source) -> None:
    """Raises UsageError if the definition does not fit its tables, or if triggers can't be created on them."""
    fit(connection, source)
    require_indexes(connection, source)
    try:
        foreign = [table for table in catalog.tree(connection, source) if table.is_foreign]
    except SourceError as exc:
        raise DefinitionError(str(exc), key="table") from exc
    if foreign:  # guard attach-foreign-table-refusal
        of = foreign[0].capture.followed
        part = "table" if of is None or of.link is of.relation.table else "through"
        key = f"related.{of.relation.name}.{part}" if of else part
        raise DefinitionError(f"source {source.name!r}: {foreign_below(foreign[0])}", key=key)


def tables_of(source: Source) -> list[tuple[Source, str]]:
    """Return the source, and each table of its relations as if it were this source's, with the key that names it."""
    related = [
        (
            replace(source, table_schema=link.table_schema, table_name=link.table_name),
            f"related.{each.name}.{'table' if link is each.table else 'through'}",
        )
        for each in source.related
        for link in each.links
    ]
    return [(source, "table"), *related]


def foreign_below(table: Relation) -> str:
    """Say why a source above this foreign table can't be followed, and what to do."""
    return (
        f"the foreign table {table} is below {'.'.join(table.capture.table)}: no trigger sees its changes, "
        "and with ours above it each UPDATE and DELETE would fail; take it out (NO INHERIT, DETACH PARTITION), or make "
        "the tables beside it sources of their own"
    )


def fit(connection: Connection, source: Source) -> None:
    """Raises UsageError if the definition does not fit the table's columns and key, which may have been changed."""
    table = sql.Identifier(source.table_schema, source.table_name).as_string(connection)
    named = {"table": table, "columns": [*source.key_columns, *source.declared_columns]}
    try:
        types = key_types(connection, source)
    except SourceError as exc:
        raise DefinitionError(str(exc)) from exc
    for column, type_name in zip(source.key_columns, types, strict=True):
        if type_name not in KEY_TYPES:
            raise DefinitionError(
                f"source {source.name!r}: key column {column!r} is {type_name}; keys are integers, uuid or text",
                key="key",
            )
    for (column,) in connection.execute(load("catalog.sql")["virtual_columns"], named):
        raise DefinitionError(
            f"source {source.name!r}: {column!r} is a virtual generated column, whose changes no trigger sees; "
            "name the columns that it is made of, or make it STORED",
            key=_named_in(source, column),
        )
    for column, type_name in catalog.base_types(connection, source, source.declared_columns).items():
        if type_name in PRINTS_NAMES:
            raise DefinitionError(
                f"source {source.name!r}: {column!r} is {type_name}, which reads as the name of another object, and "
                "nothing tells when that is renamed; name a column that holds it as text",
                key=_named_in(source, column),
            )
    for tenant in (each for each in payload_columns(connection, source) if each.tenant):
        if tenant.kind not in TENANT_KINDS:
            raise DefinitionError(
                f"source {source.name!r}: the tenant column {tenant.name!r} holds {tenant.kind} values; Qdrant keeps "
                "tenants apart by text or uuid",
                key="tenant",
            )
    unique = connection.execute(load("sources.sql")["unique_key"], {"table": table}).fetchall()
    if sorted(source.key_columns) not in [columns for (columns,) in unique]:
        raise DefinitionError(
            f"source {source.name!r}: ({', '.join(source.key_columns)}) has no valid unique NOT NULL index; "
            "use the primary key, or make such an index",
            key="key",
        )
    fit_relations(connection, source)


def _named_in(source: Source, column: str) -> str:
    """Return the part of the definition that names a column."""
    parts = {"key": source.key_columns, "text": source.text_columns, "payload": source.payload_columns}
    parts |= {f"related.{each.name}.on": each.links[0].near for each in source.related if each.of is None}
    return next((part for part, columns in parts.items() if column in columns), "where")
