"""Reindex requests: each asks for a new embedding of one item under a task id, which reports the outcome.

Postgres holds the request, and the due row that will answer it, before any message is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from psycopg.rows import class_row

from reindexer.audit import audited
from reindexer.core.errors import SourceError, UsageError
from reindexer.core.lanes import REQUEST_LANE, Lane
from reindexer.ports import Broker
from reindexer.postgres.connect import Connection
from reindexer.postgres.locks import unpromoted
from reindexer.postgres.queries import load
from reindexer.sources.keys import canonical_id
from reindexer.sources.store import find_source

REPORT_AFTER_S = 2.0
"""The process that settles an item reports its outcome itself. After this time it is assumed to have failed."""


@dataclass(frozen=True, slots=True)
class ReindexRequest:
    """A reindex request: one item to embed anew, and the task id of the request."""

    task_id: str
    item_id: str


@dataclass(frozen=True, slots=True)
class TaskState:
    """The state of one task id. `state` is one of PENDING, STARTED, RETRY, SUCCESS, FAILURE."""

    task_id: str
    source: str
    item_id: str
    error: str | None
    state: str
    waits_for: str | None

    @property
    def is_final(self) -> bool:
        """Whether the request is answered: SUCCESS, or FAILURE after the last try."""
        return self.state in ("SUCCESS", "FAILURE")


def as_recorded(connection: Connection, source: str, item_id: str) -> str:
    """Return the id in the spelling that the triggers write.

    Another spelling of the same uuid would become an item, and a point, of its own. An id that cannot be converted is
    returned unchanged.
    """
    try:
        return canonical_id(connection, find_source(connection, source), item_id) or item_id
    except (UsageError, SourceError):
        return item_id  # the claim reports what is wrong


def record(connection: Connection, source: str, wanted: Sequence[ReindexRequest], *, lane: Lane, sent: bool) -> int:
    """Commit reindex requests. Returns how many are new (a task id counts once). `sent`: their messages need no
    sending."""
    with connection.transaction():
        unpromoted(connection, source)  # guard request-unpromoted
        recorded = connection.execute(
            load("requests.sql")["record"],
            {
                "source": source,
                "task_ids": [each.task_id for each in wanted],
                "item_ids": [each.item_id for each in wanted],
                "lane": lane,
                "sent_at": datetime.now(UTC) if sent else None,
            },
        ).fetchall()
    return len(recorded)


def submit(connection: Connection, source: str, item_ids: Sequence[str], *, who: str) -> list[str]:
    """Commit a reindex request for each item, and note it in the audit. Returns their task ids, in order.

    The listener sends the messages, unless the caller's process does it before. `item_ids` are canonical and distinct.
    Raises UsageError if the source was detached meanwhile.
    """
    wanted = [ReindexRequest(str(uuid4()), item_id) for item_id in item_ids]
    if wanted:
        with audited(connection, who, "bulk", source) as draft:
            if not record(connection, source, wanted, lane=REQUEST_LANE, sent=False):
                raise UsageError(f"the source {source!r} was detached just now")
            draft.details["items"] = len(wanted)
    return [each.task_id for each in wanted]


def task_state(connection: Connection, task_id: str) -> TaskState | None:
    """Return the state of a task id. None: it was never issued, or its record has been pruned."""
    with connection.cursor(row_factory=class_row(TaskState)) as cursor:
        return cursor.execute(load("requests.sql")["task"], {"task_id": task_id}).fetchone()


def send_unsent(connection: Connection, broker: Broker, *, older_s: float, limit: int = 1000) -> int:
    """Send the messages of up to `limit` unsent requests, recorded at least `older_s` ago. Returns how many were sent.

    Two senders never take the same request. A sender that dies loses those that it took. Their items are due all the
    same, and the process that settles them reports their task ids. Raises DependencyUnavailable if the broker fails
    before the first message.
    """
    queries = load("dispatch.sql")
    # guard request-send-without-lock
    taken = connection.execute(queries["take_unsent"], {"older_s": older_s, "limit": limit}).fetchall()
    if not taken:
        return 0
    sent = 0
    try:
        sent = broker.send_requests([(task_id, source, item_id) for task_id, source, item_id in taken])
    finally:
        if left := [task_id for task_id, _, _ in taken[sent:]]:  # guard request-unsent-returned
            connection.execute(queries["give_back_unsent"], {"task_ids": left})
    return sent


def mark_reported(connection: Connection, task_ids: Sequence[str]) -> None:
    """Record that the outcomes of these task ids are stored where `AsyncResult` looks."""
    connection.execute(load("requests.sql")["mark_reported"], {"task_ids": list(task_ids)})


def report_unreported(
    connection: Connection, broker: Broker, *, older_s: float = REPORT_AFTER_S, limit: int = 1000
) -> int:
    """Store the outcomes that the settling process did not store. Returns how many. Raises DependencyUnavailable
    (result backend)."""
    with connection.transaction():
        rows = connection.execute(load("requests.sql")["unreported"], {"older_s": older_s, "limit": limit}).fetchall()
        if rows:
            broker.store_results([(task_id, item_id, error) for task_id, item_id, error in rows])
            mark_reported(connection, [task_id for task_id, _, _ in rows])
    return len(rows)
