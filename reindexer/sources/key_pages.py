"""Key pages: a source's table in ranges of its key, for everything that scans it as a whole."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from reindexer.core.errors import SourceError
from reindexer.core.source import Source
from reindexer.postgres.connect import Connection, is_of_the_statement, may_be_of_a_row
from reindexer.postgres.names import Name
from reindexer.postgres.triggers import key_expression
from reindexer.sources import long_keys
from reindexer.sources.condition import ConditionRejected, composed, is_item, reading, require
from reindexer.sources.keys import KeyTypes, key_types


@dataclass(frozen=True, slots=True)
class Page:
    """A range of a source in key order."""

    item_ids: tuple[str, ...]
    """The items that the condition selects."""
    last: str | None
    """The next page begins after this id. None: this is the last page."""


def key_page(
    connection: Connection, source: Source, after: str | None, page: int, *, where: str | None = None, timeout_s: float
) -> Page:
    """Return the next `page` rows in key order after the id `after` (None: from the start).

    The page lists those rows that are items of the source and that `where` selects. The conditions are evaluated on
    these rows only, so that a page takes no longer where they select few. If the source's own condition fails on a row,
    all rows of the page count as items; reading them finds out which row it was. Raises SourceError as `find_rows`
    does, and ConditionRejected if `where` fails or makes the page take longer than `timeout_s`.
    """
    try:
        return _key_page(connection, source, after, page, where, timeout_s, narrowed=source.condition is not None)
    except (SourceError, ConditionRejected) as exc:
        if source.condition is None or not may_be_of_a_row(exc.__cause__):
            raise
        require(connection, source)
        if is_of_the_statement(exc.__cause__):  # raises again if it fails without a row
            _key_page(connection, source, after, 0, where, timeout_s, narrowed=True)
        return _key_page(connection, source, after, page, where, timeout_s, narrowed=False)


def _key_page(
    connection: Connection,
    source: Source,
    after: str | None,
    page: int,
    where: str | None,
    timeout_s: float,
    *,
    narrowed: bool,
) -> Page:
    types = key_types(connection, source)
    columns = key_columns(source)
    wanted = sql.SQL("true") if where is None else composed(where) + sql.SQL("::boolean")
    query = sql.SQL(
        """
        SELECT {key}, {is_item} AND {wanted} FROM (
            SELECT t.* FROM {table} AS t WHERE {has_key} {after} ORDER BY {columns} LIMIT %(page)s
        ) AS t ORDER BY {columns}
        """
    ).format(
        key=key_expression(source, "t", Name),
        is_item=is_item(source) if narrowed else sql.SQL("true"),
        wanted=wanted,
        table=Name(source.table_schema, source.table_name),
        # guard key-null-row-skipped
        has_key=sql.SQL(" AND ").join(sql.SQL("t.{} IS NOT NULL").format(Name(c)) for c in source.key_columns),
        after=sql.SQL("AND {}").format(is_after(source, types)) if after is not None else sql.SQL(""),
        columns=columns,
    )
    with reading(connection, source, where, timeout_s):
        rows = connection.execute(query, {"after": after, "page": page}).fetchall()
    # guard key-page-deduplication
    keys = dict.fromkeys(str(key) for key, wanted in rows if wanted)  # two rows with one key are one item
    ids = long_keys.names(connection, source, list(keys))  # guard long-key-walk-name
    return Page(tuple(ids), str(rows[-1][0]) if rows and len(rows) == page else None)


def key_columns(source: Source) -> sql.Composable:
    """Return the key's columns of row `t`, as they are ordered by."""
    return sql.SQL(", ").join(sql.SQL("t.{}").format(Name(c)) for c in source.key_columns)


def is_after(source: Source, types: KeyTypes) -> sql.Composable:
    """Return whether the key of row `t` follows that of the item `%(after)s`."""
    single = len(types) == 1
    parts = sql.SQL(", ").join(
        sql.SQL("({part})::{type}").format(
            part=sql.SQL("%(after)s::text") if single else sql.SQL("%(after)s::jsonb ->> {}").format(place),
            type=sql.SQL(type_name),
        )
        for place, type_name in enumerate(types)
    )
    return sql.SQL("({}) > ({})").format(key_columns(source), parts)
