"""What the provider can do wrong: each answer that is none, and what becomes of the items."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from reindexer.core.breaker import BreakerPolicy
from reindexer.core.lanes import Lane
from reindexer.postgres.connect import Connection
from reindexer.queue import requests
from reindexer.queue.breaker import open_breakers
from reindexer.queue.drain import drain
from reindexer.testing.provider import DIMENSIONS, Call, FakeProvider, Reply, error, vector_of
from reindexer.worker.worker import Worker
from tests.support.flow import insert, status, work
from tests.support.index_reader import IndexReader
from tests.support.outages import attempts_by_item, work_until_done

LEASE_S = 3.0
TIMEOUT_S = 0.5


@pytest.fixture
def env(env: Mapping[str, str]) -> Mapping[str, str]:
    """A provider is waited for half a second, and a claim lasts for three."""
    return {**env, "REINDEXER_EMBEDDING_TIMEOUT_S": str(TIMEOUT_S), "REINDEXER_LEASE_S": str(LEASE_S)}


@pytest.mark.parametrize("headers", [{"retry-after": "0.3"}, {}], ids=["with Retry-After", "without"])
def test_429_for_longer_than_all_retries_is_waited_out_and_uses_no_attempt(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, headers: dict[str, str]
) -> None:
    item_id = insert(db, "text")
    worker.policy = replace(worker.policy, max_retries=0)
    burnt: list[int] = []

    def limited(call: Call) -> Reply | None:
        if len(provider.calls) > 8:
            return None
        burnt.extend(attempts_by_item(db))
        return error(429, "rate_limit_exceeded", headers)

    provider.behave = limited
    work_until_done(db, worker)
    assert set(burnt) == {1}, "each try is the first"
    assert status(db, item_id) == ("COMPLETED", None)
    assert index.holds(item_id, vector_of("text"))
    assert db.execute("SELECT DISTINCT attempts FROM reindexer.ledger").fetchall() == [(1,)]
    if headers:
        times = [call.at for call in provider.calls]
        assert min(b - a for a, b in itertools.pairwise(times)) >= 0.3, "no sooner than asked"


def test_a_request_that_waits_for_a_429_is_told_as_tried_though_the_try_does_not_count(
    db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    item_id = insert(db, "text")
    work(db, worker)
    requests.record(db, "context_items", [requests.ReindexRequest("request", item_id)], lane=Lane.BULK, sent=True)
    told = requests.task_state(db, "request")
    assert told is not None
    assert (told.state, told.waits_for) == ("PENDING", None)
    provider.behave = lambda call: error(429, "rate_limit_exceeded")
    worker.run_lane(Lane.BULK, budget_s=0)
    told = requests.task_state(db, "request")
    assert told is not None
    assert (told.state, attempts_by_item(db)) == ("RETRY", [0])
    assert told.waits_for is not None
    assert "429" in told.waits_for


def test_500_is_four_tries_and_no_breaker_for_it_answers(
    db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    provider.behave = lambda call: error(500, "overloaded")
    item_id = insert(db, "text")
    work_until_done(db, worker)
    assert len(provider.calls) == 4
    assert status(db, item_id) == ("FAILED", "the embedding provider answered 500 (overloaded)")
    assert db.execute("SELECT heal_at > now() FROM reindexer.ledger").fetchone() == (True,)
    assert db.execute("SELECT * FROM reindexer.breaker").fetchall() == []


ANSWERS: dict[str, Callable[[bytes], Reply]] = {
    "half a JSON": lambda good: Reply(200, good[: len(good) // 2]),
    "half a JSON and a cut": lambda good: Reply(200, good, cut_at=len(good) // 2),
    "a cut before the answer": lambda good: Reply(200, good, cut_at=0),
    "fewer vectors": lambda good: Reply(200, {"data": [{"index": 0, "embedding": [0.5] * DIMENSIONS}]}),
    "one index twice": lambda good: Reply(200, {"data": [{"index": 0, "embedding": [0.5] * DIMENSIONS}] * 2}),
    "NaN": lambda good: Reply(
        200, {"data": [{"index": i, "embedding": [float("nan")] * DIMENSIONS} for i in range(2)]}
    ),
    "zero vectors": lambda good: Reply(
        200, {"data": [{"index": i, "embedding": [0.0] * DIMENSIONS} for i in range(2)]}
    ),
    "an HTML page": lambda good: Reply(200, b"<html>Welcome to the gateway</html>"),
    "503": lambda good: error(503),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
@pytest.mark.first(5)
def test_an_answer_that_is_no_answer_costs_an_attempt_and_is_tried_again(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, answer: Callable[[bytes], Reply]
) -> None:
    ids = {insert(db, text): text for text in ("one", "two")}

    def first_time(call: Call) -> Reply | None:
        return answer(json.dumps(provider.vectors(call).body).encode()) if len(provider.calls) == 1 else None

    provider.behave = first_time
    drain(db)
    worker.run_lane(Lane.LIVE, budget_s=0)
    assert attempts_by_item(db) == [1, 1]
    assert index.count() == 0
    work_until_done(db, worker)
    assert all(index.holds(item_id, vector_of(text)) for item_id, text in ids.items())
    assert len(provider.calls) in (2, 3), "each item has a wait of its own"


def test_vectors_in_another_order_find_their_items(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    def reversed_order(call: Call) -> Reply:
        body = dict(provider.vectors(call).body)
        return Reply(200, {**body, "data": body["data"][::-1]})

    provider.behave = reversed_order
    ids = {insert(db, f"text {n}"): f"text {n}" for n in range(20)}
    work(db, worker)
    assert len(provider.calls) == 1
    assert all(index.holds(item_id, vector_of(text)) for item_id, text in ids.items())


def hang(provider: FakeProvider) -> None:
    provider.latency_s = 5.0


def drip(provider: FakeProvider) -> None:
    """Slow bytes: each comes in time, all of them would take longer than the lease."""
    provider.behave = lambda call: Reply(200, b" " * 400, drip_s=0.05)


@pytest.mark.alone
@pytest.mark.parametrize("fault", [hang, drip])
def test_a_provider_that_hangs_or_drips_is_given_up_in_time_and_well_before_the_lease_is_over(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, fault: Callable[[FakeProvider], None]
) -> None:
    item_id = insert(db, "text")
    fault(provider)
    drain(db)
    started = time.monotonic()
    worker.run_lane(Lane.LIVE, budget_s=0)
    assert time.monotonic() - started < LEASE_S - 0.5
    assert status(db, item_id) == ("PENDING", "the embedding provider did not answer in time")
    assert db.execute("SELECT lease_until, attempts FROM reindexer.due").fetchone() == (None, 1)
    provider.latency_s, provider.behave = 0.0, lambda call: None
    work_until_done(db, worker)
    assert index.holds(item_id, vector_of("text"))


def test_insufficient_quota_stops_all_requests_at_once_and_all_goes_on_when_it_is_paid(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    provider.behave = lambda call: error(429, "insufficient_quota")
    worker.limits = type(worker.limits)(batch_size=10, lease_s=LEASE_S, provider_timeout_s=TIMEOUT_S)
    worker.breaker = BreakerPolicy(base_s=600.0, max_s=600.0)  # no probe comes until it is called for
    ids = [insert(db, f"text {n}") for n in range(50)]
    work(db, worker)
    assert len(provider.calls) == 1, "the first answer says it for all"
    (breaker,) = open_breakers(db)
    assert breaker.dependency == "provider"
    assert "insufficient_quota): check the account's credit and limits" in breaker.reason
    assert sorted(attempts_by_item(db)) == [0] * 40 + [1] * 10
    for _ in range(2):
        db.execute("UPDATE reindexer.breaker SET probe_at = now()")
        work(db, worker)
    assert [len(call.inputs) for call in provider.calls] == [10, 1, 1], "then it is asked with one item at a time"
    db.execute("UPDATE reindexer.breaker SET probe_at = now()")
    provider.behave = lambda call: None
    work_until_done(db, worker)
    assert index.count() == len(ids)
    assert open_breakers(db) == []
