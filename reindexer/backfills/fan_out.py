"""Fan-out: from the values that related tables recorded to the items that read them.

The drain never reads a user's table: it is one statement for all sources. It notes the values in `fan_out`. This step
reads the source's tables, upwards from each value by the joins as they are now, and records the items that it finds. A
join that changed later has recorded itself. Few items are found at once. Those of a value that leads to many follow in
pages, in the lane `bulk`.

What fails here is the problem of its source: its values wait, and those of other sources do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any

import psycopg
import structlog
from psycopg import sql
from psycopg.rows import class_row

from reindexer.backfills.pager import MAX_BACKLOG
from reindexer.core.errors import SourceError, UsageError
from reindexer.core.lanes import Lane
from reindexer.core.related import Followed
from reindexer.core.source import Source
from reindexer.postgres.connect import Connection, one_line
from reindexer.postgres.names import Name
from reindexer.postgres.queries import load
from reindexer.postgres.session import IN_TRANSACTION
from reindexer.postgres.triggers import key_expression
from reindexer.queue import marks
from reindexer.sources.joins import affected
from reindexer.sources.key_pages import is_after, key_columns
from reindexer.sources.keys import key_types, link_types
from reindexer.sources.store import set_problem

log = structlog.get_logger(__name__)

VALUES = 200
"""Maximum number of values that are looked up in one transaction."""
AT_ONCE = 1_000
"""Maximum number of items that these may lead to in the lane `live`. Values that lead to more have pages."""
PAGE = 2_000
LOCK_MS = 100
"""How long a step waits for a lock on a user's table. Changes of other sources wait with it."""
STEP_MS = 5_000
"""How long one query may take."""


@dataclass(frozen=True, slots=True)
class _Value:
    related: str
    value: str
    lane: Lane
    changed_at: datetime
    cursor: str | None


def fan_out(connection: Connection, source_of: Callable[[str], Source]) -> int:
    """Look up some of the values that wait, of each source. Returns how many items were recorded in the outbox."""
    found = 0
    for (name,) in connection.execute(load("fan_out.sql")["waiting"]).fetchall():
        try:
            source = source_of(name)
            found += _step(connection, source)
        except UsageError:
            connection.execute(load("fan_out.sql")["forget"], {"source": name})  # detached
        except (SourceError, psycopg.Error) as exc:
            if connection.closed:
                raise
            _postpone(connection, name, exc, source_of)
    return found


def _postpone(connection: Connection, name: str, exc: Exception, source_of: Callable[[str], Source]) -> None:
    connection.execute(load("fan_out.sql")["postpone"], {"source": name})  # guard related-own-problem
    problem = (
        str(exc) if isinstance(exc, SourceError) else f"source {name!r}: items by a related table: {one_line(exc)}"
    )
    log.error("fan_out_failed", source=name, error=problem)
    if not isinstance(exc, psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected):
        set_problem(connection, name, source_of(name).generation, problem)


def _step(connection: Connection, source: Source) -> int:
    queries, followed = load("fan_out.sql"), {each.id: each for each in source.recorded_tables}
    found = 0
    with connection.transaction():
        connection.execute(IN_TRANSACTION)
        connection.execute(
            "SELECT set_config('lock_timeout', %s, true), set_config('statement_timeout', %s, true)",
            [f"{LOCK_MS}ms", f"{STEP_MS}ms"],  # guard related-lock-timeout
        )
        with connection.cursor(row_factory=class_row(_Value)) as cursor:
            taken = cursor.execute(queries["take"], {"source": source.name, "most": VALUES}).fetchall()
        ordered = sorted(taken, key=attrgetter("related"))
        for related, group in groupby(ordered, key=attrgetter("related")):
            values = list(group)
            if of := followed.get(related):
                found += _look_up(connection, source, of, values)
            else:  # of a relation that is defined no more: what changed it looks at all rows
                _done(connection, source, related, values)
    return found


def _look_up(connection: Connection, source: Source, of: Followed, values: Sequence[_Value]) -> int:
    begun = [each for each in values if each.cursor is not None]
    fresh = [each for each in values if each.cursor is None]
    found = 0
    if fresh:
        ids = _items(connection, source, of, fresh, None, AT_ONCE + 1)
        if len(ids) <= AT_ONCE:
            lanes = {each.lane for each in fresh}
            lane = Lane.LIVE if lanes == {Lane.LIVE} else Lane.BULK
            _follow(connection, source, of.id, fresh)
            found += _record(connection, source, ids, lane, min(each.changed_at for each in fresh))
            _done(connection, source, of.id, fresh)
        else:
            begun += fresh  # guard related-paged
    for each in begun:
        queries, most = load("fan_out.sql"), {"source": source.name, "most": MAX_BACKLOG}
        if connection.execute(queries["backlog_is_long"], most).fetchone() == (True,):  # guard related-backlog
            break
        ids = _items(connection, source, of, [each], each.cursor, PAGE)
        _follow(connection, source, of.id, [each])
        found += _record(
            connection, source, ids, Lane.BULK if len(ids) == PAGE or each.cursor else each.lane, each.changed_at
        )
        if len(ids) < PAGE:
            _done(connection, source, of.id, [each])
        else:
            named = {"source": source.name, "related": of.id, "value": each.value, "cursor": ids[-1]}
            connection.execute(queries["advance"], named)
    return found


def _items(
    connection: Connection, source: Source, of: Followed, values: Sequence[_Value], after: str | None, most: int
) -> list[str]:
    """The ids of items that read a row of the followed table by one of the values, in the key's order if there can be
    another page."""
    types = key_types(connection, source)
    query = sql.SQL("SELECT {key} FROM {table} AS t WHERE {affected}{after}{order} LIMIT %(most)s").format(
        key=key_expression(source, "t", Name),
        table=Name(source.table_schema, source.table_name),
        affected=affected(source, of, link_types(connection, source.name, of.link)),
        after=sql.SQL(" AND {}").format(is_after(source, types)) if after is not None else sql.SQL(""),
        order=sql.SQL(" ORDER BY {}").format(key_columns(source)) if most == PAGE else sql.SQL(""),
    )
    named: dict[str, Any] = {"values": [each.value for each in values], "after": after, "most": most}
    return [str(item_id) for (item_id,) in connection.execute(query, named).fetchall()]


def _record(connection: Connection, source: Source, ids: Sequence[str], lane: Lane, changed_at: datetime) -> int:
    if ids:
        named = {"source": source.name, "item_ids": list(dict.fromkeys(ids)), "lane": lane, "changed_at": changed_at}
        connection.execute(load("fan_out.sql")["record_items"], named)
    return len(ids)


def _follow(connection: Connection, source: Source, related: str, values: Sequence[_Value]) -> None:
    marks.follow(connection, source.name, related, [each.value for each in values])  # guard mark-fan-out-followed


def _done(connection: Connection, source: Source, related: str, values: Sequence[_Value]) -> None:
    named = {"source": source.name, "related": related, "values": [each.value for each in values]}
    connection.execute(load("fan_out.sql")["done"], named)
    marks.forget_values(connection, source.name, related, named["values"])
