"""Status: what waits, what failed, which processes work, and everything known of one item. Reads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from psycopg.rows import class_row, dict_row

from reindexer.budgets import all_budgets, over
from reindexer.core.errors import ChunkerFailed, SourceError
from reindexer.core.items import Row
from reindexer.core.lanes import Lane
from reindexer.core.source import Source
from reindexer.core.text.embedding_spec import EmbeddingSpec
from reindexer.core.wording import counted
from reindexer.events.receivers import all_receivers
from reindexer.monitoring import heartbeat
from reindexer.monitoring.backlog import completed, lag
from reindexer.ports import EmbedderOf
from reindexer.postgres.connect import Connection
from reindexer.postgres.locks import LEADER_LOCK, LOCK_CLASS, WAKE_LOCK
from reindexer.postgres.queries import load
from reindexer.queue.breaker import OpenBreaker, open_breakers
from reindexer.sources import long_keys
from reindexer.sources.embedder_record import recorded_embedding_spec
from reindexer.sources.rows import find_rows
from reindexer.sources.store import all_sources
from reindexer.sources.trigger_check import WORST_LAST, TriggersState, inspect

ListenerState = Literal["awake", "asleep", "absent"]

MAX_HISTORY = 20


@dataclass(frozen=True, slots=True)
class GenerationStatus:
    """A generation beside the one that searches use. What waits for it is not in the counts of its source."""

    number: int
    state: Literal["filling", "ready", "standby", "broken"]
    due: int
    oldest_change_age_s: float
    """Seconds since the commit of the oldest change that is not in it yet. 0: there is none."""
    problem: str | None
    """Why it can't be worked on; its items wait."""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """One source: items by state, and whether it can be worked on."""

    due: int
    completed: int
    failed: int
    """Including those that are retried automatically."""
    paused: bool
    problem: str | None
    """Why the source as a whole can't be worked on. Its items wait."""
    triggers: TriggersState
    triggers_wrong: str | None
    """What is wrong with the triggers, and what repairs them."""
    generation: int
    """The one that searches use, and that everything else here speaks of."""
    beside: Sequence[GenerationStatus] = ()
    """The other generations that are kept, or broken."""


@dataclass(frozen=True, slots=True)
class BreakerStatus:
    """A dependency whose breaker is open: items wait, and one probe at a time tries it."""

    state: Literal["open"]
    reason: str
    failures: int
    """Failures in a row."""
    since: datetime
    next_probe_at: datetime


@dataclass(frozen=True, slots=True)
class Status:
    """The state of the whole installation. Idle: `outbox`, `pending`, `processing` and `healing` are all 0."""

    outbox: int
    pending: int
    processing: int
    failed: int
    healing: int
    """Failed with a transient cause, to be retried automatically."""
    completed: int
    """An estimate if it is large."""
    open_runs: int
    """Open initial scans, resync scans and backfills. Each that is not paused counts as one `pending`."""
    oldest_change_age_s: float
    """Seconds since the commit of the oldest change that is not in Qdrant yet, wherever it waits. 0: there is none."""
    listener: ListenerState
    workers: int
    """Workers with a recent heartbeat, which proves that they take messages and run them."""
    triggers: TriggersState
    """The worst state of all sources."""
    breakers: Mapping[str, BreakerStatus]
    """Dependencies (`provider`, `qdrant`) whose breakers are open, and why. Of several providers, the one that has been
    unavailable longest."""
    budgets: Sequence[str]
    """The budgets that are used up, in words, each with until when: what they stop waits."""
    events: Sequence[str]
    """The receivers of events to which nothing is delivered, in words, each with the reason and how much waits."""
    sources: Mapping[str, SourceStatus]


@dataclass(frozen=True, slots=True)
class PastRequest:
    """One task id that requested an item, and its outcome."""

    task_id: str
    succeeded: bool | None
    """None: not answered yet."""
    error: str | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class ItemState:
    """Everything that is known of one item."""

    source: str
    item_id: str
    status: Literal["PENDING", "PROCESSING", "COMPLETED", "FAILED", "DELETED"] | None
    """None: there is a row, but nothing was ever due for it."""
    wanted: str | None
    """Fingerprint of the row's current text. None: no row, no text in it, or it can't be read."""
    indexed: str | None
    """Fingerprint of the text in Qdrant. None: there is none, or it is unknown."""
    lane: str | None
    attempts: int
    error: str | None
    """Why the last attempt failed."""
    waits_for: str | None
    next_try_at: datetime | None
    changed_at: datetime | None
    """When the waiting change was made."""
    indexed_at: datetime | None
    chunks: int
    history: Sequence[PastRequest] = ()
    """The latest reindex requests for the item, newest first."""


def status(connection: Connection) -> Status:
    """Return the state of the whole installation. Ages and counts are the database's."""
    findings = {source.name: inspect(connection, source) for source in all_sources(connection)}
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")  # so that the counts agree
        rows = cursor.execute(load("status.sql")["sources"]).fetchall()
        waits = lag(connection)
        done = {row["name"]: completed(connection, row["name"], row["generation"]) for row in rows}
        beside = cursor.execute(load("generations.sql")["beside"]).fetchall()
    sources = {
        row["name"]: SourceStatus(
            due=sum(each.items for each in waits.due if each.source == row["name"]),
            completed=done[row["name"]],
            failed=sum(each.failed + each.healing for each in waits.failed if each.source == row["name"]),
            paused=row["paused"],
            problem=findings[row["name"]].problem or row["problem"],
            triggers=findings[row["name"]].triggers,
            triggers_wrong=findings[row["name"]].wrong,
            generation=row["generation"],
            beside=[
                GenerationStatus(
                    each["number"], each["state"], each["due"], each["oldest_change_age_s"], each["problem"]
                )
                for each in beside
                if each["source"] == row["name"]
            ],
        )
        for row in rows
        if row["name"] in findings
    }
    return Status(
        outbox=waits.outbox,
        pending=sum(each.ready + each.waiting for each in waits.due) + sum(each.running for each in waits.runs),
        processing=sum(each.claimed for each in waits.due),
        failed=sum(each.failed for each in waits.failed),
        healing=sum(each.healing for each in waits.failed),
        open_runs=sum(each.open for each in waits.runs),
        oldest_change_age_s=max(waits.oldest_s.values()),
        completed=sum(done.values()),
        listener=listener_state(connection),
        workers=len(heartbeat.alive(connection, "worker")),
        triggers=max((source.triggers for source in sources.values()), key=WORST_LAST.index, default="ok"),
        breakers={each.dependency: _breaker_status(each) for each in reversed(open_breakers(connection))},
        budgets=[str(each) for each in all_budgets(connection) if each.is_closed],
        events=[
            f"{each.name}: {each.problem}; {counted(each.waiting, 'event')} waiting"
            for each in all_receivers(connection)
            if each.problem
        ],
        sources=sources,
    )


def listener_state(connection: Connection) -> ListenerState:
    """Whether a listener leads, and whether it is idle, by its advisory locks, which a crash frees.

    Behind a pooler a listener holds no lock. There its heartbeat says that it drains.
    """
    row = connection.execute(
        load("status.sql")["listener"],
        {"lock_class": LOCK_CLASS, "leader_lock": LEADER_LOCK, "wake_lock": WAKE_LOCK, "stale_s": heartbeat.STALE_S},
    ).fetchone()
    led, asleep = row or (False, False)
    if not led:
        return "absent"
    return "asleep" if asleep else "awake"


def why(connection: Connection, source: Source, item_id: str, embedder_of: EmbedderOf) -> ItemState | None:
    """Return what is known of one item, as `item` does.

    Raises OtherEmbedder if the settings here can't make the embedder that the database records, UsageError if they name
    none.
    """
    return item(connection, source, item_id, recorded_embedding_spec(connection, source, embedder_of(source)))


def item(connection: Connection, source: Source, item_id: str, spec: EmbeddingSpec) -> ItemState | None:
    """Return what is known of one item. None if it has neither a row nor any record.

    `spec` determines the wanted fingerprint. `item_id` may be in another spelling.
    """
    item_id = long_keys.item_id_of(connection, source, item_id)
    with connection.cursor(row_factory=dict_row) as cursor:
        known = cursor.execute(load("status.sql")["item"], {"source": source.name, "item_id": item_id}).fetchone()
    row, unreadable = _row(connection, source, item_id)
    if known is None or not (known["is_due"] or known["is_known"] or known["in_outbox"] or row or unreadable):
        return None
    try:
        spec = spec.within(known["chunk_tokens"])
        wanted = spec.fingerprint(row.text, row.columns) if row else None
    except ChunkerFailed as exc:
        wanted, unreadable = None, str(exc)
    return ItemState(
        source=source.name,
        item_id=item_id,
        status=known["status"],
        wanted=wanted,
        indexed=known["text_fingerprint"] if known["chunks"] else None,
        lane=known["lane"],
        attempts=known["attempts"],
        error=known["error"],
        waits_for=_waits_for(known, unreadable, open_breakers(connection), _over(connection, source, known)),
        next_try_at=known["next_try_at"],
        changed_at=known["changed_at"],
        indexed_at=known["indexed_at"],
        chunks=known["chunks"],
        history=_history(connection, source, item_id),
    )


def _history(connection: Connection, source: Source, item_id: str) -> list[PastRequest]:
    with connection.cursor(row_factory=class_row(PastRequest)) as cursor:
        parameters = {"source": source.name, "item_id": item_id, "limit": MAX_HISTORY}
        return cursor.execute(load("requests.sql")["of_item"], parameters).fetchall()


def _breaker_status(breaker: OpenBreaker) -> BreakerStatus:
    return BreakerStatus("open", breaker.reason, breaker.failures, breaker.since, breaker.next_probe_at)


def _row(connection: Connection, source: Source, item_id: str) -> tuple[Row | None, str | None]:
    """Return the row as it is now, and why it can't be read. Both None: there is no row."""
    try:
        found = find_rows(connection, source, [item_id])
    except SourceError as exc:
        return None, str(exc)
    why = found.unreadable.get(item_id)
    return found.rows.get(item_id), why.reason if why else None


def _holds(breaker: OpenBreaker, known: Mapping[str, Any]) -> bool:
    """Whether a breaker holds the item up. A provider's holds up only items that need nothing but an embedding."""
    return breaker.dependency == "qdrant" or (known["is_marked"] and breaker.account == known["account"])


def _over(connection: Connection, source: Source, known: Mapping[str, Any]) -> str | None:
    """Why an item that needs nothing but an embedding waits for a budget. None: it does not."""
    if not (known["is_due"] and known["is_marked"]):
        return None
    found = over(connection, source.name, "edit" if known["lane"] == Lane.LIVE else "backfill")
    return str(found) if found else None


def _waits_for(  # noqa: PLR0911  one line a cause
    known: Mapping[str, Any], unreadable: str | None, breakers: Sequence[OpenBreaker], over: str | None
) -> str | None:
    """Say in words what the item waits for: the first cause that applies."""
    if known["status"] == "PROCESSING":
        return "the worker that has claimed it"
    if known["is_due"] and known["paused"]:
        return "its source is paused"
    if known["is_due"] and (holding := [each for each in breakers if _holds(each, known)]):
        return str(holding[0])
    if over:
        return over
    if known["is_due"]:
        return known["waits_for"] or known["problem"] or unreadable or f"a worker, in the lane {known['lane']!r}"
    if known["in_outbox"]:
        return "the listener: its change is in the outbox"
    if known["outcome"] == "FAILED":
        return "another try: the cause may pass" if known["next_try_at"] else "an edit or a replay: the cause stays"
    if known["status"] is None:
        return unreadable or "a scan of its source, or an edit"
    return None
