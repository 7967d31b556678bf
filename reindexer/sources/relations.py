"""Relations: find out from a user's words how related tables are joined, and check that relations fit their tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import psycopg
from psycopg import sql

from reindexer.core.errors import DefinitionError
from reindexer.core.related import Link, Related, chain, columns_of, is_many
from reindexer.core.source import Source
from reindexer.postgres import catalog
from reindexer.postgres.connect import Connection, first_line, one_line
from reindexer.postgres.queries import load
from reindexer.sources import condition
from reindexer.sources.tables import KEY_TYPES, PRINTS_NAMES, alternatives, find_table

SMALL = 10_000
"""A table of fewer rows can be read whole: it needs no index over the columns of a join."""

_INTEGERS = frozenset({"smallint", "integer", "bigint"})
_TEXTS = frozenset({"text", "character varying"})
_MOST_SHOWN = 4


@dataclass(frozen=True, slots=True)
class RelatedTable:
    """What a user says of a relation of a source. Tables are named as in SQL, column names are taken literally."""

    name: str
    table: str
    of: str | None = None
    through: str | None = None
    """A link table between."""
    on: Mapping[str, str] = field(default_factory=dict)
    """Columns of the table before, and those of this one (of the link table) that they equal. Empty: a foreign key."""
    to: Mapping[str, str] = field(default_factory=dict)
    """The same from the link table to this one."""
    many: bool | None = None
    """None: as follows from the join."""
    order: tuple[str, ...] = ()
    separator: str = ", "
    where: str | None = None
    limit: int | None = None
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Column:
    type: str
    collation: int
    is_virtual: bool


@dataclass(frozen=True, slots=True)
class _Index:
    is_unique: bool
    columns: Sequence[str | None]
    """None: an expression."""


@dataclass(frozen=True, slots=True)
class _Table:
    """What the catalog says of a table. Without columns: there is none of that name."""

    schema: str
    name: str
    columns: Mapping[str, _Column]
    indexes: Sequence[_Index]

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    def is_unique(self, columns: Sequence[str]) -> bool:
        """Whether no two rows have the same values in these columns."""
        return any(each.is_unique and set(each.columns) <= set(columns) for each in self.indexes)

    def is_found_by(self, columns: Sequence[str]) -> bool:
        """Whether an index finds the rows that have given values in these columns."""
        return self.is_unique(columns) or any(
            set(each.columns[: len(columns)]) == set(columns) for each in self.indexes
        )


def draft_relation(wanted: RelatedTable) -> Related:
    """Return a relation as far as it follows from the user's words: its join is not known. Raises DefinitionError."""
    return Related(
        wanted.name, (Link("", wanted.table, (), ()),), wanted.of, bool(wanted.many), order=wanted.order,
        separator=wanted.separator, limit=wanted.limit, object_columns=wanted.columns,
    )  # fmt: skip


def words_of(connection: Connection, source: Source) -> tuple[RelatedTable, ...]:
    """Return the words that would define the source's relations as they are."""
    return tuple(
        RelatedTable(
            each.name, _quoted(connection, each.table), each.of,
            _quoted(connection, each.links[0]) if len(each.links) > 1 else None,
            dict(zip(each.links[0].near, each.links[0].far, strict=True)),
            dict(zip(each.table.near, each.table.far, strict=True)) if len(each.links) > 1 else {},
            each.many, each.order, each.separator, each.condition, each.limit, each.object_columns,
        )
        for each in source.related
    )  # fmt: skip


def define_relations(
    connection: Connection, about: str, wanted: Sequence[RelatedTable], schema: str, table: str
) -> tuple[Related, ...]:
    """Return the relations of a table. None of them leads to itself: `draft` has seen to that.

    Raises DefinitionError, one line that begins with `about`.
    """
    drafts = [draft_relation(each) for each in wanted]
    depth = {each.name: len(chain(each, drafts)) for each in drafts}
    tables: dict[str | None, _Table] = {None: _look(connection, schema, table)}
    found = dict[str, Related]()
    for each in sorted(wanted, key=lambda each: depth[each.name]):
        found[each.name] = _define(connection, about, each, tables[each.of])
        link = found[each.name].table
        tables[each.name] = _look(connection, link.table_schema, link.table_name)
    return tuple(found[each.name] for each in wanted)


def _define(connection: Connection, about: str, wanted: RelatedTable, before: _Table) -> Related:
    steps = [("table", wanted.table, "on", wanted.on)]
    if wanted.through is not None:
        steps = [("through", wanted.through, "on", wanted.on), ("table", wanted.table, "to", wanted.to)]
    elif wanted.to:
        raise _wrong(about, wanted.name, "to is the join of a link table; name that as through, or write on", "to")
    links, loose = list[Link](), list[Link]()
    for word, name, key, said in steps:
        table = _look(connection, *_find(connection, about, wanted.name, word, name))
        if said:
            near, far = tuple(said), tuple(said.values())
        else:
            near, far = _by_foreign_key(connection, about, wanted, key, before, table)
        link = Link(table.schema, table.name, near, far)
        _require_join(about, wanted.name, key, before, table, link)
        links.append(link)
        loose += [] if table.is_unique(far) else [link]
        before = table
    if wanted.many is False and loose:
        raise _not_unique(about, wanted.name, loose[0])
    named = {"table": _quoted(connection, links[-1])}
    key_columns = [str(column) for (column,) in connection.execute(load("catalog.sql")["primary_key"], named)]
    others = connection.execute(load("sources.sql")["unique_key"], named).fetchall()
    relation = replace(
        draft_relation(wanted), links=tuple(links), many=bool(loose) if wanted.many is None else wanted.many,
        key_columns=tuple(key_columns or min((columns for (columns,) in others), default=())),
    )  # fmt: skip
    if wanted.where is None:
        return relation
    try:
        resolved = condition.resolved(connection, condition.of_table(relation), wanted.where)
    except condition.ConditionRejected as exc:
        raise _wrong(about, wanted.name, str(exc), "where") from exc
    return replace(
        relation, condition=resolved.condition, condition_columns=resolved.condition_columns,
        resolved_condition=resolved.resolved_condition, condition_objects=resolved.condition_objects,
    )  # fmt: skip


def _find(connection: Connection, about: str, name: str, word: str, words: str) -> tuple[str, str]:
    try:
        return find_table(connection, words, f"{about}: relation {name!r}")
    except DefinitionError as exc:
        raise DefinitionError(str(exc), key=f"related.{name}.{word}") from exc


def _by_foreign_key(
    connection: Connection, about: str, wanted: RelatedTable, key: str, before: _Table, table: _Table
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the columns of the one foreign key between two tables: those of the table before, and the others."""
    named = {"before": _quoted(connection, before), "table": _quoted(connection, table)}
    found = [
        (tuple(near), tuple(far)) for near, far in connection.execute(load("relations.sql")["foreign_keys"], named)
    ]
    if str(before) == str(table) and wanted.many:
        found = [(far, near) for near, far in found]
    if len(found) == 1:
        return found[0]
    if not found:
        raise _wrong(
            about,
            wanted.name,
            f'no foreign key leads from {before} to {table} or back; write {key} = {{ x = "y" }}: column x of '
            f"{before} equals y of {table}",
        )
    ways = [f"{key} = {{ {_pairs(near, far)} }}" for near, far in found]
    more = f" (and {len(ways) - _MOST_SHOWN} more)" if len(ways) > _MOST_SHOWN else ""
    raise _wrong(
        about,
        wanted.name,
        f"{len(found)} foreign keys lead from {before} to {table} or back; write "
        f"{' or '.join(ways[:_MOST_SHOWN])}{more}",
    )


def _pairs(near: Sequence[str], far: Sequence[str]) -> str:
    return ", ".join(f'{one} = "{other}"' for one, other in zip(near, far, strict=True))


def fit_relations(connection: Connection, source: Source) -> None:
    """Raises DefinitionError if relations do not fit their tables, which may have been changed."""
    if not source.related:
        return
    about = f"source {source.name!r}"
    tables: dict[str | None, _Table] = {None: _look(connection, source.table_schema, source.table_name)}
    for relation in sorted(source.related, key=lambda each: len(chain(each, source.related))):
        before, loose = tables[relation.of], list[Link]()
        for place, link in enumerate(relation.links):
            table = _look(connection, link.table_schema, link.table_name)
            _require_table(connection, about, relation, link)
            _require_join(about, relation.name, "to" if place else "on", before, table, link)
            loose += [] if table.is_unique(link.far) else [link]
            before = table
        tables[relation.name] = before
        if not relation.many and loose:
            raise _not_unique(about, relation.name, loose[0])
        _require_columns(connection, source, relation, before)
        _require_key(connection, source, relation)
        if hidden := [each for each in tables[None].columns if each.startswith(f"{relation.name}.")]:
            raise _wrong(
                about, relation.name, f"{tables[None]} has a column {hidden[0]!r}; give the relation another name"
            )


def _require_table(connection: Connection, about: str, relation: Related, link: Link) -> None:
    """There still is a table of that name, and no view in its place."""
    word = "table" if link is relation.table else "through"
    _find(connection, about, relation.name, word, _quoted(connection, link))


def _require_join(about: str, name: str, key: str, before: _Table, table: _Table, link: Link) -> None:
    """The columns of a join are there, and their values can be compared."""
    for side, columns in ((before, link.near), (table, link.far)):
        for column in columns:
            if column not in side.columns:
                raise _no_column(about, name, side, column, key)
            if side.columns[column].type not in KEY_TYPES:
                raise _wrong(
                    about,
                    name,
                    f"column {column!r} of {side} is {side.columns[column].type}; tables are joined by integers, uuid "
                    "or text",
                    key,
                )
            if side.columns[column].is_virtual:
                raise _wrong(about, name, _virtual(side, column), key)
    for near, far in zip(link.near, link.far, strict=True):
        one, other = before.columns[near], table.columns[far]
        both, said = {one.type, other.type}, f"{near!r} of {before} is {one.type}, {far!r} of {table} {other.type}"
        if len(both) > 1 and not both <= _INTEGERS and not both <= _TEXTS:
            raise _wrong(about, name, f"{said}, and they can't be compared; give them one type", key)
        if one.collation != other.collation:
            words = f"{near!r} of {before} and {far!r} of {table} have different collations; give them the same one"
            raise _wrong(about, name, words, key)


def _require_columns(connection: Connection, source: Source, relation: Related, table: _Table) -> None:
    """What is read of the related table is there, and every change of it is seen."""
    about = f"source {source.name!r}"
    parts = {
        "text": columns_of(relation, source.related, source.text_columns),
        f"related.{relation.name}.columns": relation.object_columns,
        "payload": columns_of(relation, source.related, source.payload_columns),
        f"related.{relation.name}.order": relation.order,
        f"related.{relation.name}.where": relation.condition_columns,
    }
    all_of_them = [column for columns in parts.values() for column in columns]
    types = catalog.base_types(connection, condition.of_table(relation), all_of_them)
    for key, columns in parts.items():
        for column in columns:
            wrong = None
            if column not in table.columns:
                wrong = f"{table} has no column {column!r}; {alternatives(column, list(table.columns))}"
            elif table.columns[column].is_virtual:
                wrong = _virtual(table, column)
            elif types.get(column) in PRINTS_NAMES:
                wrong = (
                    f"{column!r} of {table} is {types[column]}, which reads as the name of another object, and nothing "
                    "tells when that is renamed; name a column that holds it as text"
                )
            if wrong:
                raise DefinitionError(f"{about}: relation {relation.name!r}: {wrong}", key=key)
    if relation.order:
        _require_order(connection, about, relation)


def _require_order(connection: Connection, about: str, relation: Related) -> None:
    query = sql.SQL("EXPLAIN SELECT FROM {} ORDER BY {}").format(
        sql.Identifier(relation.table.table_schema, relation.table.table_name),
        sql.SQL(", ").join(map(sql.Identifier, relation.order)),
    )
    try:
        with condition.read_only(connection, condition.CHECK_S):
            connection.execute(query)
    except psycopg.errors.InsufficientPrivilege:
        return  # the role that checks may differ from the role that reads
    except psycopg.ProgrammingError as exc:
        raise _wrong(about, relation.name, f"its rows can't be ordered: {first_line(exc)}", "order") from exc


def _require_key(connection: Connection, source: Source, relation: Related) -> None:
    """Several rows must come in one order, or the same rows would make different texts."""
    if not is_many(relation, source.related):
        return
    named = {"table": _quoted(connection, relation.table)}
    unique = connection.execute(load("sources.sql")["unique_key"], named).fetchall()
    if sorted(relation.key_columns) not in [columns for (columns,) in unique]:
        raise _wrong(
            f"source {source.name!r}",
            relation.name,
            f"there can be several rows of {relation.table}, and it has no primary key or other unique NOT NULL index "
            "to order them by; make one",
        )


def require_indexes(connection: Connection, source: Source) -> None:
    """Raises DefinitionError if the rows of a large table would be looked for without an index: those that are related
    when an item is read, those before when a related row was changed."""
    for relation in source.related:
        for before, link in _joins(source, relation):
            for schema, name, columns in ((*before, link.near), (link.table_schema, link.table_name, link.far)):
                table = _look(connection, schema, name)
                if table.is_found_by(columns) or not _is_large(connection, source, relation, table):
                    continue
                made = sql.SQL("CREATE INDEX ON {} ({})").format(
                    sql.Identifier(schema, name), sql.SQL(", ").join(map(sql.Identifier, columns))
                )
                raise _wrong(
                    f"source {source.name!r}",
                    relation.name,
                    f"{table} has {SMALL:,} rows or more and no index to find them by {', '.join(columns)}; "
                    f"make it: {made.as_string(connection)}",
                )


def _joins(source: Source, relation: Related) -> Iterator[tuple[tuple[str, str], Link]]:
    """Each link of a relation, and the table before it."""
    *_, before = (None, *chain(relation, source.related)[:-1])
    at = (source.table_schema, source.table_name)
    if before is not None:
        at = (before.table.table_schema, before.table.table_name)
    for link in relation.links:
        yield at, link
        at = (link.table_schema, link.table_name)


def _is_large(connection: Connection, source: Source, relation: Related, table: _Table) -> bool:
    """By the last ANALYZE; if there was none, the rows are counted, and no more than `SMALL`."""
    named = {"table": _quoted(connection, table)}
    row = connection.execute(load("relations.sql")["rows_guessed"], named).fetchone()
    if row and row[0] > 0:
        return bool(row[0] >= SMALL)
    query = sql.SQL("SELECT count(*) FROM (SELECT FROM {} LIMIT {}) AS found").format(
        sql.Identifier(table.schema, table.name), sql.Literal(SMALL)
    )
    try:
        with condition.read_only(connection, condition.CHECK_S):
            counted = connection.execute(query).fetchone()
    except psycopg.errors.InsufficientPrivilege as exc:
        words = f"the rows of {table} can't be counted: {one_line(exc)}; grant SELECT on it"
        raise _wrong(f"source {source.name!r}", relation.name, words) from exc
    except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
        return True
    return bool(counted and counted[0] >= SMALL)


def _look(connection: Connection, schema: str, table: str) -> _Table:
    queries, named = load("relations.sql"), {"table": sql.Identifier(schema, table).as_string(connection)}
    columns = connection.execute(queries["columns"], named).fetchall()
    indexes = connection.execute(queries["indexes"], named).fetchall()
    return _Table(
        schema, table, {name: _Column(*facts) for name, *facts in columns}, [_Index(*facts) for facts in indexes]
    )


def _quoted(connection: Connection, table: Link | _Table) -> str:
    names = (table.table_schema, table.table_name) if isinstance(table, Link) else (table.schema, table.name)
    return sql.Identifier(*names).as_string(connection)


def _virtual(table: _Table, column: str) -> str:
    return (
        f"{column!r} of {table} is a virtual generated column, whose changes no trigger sees; name the columns that it "
        "is made of, or make it STORED"
    )


def _no_column(about: str, name: str, table: _Table, column: str, key: str) -> DefinitionError:
    return _wrong(about, name, f"{table} has no column {column!r}; {alternatives(column, list(table.columns))}", key)


def _not_unique(about: str, name: str, link: Link) -> DefinitionError:
    return _wrong(
        about,
        name,
        f"no unique index says that {link} has one row at most with the same {', '.join(link.far)}; make one, or say "
        "many = true",
        "many",
    )


def _wrong(about: str, name: str, words: str, part: str = "") -> DefinitionError:
    key = f"related.{name}.{part}" if part else f"related.{name}"
    return DefinitionError(f"{about}: relation {name!r}: {words}", key=key)
