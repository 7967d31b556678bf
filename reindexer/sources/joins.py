"""SQL that joins a source's rows with those of its related tables: downwards to read a document, upwards from a changed
related row to the items that read it.

The row of the source is `t`. Both directions go by columns that have an index (`reindexer.sources.relations` requires
it), so that neither reads a whole table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import LiteralString

from psycopg import sql

from reindexer.core.related import Followed, Related, chain, columns_of, is_many, split_name
from reindexer.core.source import Source
from reindexer.postgres.names import Name, Text
from reindexer.sources.condition import composed


def text_of(source: Source, name: str) -> sql.Composable:
    """Return an expression for one text column of row `t`, given `laterals`."""
    relation, column = split_name(name, source.related)
    if relation is None:
        return sql.SQL("t.{}::text").format(Name(name))
    place = _texts(source, relation).index(column)
    return sql.SQL("{}.{}").format(Name(_alias(relation)), Name(f"text_{place}"))


def payload_of(source: Source) -> sql.Composable:
    """Return the select list of the payload of row `t`, given `laterals`: own columns, and one value a relation."""
    own = [sql.SQL("t.{}").format(Name(column)) for column in source.own_columns(source.payload_columns)]
    of_relations = [
        sql.SQL("{}.payload AS {}").format(Name(_alias(each)), Name(each.name))
        for each in source.related
        if columns_of(each, source.related, source.payload_columns)
    ]
    return sql.SQL(", ").join([*own, *of_relations])


def laterals(source: Source) -> sql.Composable:
    """Return joins that give row `t` one row for each relation that its text or payload reads."""
    read = [each for each in source.related if columns_of(each, source.related, _names(source))]
    return sql.SQL("").join(
        sql.SQL(" LEFT JOIN LATERAL ({}) AS {} ON true").format(_one_row(source, each), Name(_alias(each)))
        for each in read
    )


def _one_row(source: Source, relation: Related) -> sql.Composable:
    columns = columns_of(relation, source.related, _names(source))
    at = {column: sql.SQL("found.{}").format(Name(f"column_{place}")) for place, column in enumerate(columns)}
    several = is_many(relation, source.related)
    texts = [
        sql.SQL("{} AS {}").format(_text(relation, at[column], several=several), Name(f"text_{place}"))
        for place, column in enumerate(_texts(source, relation))
    ]
    payload = columns_of(relation, source.related, source.payload_columns)
    values = [sql.SQL("{} AS payload").format(_payload(relation, payload, at, several=several))] if payload else []
    return sql.SQL("SELECT {wanted} FROM ({rows}) AS found").format(
        wanted=sql.SQL(", ").join([*texts, *values]), rows=_rows(source, relation, columns, several=several)
    )


def _text(relation: Related, column: sql.Composable, *, several: bool) -> sql.Composable:
    if not several:
        return sql.SQL("{}::text").format(column)
    return sql.SQL(
        "string_agg({column}::text, {separator} ORDER BY found.place) FILTER (WHERE {column}::text ~ '\\S')"
    ).format(column=column, separator=Text(relation.separator))


def _payload(
    relation: Related, columns: Sequence[str], at: Mapping[str, sql.Composable], *, several: bool
) -> sql.Composable:
    listed = sql.SQL(", ").join(sql.SQL("{} AS {}").format(at[column], Name(column)) for column in columns)
    as_object = sql.SQL("(SELECT to_jsonb(o) FROM (SELECT {}) AS o)").format(listed)
    if not several:
        return as_object
    if relation.object_columns:
        return sql.SQL("coalesce(jsonb_agg({} ORDER BY found.place), '[]')").format(as_object)
    return sql.SQL("jsonb_build_object({})").format(
        sql.SQL(", ").join(
            sql.SQL(
                "{name}, coalesce(jsonb_agg(to_jsonb({at}) ORDER BY found.place) FILTER (WHERE {at} IS NOT NULL), '[]')"
            ).format(name=Text(column), at=at[column])
            for column in columns
        )
    )


def _rows(source: Source, relation: Related, columns: Sequence[str], *, several: bool) -> sql.Composable:
    """The related rows of row `t`, in order: the columns as `column_0` …, and `place`."""
    way = chain(relation, source.related)
    last = _table_alias(len(way) - 1, len(relation.links) - 1)
    order = [sql.SQL("{}.{}").format(Name(last), Name(c)) for c in dict.fromkeys(relation.order + relation.key_columns)]
    listed = [
        sql.SQL("{}.{} AS {}").format(Name(last), Name(column), Name(f"column_{place}"))
        for place, column in enumerate(columns)
    ]
    ordered = sql.SQL("ORDER BY {}").format(sql.SQL(", ").join(order)) if order else sql.SQL("")
    first, *more = _links(way)
    conditions = [
        _equal(first, "t"),
        *(_meets(source, each, depth) for depth, each in enumerate(way) if each.condition),
    ]
    limit = relation.limit if several else 1
    return sql.SQL(
        "SELECT {columns}, row_number() OVER ({ordered}) AS place FROM {first} AS {alias}{more}"
        " WHERE {conditions} {ordered} {limit}"
    ).format(
        columns=sql.SQL(", ").join(listed),
        ordered=ordered,
        first=first.table,
        alias=Name(first.alias),
        more=sql.SQL("").join(
            sql.SQL(" JOIN {} AS {} ON {}").format(each.table, Name(each.alias), _equal(each, each.before))
            for each in more
        ),
        conditions=sql.SQL(" AND ").join(conditions),
        limit=sql.SQL("LIMIT {}").format(sql.Literal(limit)) if limit else sql.SQL(""),
    )  # fmt: skip


def affected(source: Source, of: Followed, types: Sequence[LiteralString]) -> sql.Composable:
    """Return a condition on row `t`: it reads a row of the followed table whose join columns have one of the values in
    `%(values)s`. `types`: those of the columns.

    The rows of that table itself are not asked for: they may be gone.
    """
    way = chain(of.relation, source.related)
    before = [each for each in _links(way) if (each.depth, each.place) < (len(way) - 1, of.place)]
    table = before[-1].alias if before else "t"
    near = sql.SQL(", ").join(sql.SQL("{}.{}").format(Name(table), Name(column)) for column in of.link.near)
    if len(types) == 1:
        wanted = sql.SQL("{} = ANY (%(values)s::text[]::{}[])").format(near, sql.SQL(types[0]))
    else:
        parts = sql.SQL(", ").join(
            sql.SQL("(value::jsonb ->> {})::{}").format(place, sql.SQL(each)) for place, each in enumerate(types)
        )
        wanted = sql.SQL("({}) IN (SELECT {} FROM unnest(%(values)s::text[]) AS value)").format(near, parts)
    if not before:
        return wanted
    first, *more = before
    return sql.SQL("EXISTS (SELECT FROM {} AS {}{} WHERE {} AND {})").format(
        first.table,
        Name(first.alias),
        sql.SQL("").join(
            sql.SQL(" JOIN {} AS {} ON {}").format(each.table, Name(each.alias), _equal(each, each.before))
            for each in more
        ),
        _equal(first, "t"),
        wanted,
    )


class _Placed:
    """One link of a way, with the names that its table and the one before it have in the query."""

    def __init__(self, relation: Related, depth: int, place: int, before: str) -> None:
        self.link = relation.links[place]
        self.depth, self.place, self.before = depth, place, before
        self.alias = _table_alias(depth, place)
        self.table = Name(self.link.table_schema, self.link.table_name)


def _links(way: Sequence[Related]) -> list[_Placed]:
    found, before = list[_Placed](), "t"
    for depth, relation in enumerate(way):
        for place in range(len(relation.links)):
            found.append(_Placed(relation, depth, place, before))
            before = found[-1].alias
    return found


def _equal(placed: _Placed, before: str) -> sql.Composable:
    return sql.SQL(" AND ").join(
        sql.SQL("{}.{} = {}.{}").format(Name(placed.alias), Name(far), Name(before), Name(near))
        for far, near in zip(placed.link.far, placed.link.near, strict=True)
    )


def _meets(source: Source, relation: Related, depth: int) -> sql.Composable:
    """As of the source's own condition: it sees the columns that it was found to read, as those of `t`."""
    table = _table_alias(depth, len(relation.links) - 1)
    columns = sql.SQL(", ").join(sql.SQL("{}.{}").format(Name(table), Name(c)) for c in relation.condition_columns)
    condition = composed(relation.resolved_condition or relation.condition or "true")
    return sql.SQL("EXISTS (SELECT FROM (SELECT {columns}) AS t WHERE {condition} AND {read_by} IS NOT NULL)").format(
        columns=columns,
        condition=condition,
        read_by=sql.Literal(source.read_by),  # guard related-plan-label-version
    )


def _names(source: Source) -> tuple[str, ...]:
    return source.text_columns + source.payload_columns


def _texts(source: Source, relation: Related) -> tuple[str, ...]:
    return columns_of(relation, source.related, source.text_columns)


def _alias(relation: Related) -> str:
    return f"related {relation.name}"


def _table_alias(depth: int, place: int) -> str:
    return f"r{depth}_{place}"
