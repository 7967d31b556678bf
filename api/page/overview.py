"""What the page shows live: what `/metrics` knows, by lane and source, with rates, the reasons behind the states, and
the problems, each with what to do.

However many pages look, one look at a time is made, and at most one each two seconds. Its counts are those of
`/metrics`, which are counted once for both.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from reindexer import wiring
from reindexer.budgets import all_budgets
from reindexer.core.lanes import LANES
from reindexer.monitoring import heartbeat
from reindexer.monitoring.collect import DUE, Sample
from reindexer.monitoring.metrics import FRESHNESS, FRESHNESS_S, SETTLED
from reindexer.postgres.connect import Connection, Postgres
from reindexer.queue.breaker import open_breakers
from reindexer.settings import Settings
from reindexer.sources.store import all_sources, problems
from reindexer.sources.trigger_check import inspect

from ..cached_query import CachedQuery
from ..kept_connection import KeptConnection, Resting
from ..metrics_endpoint import MetricsEndpoint
from .advice import ADVICE

LOOK_S = 2.0
"""The least time between two looks."""
STATES_S = 10.0
"""How old states of sources and processes may be: to read them takes some 20 ms of CPU, the counts 2."""
RATE_S = 30.0
"""Items per second are those of this time."""
FRESHNESS_OVER_S = 300.0
"""Freshness is that of this time."""
LATE_S = 60.0
"""A change that waits for longer is told as a problem; one in the lane `bulk`, for `LATE_BULK_S`."""
LATE_BULK_S = 3600.0
ANSWERS_WITHIN_S = 2.0

Values = Mapping[tuple[str, tuple[str, ...]], float]
"""Samples by name and by the values of their labels."""


@dataclass(frozen=True, slots=True)
class _Reasons:
    """What the numbers do not say: which processes, and why."""

    processes: Sequence[Mapping[str, Any]]
    breakers: Sequence[Mapping[str, Any]]
    problems: Mapping[str, str]
    triggers: Mapping[str, str]
    sources: Sequence[str]
    over_budget: Sequence[str] = ()
    """Budgets that are used up, in words."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What an inspection of all sources found wrong, by source."""

    problems: Mapping[str, str]
    triggers: Mapping[str, str]


class Overviews:
    """Makes the looks. Called in the event loop, so it needs no lock."""

    def __init__(self, scrape: MetricsEndpoint, postgres: Postgres, settings: Settings) -> None:
        self._scrape = scrape
        self._settings = settings
        self._connection = KeptConnection(postgres.url, "reindexer api overview", answer_s=10.0)
        self._executor = ThreadPoolExecutor(2, thread_name_prefix="overview")
        self._reasons = CachedQuery(self._executor, "reasons", partial(self._connection.ask, _reasons_of))
        self._found = CachedQuery(self._executor, "triggers", partial(self._connection.ask, _inspected))
        self._limits = CachedQuery(self._executor, "rate limits", self._ask_limits)
        self._resting = Resting(self._executor, [self._connection])
        self._past = deque[tuple[float, Values]]()
        self._looking: asyncio.Task[str] | None = None
        self._looked_at = 0.0

    async def look(self) -> str:
        """The overview as JSON in one line, not older than two seconds."""
        if self._looking is None or (self._looking.done() and time.monotonic() >= self._looked_at + LOOK_S):
            self._looked_at = time.monotonic()
            self._looking = asyncio.create_task(self._look())
        return await asyncio.shield(self._looking)

    def forget(self) -> None:
        """Something was changed from the page just now: the next look reads all of it anew."""
        self._looked_at = 0.0
        self._scrape.forget_states()
        for each in (self._reasons, self._found, self._limits):
            each.forget()

    def close(self) -> None:
        """Start no more queries; running ones end by their own timeouts."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._connection.close()

    async def _look(self) -> str:
        samples, reasons, found, limits = await asyncio.gather(
            self._scrape.samples(states_old_s=STATES_S),
            self._reasons.get(within_s=ANSWERS_WITHIN_S),
            self._found.get(within_s=ANSWERS_WITHIN_S, old_s=STATES_S),
            self._limits.get(within_s=ANSWERS_WITHIN_S, old_s=STATES_S),
        )
        self._resting.begin()
        if reasons is not None and found is not None:
            reasons = replace(reasons, problems={**reasons.problems, **found.problems}, triggers=found.triggers)
        now, values = time.monotonic(), values_of(samples)
        while self._past and self._past[0][0] < now - FRESHNESS_OVER_S:
            self._past.popleft()
        told = overview(values, list(self._past), now, reasons, limits or {})
        if values.get(("reindexer_up", ())):
            self._past.append((now, {key: each for key, each in values.items() if _is_counted(key[0])}))
        return json.dumps({"at": time.time(), **told}, default=str)

    def _ask_limits(self) -> Mapping[str, Any]:
        sources = self._connection.ask(all_sources)
        return {name: asdict(each) for name, each in wiring.rate_limits(self._settings, sources).items()}


def _reasons_of(connection: Connection) -> _Reasons:
    return _Reasons(
        [
            {"role": role, **asdict(each)}
            for role in ("listener", "worker")
            for each in heartbeat.alive(connection, role)
        ],
        [asdict(each) for each in open_breakers(connection)],
        dict(problems(connection)),
        {},
        [source.name for source in all_sources(connection)],
        [str(each) for each in all_budgets(connection) if each.is_closed],
    )


def _inspected(connection: Connection) -> _Found:
    found = {source.name: inspect(connection, source) for source in all_sources(connection)}
    return _Found(
        {name: each.problem for name, each in found.items() if each.problem},
        {name: each.wrong for name, each in found.items() if each.wrong},
    )


def values_of(samples: Sequence[Sample]) -> Values:
    """The samples by name and values of labels, in the order of the labels."""
    return {(each.name, tuple(each.labels.values())): float(each.value) for each in samples}


def overview(
    values: Values,
    past: Sequence[tuple[float, Values]],
    now: float,
    reasons: _Reasons | None,
    limits: Mapping[str, Any],
) -> dict[str, Any]:
    """What the page shows. `past`: earlier counters with their times, oldest first; `now` is on the same clock."""
    told = {
        "up": bool(values.get(("reindexer_up", ()))),
        "dependencies": {name: bool(values.get(("reindexer_dependency_up", (name,)))) for name in ("broker", "qdrant")},
        "outbox": _number(values, "reindexer_outbox_changes"),
        "oldest_s": _labelled(values, "reindexer_oldest_change_age_seconds"),
        "runs": sum(_labelled(values, "reindexer_open_runs").values()),
        "lanes": [_lane(values, past, now, lane) for lane in LANES],
        "sources": [_source(values, name) for name in (reasons.sources if reasons else ())],
        "listener": next((s for s, is_it in _labelled(values, "reindexer_listener_state").items() if is_it), None),
        "processes": list(reasons.processes) if reasons else [],
        "silent": {role: values.get(("reindexer_processes", (role, "silent")), 0.0) for role in ("listener", "worker")},
        "workers": values.get(("reindexer_processes", ("worker", "beating"))),
        "breakers": list(reasons.breakers) if reasons else [],
        "rate_limits": dict(limits),
    }
    return {"problems": list(_problems(told, reasons)), **told}


def _lane(values: Values, past: Sequence[tuple[float, Values]], now: float, lane: str) -> dict[str, Any]:
    due = {
        state: sum(v for (name, labels), v in values.items() if name == DUE and labels[1:] == (lane, state))
        for state in ("ready", "waiting", "claimed")
    }
    recent = next(((at, then) for at, then in past if at >= now - RATE_S), None)
    per_s = None
    if recent is not None and now > recent[0]:
        per_s = max(0.0, _settled(values, lane) - _settled(recent[1], lane)) / (now - recent[0])
    return {
        "lane": lane, **due, "messages": values.get(("reindexer_broker_messages", (lane,))),
        "oldest_s": values.get(("reindexer_oldest_change_age_seconds", (lane,)), 0.0), "per_s": per_s,
        "freshness": freshness(values, past[0][1] if past else {}, lane),
    }  # fmt: skip


def freshness(values: Values, since: Values, lane: str) -> dict[str, Any]:
    """How long changes took from commit to Qdrant: the bounds that half, and 99 of 100, kept within.

    Of the changes after the counters `since`; if there was none, of all that were counted ever (`ever`).
    """
    bounds = [*map(str, FRESHNESS_S), "+Inf"]
    ever = [values.get((f"{FRESHNESS}_bucket", (lane, bound)), 0.0) for bound in bounds]
    before = [since.get((f"{FRESHNESS}_bucket", (lane, bound)), 0.0) for bound in bounds] if since else ever
    recent = [now - then for now, then in zip(ever, before, strict=True)]
    counts, of_all = (recent, False) if recent[-1] > 0 else (ever, True)

    def within(share: float) -> float | None:
        pairs = zip([*FRESHNESS_S, None], counts, strict=True)
        return next((bound for bound, reached in pairs if reached >= share * counts[-1]), None) if counts[-1] else None

    return {"p50": within(0.5), "p99": within(0.99), "changes": counts[-1], "ever": of_all}


def _source(values: Values, name: str) -> dict[str, Any]:
    states = {labels[1]: value for (n, labels), value in values.items()
              if n == "reindexer_source_triggers" and labels[0] == name}  # fmt: skip
    return {
        "name": name,
        "due": sum(v for (n, labels), v in values.items() if n == DUE and labels[0] == name),
        "completed": values.get(("reindexer_completed_items", (name,))),
        "failed": values.get(("reindexer_failed_items", (name,)), 0.0),
        "healing": values.get(("reindexer_healing_items", (name,)), 0.0),
        "paused": bool(values.get(("reindexer_source_paused", (name,)))),
        "problem": bool(values.get(("reindexer_source_problem", (name,)))),
        "triggers": next((state for state, is_it in states.items() if is_it), None),
    }


def _problems(told: Mapping[str, Any], reasons: _Reasons | None) -> Iterator[dict[str, Any]]:
    for section, what, where in _found(told, reasons):
        yield {"section": section, "what": what, "where": where, **asdict(ADVICE[section])}


def _found(told: Mapping[str, Any], reasons: _Reasons | None) -> Iterator[tuple[str, str, str | None]]:
    """Section of the runbook, what is wrong, and the part of the page that shows more."""
    if not told["up"]:
        yield "ReindexerPostgresAway", "Postgres does not answer", None
    for name, answers in told["dependencies"].items():
        if not answers:
            yield "ReindexerDependencyAway", f"{name} does not answer", None
    if told["up"]:
        yield from _idle(told)
        yield from _broken(reasons)
        yield from _over_budget(reasons)
        yield from _late(told)
        yield from _of_sources(told)


def _idle(told: Mapping[str, Any]) -> Iterator[tuple[str, str, str | None]]:
    if told["listener"] == "absent":
        yield "ReindexerListenerAbsent", "no listener leads", None
    if not told["workers"]:
        yield "ReindexerNoWorkers", "no worker has sent a heartbeat", None
    for each in told["breakers"]:
        yield "ReindexerBreakerOpen", f"{each['dependency']}: {each['reason']}", None


def _broken(reasons: _Reasons | None) -> Iterator[tuple[str, str, str | None]]:
    for name, wrong in (reasons.triggers if reasons else {}).items():
        yield "ReindexerTriggersWrong", f"{name}: {wrong}", f"source/{name}"
    for name, problem in (reasons.problems if reasons else {}).items():
        yield "ReindexerSourceProblem", f"{name}: {problem}", f"source/{name}"


def _over_budget(reasons: _Reasons | None) -> Iterator[tuple[str, str, str | None]]:
    for each in reasons.over_budget if reasons else ():
        yield "ReindexerBudgetUsedUp", each, "spend"


def _of_sources(told: Mapping[str, Any]) -> Iterator[tuple[str, str, str | None]]:
    for name, limit in told["rate_limits"].items():
        if limit["blocked_s"] > 0:
            yield "ReindexerRateLimited", f"{name}: no request for {limit['blocked_s']:.0f} s", f"source/{name}"
    for each in told["sources"]:
        where = f"failed/{each['name']}"
        if each["failed"]:
            yield "ReindexerItemsFailed", f"{each['name']}: {each['failed']:,.0f} failed", where
        if each["healing"]:
            yield "ReindexerItemsHealing", f"{each['name']}: {each['healing']:,.0f} are tried again", where
        if each["paused"]:
            yield "ReindexerSourcePaused", f"{each['name']} is paused", f"source/{each['name']}"


def _late(told: Mapping[str, Any]) -> Iterator[tuple[str, str, str | None]]:
    oldest = told["oldest_s"]
    edits = max(oldest.get("outbox", 0.0), oldest.get("live", 0.0))
    if edits > LATE_S:
        yield "ReindexerEditsLate", f"the oldest edit has waited for {edits:,.0f} s", None
    bulk = max(oldest.get("bulk", 0.0), oldest.get("runs", 0.0))
    if bulk > LATE_BULK_S:
        yield "ReindexerBulkLate", f"the oldest change in bulk has waited for {bulk:,.0f} s", None


def _is_counted(name: str) -> bool:
    return name in (SETTLED, f"{FRESHNESS}_bucket")


def _settled(values: Values, lane: str) -> float:
    return sum(v for (name, labels), v in values.items() if name == SETTLED and labels[0] == lane)


def _number(values: Values, name: str) -> float | None:
    return values.get((name, ()))


def _labelled(values: Values, wanted: str) -> dict[str, float]:
    return {labels[0]: value for (name, labels), value in values.items() if name == wanted}
