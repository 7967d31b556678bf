"""Build a source's definition from what a user says of a table, and check that a definition fits its table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

import psycopg
from psycopg import sql

from reindexer import registry
from reindexer.core.errors import DefinitionError, SourceError, UsageError
from reindexer.core.payload import TENANT_KINDS
from reindexer.core.profile import Profile
from reindexer.core.source import SAID, Source
from reindexer.postgres import catalog
from reindexer.postgres.catalog import payload_columns
from reindexer.postgres.connect import Connection, first_line
from reindexer.postgres.namesake import SCHEMA
from reindexer.postgres.queries import load
from reindexer.sources import condition
from reindexer.sources.keys import key_types

KEY_TYPES = frozenset({"smallint", "integer", "bigint", "uuid", "text", "character varying"})

_PRINTS_NAMES = frozenset(
    {
        "regclass", "regcollation", "regconfig", "regdictionary", "regnamespace", "regoper", "regoperator", "regproc",
        "regprocedure", "regrole", "regtype", "aclitem",
    }
)  # fmt: skip

_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence", "i": "an index"}
_ALIAS = re.compile(r"[^\x00-\x1f<>:\"/\\|?*\x7f]{1,200}")
"""Characters that both Qdrant and file systems accept."""

_OF_THE_SERVER = ("pg_catalog", "information_schema", SCHEMA)


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
    tenant: str | None = None
    profile: Profile = field(default_factory=Profile)


def draft(wanted: Wanted, schema: str = "", table: str = "", key: Sequence[str] = ("?",)) -> Source:
    """Return the definition as far as it follows from the user's words, without reading the table. Raises
    DefinitionError."""
    if wanted.alias is not None and not _ALIAS.fullmatch(wanted.alias):
        raise DefinitionError(
            f"source {wanted.name!r}: Qdrant takes no alias {wanted.alias[:40]!r}; use letters, digits, '_' and '-'",
            key="alias",
        )
    try:
        registry.CHUNKERS.require(wanted.chunker)
    except UsageError as exc:
        raise DefinitionError(f"source {wanted.name!r}: {exc}", key="chunker") from None
    template = wanted.template.replace("\\n", "\n").replace("\\t", "\t") if wanted.template else wanted.template
    said = {attribute.name: getattr(wanted, word) for word, attribute in SAID.items() if word != "where"}
    said |= {"key_columns": wanted.key or tuple(key), "alias": wanted.alias or "", "template": template}
    return Source(name=wanted.name, table_schema=schema, table_name=table, **said)


def define(connection: Connection, wanted: Wanted) -> Source:
    """Return the definition. Raises UsageError, one line that says what to change, if it fits no table."""
    about = f"source {wanted.name!r}"
    schema, table = find_table(connection, wanted.table, about)
    facts = load("catalog.sql")
    named = {"table": sql.Identifier(schema, table).as_string(connection)}
    columns = [str(name) for (name,) in connection.execute(facts["column_names"], named)]
    key = wanted.key or tuple(str(c) for (c,) in connection.execute(facts["primary_key"], named))
    if not key:
        raise DefinitionError(
            f"{about}: {schema}.{table} has no primary key; name columns under a unique NOT NULL index as key",
            key="key",
        )
    for what, names in (("key", key), ("text", wanted.text), ("payload", wanted.payload)):
        for column in names:
            if column not in columns:
                raise DefinitionError(
                    f"{about}: {schema}.{table} has no column {column!r}; {_alternatives(column, columns)}", key=what
                )
    source = draft(wanted, schema, table, key)
    if wanted.where is None:
        return source
    try:
        return condition.resolved(connection, source, wanted.where)
    except condition.ConditionRejected as exc:
        raise DefinitionError(f"{about}: {exc}", key="where") from exc


def check(connection: Connection, source: Source) -> None:
    """Raises UsageError if the definition does not fit the table, or if triggers can't be created on it."""
    fit(connection, source)
    try:
        foreign = [str(table) for table in catalog.tree(connection, source) if table.is_foreign]
    except SourceError as exc:
        raise DefinitionError(str(exc), key="table") from exc
    if foreign:  # guard attach-foreign-table-refusal
        raise DefinitionError(f"source {source.name!r}: {foreign_below(source, foreign[0])}", key="table")


def foreign_below(source: Source, table: str) -> str:
    """Say why a source above this foreign table can't be followed, and what to do."""
    return (
        f"the foreign table {table} is below {source.table_schema}.{source.table_name}: no trigger sees its changes, "
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
        if type_name in _PRINTS_NAMES:
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


def _named_in(source: Source, column: str) -> str:
    """Return the part of the definition that names a column."""
    parts = {"key": source.key_columns, "text": source.text_columns, "payload": source.payload_columns}
    return next((part for part, columns in parts.items() if column in columns), "where")


def find_table(connection: Connection, words: str, about: str) -> tuple[str, str]:
    """Return schema and name of the table that `words` names. Raises DefinitionError; its message begins with
    `about`."""
    try:
        row = connection.execute("SELECT parse_ident(%s)", [words]).fetchone()
    except psycopg.DataError as exc:
        raise DefinitionError(f"{about}: {words!r} is no name of a table: {first_line(exc)}", key="table") from None
    parts: Sequence[str] = row[0] if row else []
    if len(parts) > 2:
        raise DefinitionError(f"{about}: {words!r} has {len(parts)} parts; a table is named schema.table", key="table")
    queries = load("catalog.sql")
    if len(parts) == 2:
        named = {"table": sql.Identifier(*parts).as_string(connection)}
        found = connection.execute(queries["named"], named).fetchone()
    else:
        found = connection.execute(queries["named_on_path"], {"name": parts[0]}).fetchone()
        if found is None and connection.execute(queries["in_our_schema"], {"name": parts[0]}).fetchone() == (True,):
            found = (SCHEMA, parts[0], "r")
    if found is None:
        alike = connection.execute(load("catalog.sql")["named_alike"], {"name": words.replace('"', "").split(".")[-1]})
        names = [str(name) for (name,) in alike]
        hint = f"is it {' or '.join(names)}?" if names else "see the names with \\dt *.* in psql"
        raise DefinitionError(f"{about}: there is no table {words}; {hint}", key="table")
    schema, table, kind = (str(each) for each in found)
    if kind not in "rp":
        what = _KINDS.get(kind, "no table")
        raise DefinitionError(
            f"{about}: {schema}.{table} is {what}, and has no changes to follow; name the table behind it", key="table"
        )
    if schema in _OF_THE_SERVER or schema.startswith("pg_"):
        moved = sql.SQL("ALTER TABLE {} SET SCHEMA public").format(sql.Identifier(schema, table)).as_string(connection)
        hint = f"; if it is, it lies in our schema by mistake: {moved}" if schema == SCHEMA else ""
        raise DefinitionError(f"{about}: {schema}.{table} is not a table of yours{hint}", key="table")
    return schema, table


def _alternatives(column: str, columns: Sequence[str]) -> str:
    close = get_close_matches(column.lower(), [c.lower() for c in columns], n=1)
    exact = [c for c in columns if c.lower() in close]
    return f"is it {exact[0]!r}?" if exact else f"it has {', '.join(columns)}"
