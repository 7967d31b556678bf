"""Marks: a writer's word "this transaction", and what is left to do before all that it wrote is indexed.

`SELECT reindexer.mark()` in the writer's transaction returns a token, and writes nothing. While some session marks, the
drain keeps what it takes: items with their transactions, until they are settled; notes of runs and of values of related
tables, which lead to items. An item is settled once a claim is that was made after it was drained. A mark is done once
neither the outbox, nor a note, nor an item has anything of it (docs/adr/0065).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import psycopg
from psycopg.rows import class_row

from reindexer.core.errors import UsageError
from reindexer.postgres.connect import Connection
from reindexer.postgres.locks import RELEASE_CHANNEL
from reindexer.postgres.queries import load

KEEP_S = 3_600.0
"""How long the tokens of a session are known after its end."""
AT_MOST_S = 7 * 86_400.0
"""How long they are known, and what was drained is kept, at most."""
MAX_FORGOTTEN = 5_000
MAX_EXAMINED = 500
"""How many drains are examined at once."""
MAX_EXAMINED_ITEMS = 200_000
"""How many of their items are, beside the last drain's."""
MAX_KEPT = 20_000
"""How many items are kept together."""
MAX_TOLD = 10
"""How many items an answer names."""

State = Literal["open", "waiting", "indexed", "failed", "rolled_back", "expired", "unknown"]
"""`open`: the transaction has not ended yet."""

_TOKEN = re.compile(r"[0-9]{1,19}-[0-9a-f]{16}(-[0-9]{1,18})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class AwaitedItem:
    """What a mark waits for, or what failed of it."""

    source: str
    item_id: str | None
    """None: it is not known yet which items there are."""
    failed: bool
    reason: str


def require_form(token: str) -> None:
    """Raises UsageError if this has not the form of a token."""
    if not _TOKEN.fullmatch(token):
        raise UsageError("this is no token of reindexer.mark()")


def states(connection: Connection, tokens: Sequence[str]) -> Mapping[str, State]:
    """What became of the transactions of these tokens."""
    try:
        return _states(connection, tokens)
    except psycopg.errors.InvalidParameterValue:  # one is of a transaction that has not been yet
        if len(tokens) == 1:
            return {tokens[0]: "unknown"}
        return {token: state for each in tokens for token, state in states(connection, [each]).items()}


def _states(connection: Connection, tokens: Sequence[str]) -> Mapping[str, State]:
    return dict(connection.execute(load("marks.sql")["states"], {"tokens": list(tokens)}).fetchall())


def left(connection: Connection, token: str) -> list[AwaitedItem]:
    """What is left of a transaction: what failed first, at most `MAX_TOLD`."""
    with connection.cursor(row_factory=class_row(AwaitedItem)) as cursor:
        return cursor.execute(load("marks.sql")["left"], {"token": token, "most": MAX_TOLD}).fetchall()


def item_states(
    connection: Connection, items: Sequence[tuple[str, str]]
) -> Mapping[tuple[str, str], tuple[State, str | None]]:
    """Whether these items, each a source and an id, wait for anything that has committed, and for what; or why they
    failed. Items of a source that is not attached are missing."""
    named = {"sources": [source for source, _ in items], "item_ids": [item_id for _, item_id in items]}
    rows = connection.execute(load("marks.sql")["item_states"], named).fetchall()
    return {(source, item_id): (state, reason) for source, item_id, state, reason in rows}


def hand_over_runs(connection: Connection) -> None:
    """Marks that wait for a run whose pages are all queued wait for what is due by now, and for nothing later."""
    if connection.execute(load("marks.sql")["awaited_runs"]).fetchone() == (True,):
        named = {"channel": RELEASE_CHANNEL, "most": MAX_KEPT}
        connection.execute(load("marks.sql")["hand_over_runs"], named)


def follow(connection: Connection, source: str, related: str, values: Sequence[str]) -> None:
    """Marks that wait for values of a related table wait for the items that this transaction records."""
    named = {"source": source, "related": related, "values": list(values)}
    connection.execute(load("marks.sql")["follow"], named)


def forget_values(connection: Connection, source: str, related: str, values: Sequence[str]) -> None:
    """No mark waits for these values of a related table any more: their items are recorded."""
    named = {"source": source, "related": related, "values": list(values), "channel": RELEASE_CHANNEL}
    connection.execute(load("marks.sql")["forget_values"], named)


def forget(connection: Connection) -> None:
    """Forget sessions that marked, traces, and what led to items that are settled, after a while."""
    named = {"keep_s": KEEP_S, "at_most_s": AT_MOST_S, "limit": MAX_FORGOTTEN}
    connection.execute(load("marks.sql")["forget"], named)


def forget_settled(connection: Connection, after: int = 0) -> int | None:
    """Forget what drains kept and is settled by now. Examines some of it, what was drained after a moment.

    Returns the moment to go on from, or None if all were examined.
    """
    named = {"after": after, "at_most_s": AT_MOST_S, "limit": MAX_EXAMINED, "most_items": MAX_EXAMINED_ITEMS}
    last, has_more = connection.execute(load("marks.sql")["forget_settled"], named).fetchone() or (None, False)
    return int(last) if has_more else None
