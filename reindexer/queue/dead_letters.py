"""Dead letters: FAILED items with the reason. Those with a transient cause heal: the leading listener retries them by
timer. All can be replayed by hand.

Reads and replays go page by page in key order. A million dead letters are therefore neither held in memory nor made due
in one statement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from psycopg.rows import class_row

from reindexer import audit
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load
from reindexer.queue.requests import as_recorded
from reindexer.sources.store import find_source

PAGE = 1_000
MAX_HEALED = 5_000

Place = tuple[str, str]
"""Source and item id. Dead letters are listed in this order."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One item that failed."""

    source: str
    item_id: str
    error: str | None
    attempts: int
    failed_at: datetime
    heals_at: datetime | None
    """When the item is retried automatically (transient cause). None: it failed permanently."""


@dataclass(frozen=True, slots=True)
class Which:
    """Filter for dead letters. None means any."""

    source: str | None = None
    item_id: str | None = None
    error: str | None = None
    """A part of the reason, matched case-insensitively."""


def which(connection: Connection, source: str | None, item_id: str | None, error: str | None) -> Which:
    """Return the filter, with the id in the spelling of the triggers. Raises UsageError if there is no such source."""
    if source is not None:
        find_source(connection, source)
        item_id = item_id and as_recorded(connection, source, item_id)
    return Which(source, item_id, error)


def page(connection: Connection, which: Which, limit: int, after: Place | None = None) -> list[DeadLetter]:
    """Return up to `limit` dead letters, ordered by source and item id, that come after `after`."""
    with connection.cursor(row_factory=class_row(DeadLetter)) as cursor:
        return cursor.execute(_query("page"), _parameters(which, after) | {"limit": limit}).fetchall()


def count(connection: Connection, which: Which) -> int:
    """Return how many dead letters match."""
    row = connection.execute(_query("count"), _parameters(which, None)).fetchone()
    return int(row[0]) if row else 0


def replay(
    connection: Connection,
    which: Which,
    *,
    who: str,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Make up to `limit` matching items due again (None: all) with a full set of attempts. Returns how many.

    Every page is a transaction of its own. The replay is noted in the audit under `who`.
    """
    wanted = count(connection, which)
    wanted = wanted if limit is None else min(limit, wanted)
    # guard audit-no-item-id
    named = None if which.item_id is None else audit.item_mark(which.source, which.item_id)
    details = {"items": wanted, "item": named, "error": which.error is not None}
    audit.note(connection, who, "replay", which.source, details)
    queued, looked_at, after = 0, 0, None
    while looked_at < wanted:
        parameters = _parameters(which, after) | {"limit": min(PAGE, wanted - looked_at)}
        row = connection.execute(_query("replay"), parameters).fetchone()
        if row is None:
            break
        after, looked_at, queued = (row[0], row[1]), looked_at + row[2], queued + row[3]
        if progress:
            progress(queued)
    return queued


def heal(connection: Connection) -> int:
    """Make items due that FAILED for a transient cause and have waited long enough. Returns how many.

    An item is retried early if an open breaker has no other item to be probed with.
    """
    queries = load("dead_letters.sql")
    healed = len(connection.execute(queries["heal"], {"limit": MAX_HEALED}).fetchall())
    return healed or len(connection.execute(queries["heal_to_probe"]).fetchall())  # guard breaker-failed-item-probe


def _query(name: str) -> Any:
    queries = load("dead_letters.sql")
    return queries["failed"] + "\n" + queries[name]


def _parameters(which: Which, after: Place | None) -> dict[str, Any]:
    source, item = after or (None, None)
    return {**asdict(which), "after_source": source, "after_item": item}
