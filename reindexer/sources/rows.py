"""Read rows of a source as they are now.

Only a read that succeeds and finds no row means that the item was deleted. Anything else (a missing table, column or
privilege, a policy that would hide rows, a standby that lags) is an error of the source, never "all rows deleted".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from reindexer.core.errors import SourceError
from reindexer.core.items import Row
from reindexer.core.payload import UnfitPayload, read_payload
from reindexer.core.source import Source
from reindexer.core.text.header import header_columns
from reindexer.core.text.template import render_text, values_of
from reindexer.postgres.connect import Connection, is_of_the_statement, keep_plan, may_be_of_a_row, one_line
from reindexer.postgres.names import Name
from reindexer.postgres.session import IN_TRANSACTION, READS_AS_OURS
from reindexer.postgres.triggers import key_expression
from reindexer.sources import joins, long_keys
from reindexer.sources.condition import is_item, locked, require
from reindexer.sources.keys import KeyTypes, canonical_id, key_types
from reindexer.sources.long_keys import is_too_long

_DOUBLE = "two rows have this key, and neither can be chosen; delete one, or give it another key"


class _RowFails(Exception):
    """One of the rows asked for may be what fails. The cause says how."""


def _ask(
    connection: Connection, source: Source, query: sql.Composed, item_ids: Sequence[str]
) -> Iterable[Sequence[Any]]:
    """Run a query whose first column is an id. An id that the result lacks has no row; any doubt is an error.

    Raises _RowFails if a row may be to blame, SourceError if no row could be read.

    A policy must raise, not hide rows: "no row" would be taken for "deleted". On a standby, to which a name may lead
    after a failover, a row may be missing because it has not arrived yet. The session's settings decide what a value
    reads as. The statement that reads reports all of these.
    """
    asked = sql.SQL(
        "SELECT {reads_as_ours}, pg_is_in_recovery(), found.*"  # guard row-security-policy-error
        " FROM (SELECT) AS always LEFT JOIN ({query}) AS found ON true"
    ).format(reads_as_ours=sql.SQL(READS_AS_OURS), query=query)
    wanted, prepare = {"item_ids": list(item_ids)}, keep_plan(len(item_ids))
    try:
        cursor = connection.execute(asked, wanted, prepare=prepare)
        reads_as_ours, in_recovery, *first = cursor.fetchone() or (False, True)
        # guard session-pooler-read-settings
        if not reads_as_ours:  # behind a pooler, whose connections lack our settings
            with connection.pipeline(), connection.transaction():
                connection.execute(IN_TRANSACTION)  # guard row-security-behind-pooler
                cursor = connection.execute(asked, wanted, prepare=prepare)
            _, in_recovery, *first = cursor.fetchone() or (False, True)
    except psycopg.errors.LockNotAvailable as exc:
        raise locked(source) from exc  # guard lock-timeout-read
    except psycopg.Error as exc:
        if connection.closed or not may_be_of_a_row(exc):  # guard row-error-isolation
            raise
        # guard row-function-error-isolation
        if is_of_the_statement(exc) and (not item_ids or not _can_be_asked(connection, source, query)):
            raise SourceError(f"source {source.name!r} can't be read: {one_line(exc)}") from exc
        raise _RowFails from exc
    if in_recovery:  # guard standby-missing-row-error
        raise SourceError(f"source {source.name!r} can't be read: the server is a standby")
    return () if first[0] is None else chain([first], (found for _, _, *found in cursor))


def _can_be_asked(connection: Connection, source: Source, query: sql.Composed) -> bool:
    """Whether the query succeeds without rows. It then fails within something that a row calls."""
    try:
        _ask(connection, source, query, [])
    except SourceError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why a row can't be read."""

    reason: str
    may_pass: bool = False
    """The cause is not in the row's values: a damaged page, or a function whose table is missing."""


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a read of many ids."""

    rows: Mapping[str, Row]
    impossible: frozenset[str]
    """Ids that can't be keys of the source, and so have no row."""
    unreadable: Mapping[str, Unreadable]
    """Ids whose row fails when it is read (for example by a generated column), and why."""


def find_rows(connection: Connection, source: Source, item_ids: Sequence[str], types: KeyTypes | None = None) -> Found:
    """Return the rows with these ids, by id. An id without a row is missing from the result.

    Bisection finds bad ids and rows, and the result reports them, so that no row keeps others from being read.

    An id counts only as Postgres prints the key, because two spellings of one uuid must not be two items. If the key's
    collation treats two spellings as equal, the row's spelling counts. `types` are looked up if they are not given.
    Raises SourceError if the source can't be read, also if its condition fails whatever the row, which is no item's
    fault.
    """
    query = _select(source, types or key_types(connection, source))
    rows: dict[str, Row] = {}
    impossible: set[str] = set()
    unreadable: dict[str, Unreadable] = {}
    failures: list[BaseException | None] = []
    keys = long_keys.keys(connection, source, item_ids)
    names = {key: name for name, key in keys.items()}
    # A key that is replaced by a name is no item's id. Whatever was indexed under it earlier leaves the index.
    # guard long-key-read
    batches = [[keys.get(item_id, item_id) for item_id in dict.fromkeys(item_ids) if not is_too_long(item_id)]]
    asked = False
    while batches:
        batch = batches.pop()
        half = len(batch) // 2
        try:
            for key, texts, payload in _ask(connection, source, query, batch):
                # Only one copy of a page's texts is kept.
                item_id = names.get(key, key)
                row = _row(source, item_id, texts, payload)
                if item_id in rows or item_id in unreadable:  # guard key-duplicate-rows-refused
                    row = Unreadable(_DOUBLE)
                    rows.pop(item_id, None)
                if isinstance(row, Row):
                    rows[item_id] = row
                else:
                    unreadable[item_id] = row
        except _RowFails as exc:  # guard row-missing-column-error
            if not asked:
                require(connection, source)  # guard condition-broken-source-error
                asked = True
            if half:
                batches += [batch[:half], batch[half:]]
            elif isinstance(exc.__cause__, psycopg.DataError) and canonical_id(connection, source, batch[0]) is None:
                impossible.add(names.get(batch[0], batch[0]))
            else:
                unreadable[names.get(batch[0], batch[0])] = _reason(exc.__cause__)
                failures.append(exc.__cause__)
    if not rows and failures and all(is_of_the_statement(each) for each in failures):  # guard row-common-failure-source
        # A function lacks what it reads, and no row is known to read without it: no item is to blame.
        first = failures[0]
        raise SourceError(f"source {source.name!r} can't be read: {one_line(first) if first else ''}") from first
    return Found(rows, frozenset(impossible), unreadable)


def _row(source: Source, item_id: str, texts: Sequence[str | None], payload: str) -> Row | Unreadable:
    try:
        text = render_text(source.text_columns, texts, source.template)
        columns = values_of(header_columns(source.chunk_header), source.text_columns, texts)
        return Row(item_id, text, read_payload(payload), columns)
    except UnfitPayload as exc:  # guard row-payload-parse-isolation
        return Unreadable(str(exc))
    except (ValueError, ArithmeticError, RecursionError) as exc:  # the message may quote the row
        return Unreadable(f"its row can't be read ({type(exc).__name__})")


def read_rows(connection: Connection, source: Source, item_ids: Sequence[str]) -> Mapping[str, Row]:
    """Like `find_rows`, returning only the rows that can be read."""
    return find_rows(connection, source, item_ids).rows


def without_row(connection: Connection, source: Source, item_ids: Sequence[str]) -> list[str]:
    """Return the ids that have no row; all of them if one can't be decided. Raises SourceError as `find_rows` does."""
    try:
        query = sql.SQL("SELECT wanted.item_id {}").format(
            _wanted_rows(source, key_types(connection, source), sql.SQL(""))
        )
        keys = long_keys.keys(connection, source, item_ids)
        asked = [keys.get(item_id, item_id) for item_id in item_ids]
        there = {key for (key,) in _ask(connection, source, query, asked)}
    except _RowFails:
        return list(item_ids)
    return [item_id for item_id, key in zip(item_ids, asked, strict=True) if key not in there or is_too_long(item_id)]


def _reason(exc: BaseException | None) -> Unreadable:
    """Return only the kind of the server's error: its message may quote the row."""
    if isinstance(exc, psycopg.DataError) and (exc.diag.source_file or "").startswith("json"):
        return Unreadable("a payload column holds JSON that is not valid Unicode")
    lasting = isinstance(exc, psycopg.DataError | psycopg.IntegrityError | psycopg.errors.RaiseException)
    return Unreadable(f"its row can't be read ({type(exc).__name__})", may_pass=not lasting)


def _wanted_rows(source: Source, types: Sequence[LiteralString], related: sql.Composable) -> sql.Composed:
    single = len(source.key_columns) == 1
    on = sql.SQL(" AND ").join(
        sql.SQL("t.{column} = ({part})::{type}").format(
            column=Name(column),
            part=sql.SQL("wanted.item_id") if single else sql.SQL("wanted.item_id::jsonb ->> {}").format(place),
            type=sql.SQL(type_name),
        )
        for place, (column, type_name) in enumerate(zip(source.key_columns, types, strict=True))
    )
    # LATERAL and OFFSET: each row is looked up by its key, whatever the planner estimates, and the condition is
    # evaluated on those rows only. It may fail on another row.
    return sql.SQL(
        "FROM unnest(%(item_ids)s::text[]) AS wanted (item_id)"
        " CROSS JOIN LATERAL (SELECT t.* FROM {table} AS t WHERE {on}"
        ' AND {key} COLLATE "C" = wanted.item_id OFFSET 0) AS t{related} {meets}'  # guard key-exact-spelling
    ).format(
        table=Name(source.table_schema, source.table_name),
        on=on,
        key=key_expression(source, "t", Name),
        related=related,
        # guard condition-unmet-row-absent
        meets=sql.SQL("WHERE ") + is_item(source) if source.condition else sql.SQL(""),
    )


def _select(source: Source, types: Sequence[LiteralString]) -> sql.Composed:
    return sql.SQL(
        """
        SELECT wanted.item_id, ARRAY[{texts}]::text[],
               coalesce((SELECT to_jsonb(p.*) FROM (SELECT {payload}) AS p), '{{}}')::text
        {wanted_rows}
        """
    ).format(
        texts=sql.SQL(", ").join(joins.text_of(source, name) for name in source.text_columns),
        payload=joins.payload_of(source),
        wanted_rows=_wanted_rows(source, types, joins.laterals(source)),
    )
