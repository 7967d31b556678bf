"""Collect the numbers behind `/metrics` from Postgres. The backlog is separate, because its cost grows with the
rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from psycopg.rows import dict_row

from reindexer.budgets import all_budgets
from reindexer.events.receivers import all_receivers
from reindexer.monitoring import heartbeat, metrics_store
from reindexer.monitoring.backlog import completed, lag
from reindexer.monitoring.buffer import Series, labels_text
from reindexer.monitoring.metrics import METRICS, Metric
from reindexer.monitoring.spend import spent
from reindexer.monitoring.status import listener_state
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load
from reindexer.sources.store import all_sources
from reindexer.sources.trigger_check import inspect


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample: of a gauge, of a counter, or (by the suffix of its name) of a histogram."""

    name: str
    labels: Mapping[str, str]
    value: float


def measure_states(connection: Connection) -> list[Sample]:
    """Return states of processes, sources and dependencies. Takes milliseconds, whatever the backlog."""
    return [
        *_sources(connection),
        *_spent(connection),
        *_budgets(connection),
        *_breakers(connection),
        *_processes(connection),
    ]


def measure_backlog(connection: Connection) -> list[Sample]:
    """Return the backlog, failures, and the oldest change's age. Takes 0.1 s per million waiting rows."""
    now = lag(connection)
    samples = [Sample("reindexer_outbox_changes", {}, now.outbox)]
    for place, age_s in now.oldest_s.items():
        samples.append(Sample("reindexer_oldest_change_age_seconds", {"place": place}, age_s))
        samples.append(Sample("reindexer_revoked_age_seconds", {"place": place}, now.revoked_s[place]))
    due = {(each.source, each.lane, state): getattr(each, state) for each in now.due for state in _values(DUE, "state")}
    failed = {each.source: each for each in now.failed}
    for row in _rows(connection, "sources"):
        source, found = {"source": row["name"]}, failed.get(row["name"])
        samples.append(Sample("reindexer_failed_items", source, found.failed if found else 0))
        samples.append(Sample("reindexer_healing_items", source, found.healing if found else 0))
        samples.append(
            Sample("reindexer_completed_items", source, completed(connection, row["name"], row["generation"]))
        )
        for lane, state in product(_values(DUE, "lane"), _values(DUE, "state")):
            items = due.get((row["name"], lane, state), 0)
            samples.append(Sample(DUE, source | {"lane": lane, "state": state}, items))
    for receiver in all_receivers(connection):
        its = {"receiver": receiver.name}
        samples.append(Sample("reindexer_events_waiting", its, receiver.waiting))
        samples.append(Sample("reindexer_events_oldest_seconds", its, receiver.oldest_s))
        samples.append(Sample("reindexer_event_receiver_problem", its, receiver.problem is not None))
    runs = {each.kind: each.open for each in now.runs}
    samples += [
        Sample("reindexer_open_runs", {"kind": kind}, runs.get(kind, 0))
        for kind in _values("reindexer_open_runs", "kind")
    ]
    return samples


def measure_counters(connection: Connection) -> list[Sample]:
    """Return what all processes have counted since the installation, with zeros for what never happened."""
    sums = metrics_store.read(connection)
    return [sample for metric in METRICS.values() if metric.kind != "gauge" for sample in _counted(metric, sums)]


DUE = "reindexer_due_items"


def _sources(connection: Connection) -> Iterator[Sample]:
    findings = {source.name: inspect(connection, source) for source in all_sources(connection)}
    for name, found in findings.items():
        yield from _one_of("reindexer_source_triggers", found.triggers, source=name)
    for row in _rows(connection, "sources"):
        source, found_now = {"source": row["name"]}, findings.get(row["name"])
        yield Sample("reindexer_source_paused", source, row["paused"])
        has_problem = row["has_problem"] or (found_now is not None and found_now.problem is not None)
        yield Sample("reindexer_source_problem", source, has_problem)


def _spent(connection: Connection) -> Iterator[Sample]:
    for each in spent(connection, days=1):
        labels = {"source": each.source, "model": each.model, "purpose": each.purpose}
        yield Sample("reindexer_spent_dollars", labels, each.dollars)
        yield Sample("reindexer_spent_tokens", labels | {"count": "confirmed"}, each.tokens)
        yield Sample("reindexer_spent_tokens", labels | {"count": "unconfirmed"}, each.unconfirmed_tokens)


def _budgets(connection: Connection) -> Iterator[Sample]:
    for each in all_budgets(connection):
        labels = {"source": each.source, "kind": each.kind, "period": each.period}
        yield Sample("reindexer_budget_dollars", labels, each.usd)
        yield Sample("reindexer_budget_used_dollars", labels, each.used_usd)
        yield Sample("reindexer_budget_closed", labels, each.is_closed)


def _breakers(connection: Connection) -> Iterator[Sample]:
    is_open = {row["dependency"] for row in _rows(connection, "open_breakers")}
    for dependency in _values("reindexer_breaker_open", "dependency"):
        yield Sample("reindexer_breaker_open", {"dependency": dependency}, dependency in is_open)


def _processes(connection: Connection) -> Iterator[Sample]:
    yield from _one_of("reindexer_listener_state", listener_state(connection))
    found = {row["role"]: row for row in _rows(connection, "processes", within_s=heartbeat.STALE_S)}
    for role, state in product(_values("reindexer_processes", "role"), _values("reindexer_processes", "state")):
        number = found[role][state] if role in found else 0
        yield Sample("reindexer_processes", {"role": role, "state": state}, number)
    for role, row in found.items():
        yield Sample("reindexer_heartbeat_age_seconds", {"role": role}, row["age_s"])


def _counted(metric: Metric, sums: Mapping[Series, float]) -> Iterator[Sample]:
    if not all(metric.labels.values()):  # its series are known once something was counted
        for (name, labels_json), value in sums.items():
            if name == metric.name:
                yield Sample(name, json.loads(labels_json), value)
        return
    for values in product(*metric.labels.values()):
        labels = dict(zip(metric.labels, values, strict=True))
        if metric.kind == "counter":
            yield Sample(metric.name, labels, sums.get((metric.name, labels_text(**labels)), 0.0))
            continue
        reached = 0.0
        for bound in metric.bounds:
            reached += sums.get((f"{metric.name}_bucket", labels_text(**labels, le=bound)), 0.0)
            yield Sample(f"{metric.name}_bucket", labels | {"le": bound}, reached)
        yield Sample(f"{metric.name}_count", labels, reached)
        yield Sample(f"{metric.name}_sum", labels, sums.get((f"{metric.name}_sum", labels_text(**labels)), 0.0))


def _one_of(name: str, found: str, **labels: str) -> Iterator[Sample]:
    """Yield 1 for the state that was found, 0 for the others."""
    for state in _values(name, "state"):
        yield Sample(name, labels | {"state": state}, state == found)


def _values(name: str, label: str) -> tuple[str, ...]:
    return METRICS[name].labels[label]


def _rows(connection: Connection, query: str, **params: Any) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(load("collect.sql")[query], params).fetchall()
