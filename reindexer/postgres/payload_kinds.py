"""What kinds of values a source's payload holds, by the types of its columns, and where they lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from psycopg import sql

from reindexer.core.payload import Kind, PayloadColumn, kind_of
from reindexer.core.related import Related, columns_of, is_many, split_name
from reindexer.core.source import Source
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load


def payload_columns(connection: Connection, source: Source) -> tuple[PayloadColumn, ...]:
    """The source's payload columns that exist, with the kinds of their values.

    Columns of relations have the names of the definition, `author.country`. What `comments.*` stands for is
    `comments[].body` each, or `author.name` if there can't be several rows.
    """
    own = _kinds(connection, source.table_schema, source.table_name, source.own_columns(source.payload_columns))
    found = list[PayloadColumn]()
    for name in source.payload_columns:
        relation, _ = split_name(name, source.related)
        if relation is not None:
            found += _of_relation(connection, source, relation, name)
        elif name in own:
            found.append(PayloadColumn(name, own[name][0], name == source.tenant_column))
    return tuple(found)


def _of_relation(connection: Connection, source: Source, relation: Related, name: str) -> Iterator[PayloadColumn]:
    columns = columns_of(relation, source.related, [name])
    kinds = _kinds(connection, relation.table.table_schema, relation.table.table_name, columns)
    several, begin = is_many(relation, source.related), relation.name
    for column, (kind, is_array) in kinds.items():
        if several and relation.object_columns:
            yield PayloadColumn(f"{begin}[].{column}", kind, path=(begin, None, column))
        elif several and is_array:  # a list of lists
            yield PayloadColumn(name, kind, name == source.tenant_column, (begin, column, None))
        else:
            named = f"{begin}.{column}"
            yield PayloadColumn(named, kind, named == source.tenant_column, (begin, column))


def _kinds(connection: Connection, schema: str, table: str, columns: Sequence[str]) -> dict[str, tuple[Kind, bool]]:
    """The kind of each existing column, in the given order, and whether it is an array."""
    named = {"table": sql.Identifier(schema, table).as_string(connection), "columns": list(columns)}
    rows = connection.execute(load("catalog.sql")["base_types"], named).fetchall()
    found = {name: (kind_of(type_name, is_enum=is_enum), is_array) for name, type_name, is_enum, is_array in rows}
    return {column: found[column] for column in columns if column in found}
