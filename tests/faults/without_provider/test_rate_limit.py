"""What needs no provider does not wait while nobody may ask it."""

from __future__ import annotations

import time

import redis

from reindexer.backfills.pager import walk_page
from reindexer.core.lanes import Lane
from reindexer.monitoring.buffer import labels_text
from reindexer.monitoring.metrics import RATE_LIMIT_WAIT
from reindexer.monitoring.metrics_store import read
from reindexer.postgres.connect import Connection
from reindexer.queue.drain import drain
from reindexer.settings import Settings
from reindexer.sources.store import find_source
from reindexer.testing.provider import FakeProvider, error, vector_of
from reindexer.testing.waiting import eventually
from reindexer.wiring import worker as make_worker
from reindexer.worker.worker import Worker
from tests.support.away import change, marked, payload
from tests.support.flow import insert, work
from tests.support.index_reader import IndexReader


def test_truncate_empties_the_index_while_the_provider_says_that_nobody_may_ask_for_an_hour(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    ids = [insert(db, f"text {n}") for n in range(5)]
    work(db, worker)
    provider.behave = lambda call: error(429, "rate_limit_exceeded", {"retry-after": "3600"})
    db.execute("UPDATE context_items SET content = content || '!'")
    work(db, worker)
    assert marked(db) == sorted(ids)
    assert db.execute("SELECT min(not_before) > now() + interval '1 min' FROM reindexer.due").fetchone() == (True,)
    db.execute("TRUNCATE context_items")
    drain(db)
    while walk_page(db, lambda name, _: find_source(db, name)):
        pass
    work(db, worker)
    assert index.count() == 0


def test_while_the_rate_limit_is_used_up_only_texts_wait_and_who_looks_at_the_rest_waits_for_no_turn(
    db: Connection, settings: Settings, index: IndexReader, provider: FakeProvider, redis_url: str
) -> None:
    worker = make_worker(settings.model_copy(update={"requests_per_minute": 40, "batch_size": 2}), None)
    deleted, paid, both = (insert(db, f"text {n}") for n in range(3))
    drain(db)
    eventually(lambda: worker.run_lane(Lane.LIVE, budget_s=0) == 0 and index.count() == 3)
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        (key,) = client.keys("reindexer:budget:*")
        later = float(client.hget(key, "live_requests") or 0) + 3600  # as after many requests
        client.hset(key, mapping={"live_requests": later})
    provider.calls.clear()
    for n in range(10):
        insert(db, f"waits {n}")
    db.execute("DELETE FROM context_items WHERE id = %s", [deleted])
    change(db, paid, "text 1", "b")
    change(db, both, "another text", "b")
    began = time.monotonic()
    drain(db)
    worker.run_lane(Lane.LIVE, waits=False)
    assert time.monotonic() - began < 5, "no more than a request takes to be refused"
    assert len(marked(db)) == 11
    assert index.count() == 2
    assert [payload(index, each)["metadata"] for each in (paid, both)] == [{"tenant": "b"}] * 2
    db.execute("DELETE FROM context_items WHERE content LIKE 'waits%'")
    drain(db)
    worker.run_lane(Lane.LIVE, waits=False)
    assert marked(db) == [both]
    assert not provider.calls
    with redis.Redis.from_url(redis_url) as client:
        client.delete(key)
    eventually(lambda: worker.run_lane(Lane.LIVE) is not None and not marked(db))
    assert index.holds(both, vector_of("another text"))
    worker.close()


def test_who_has_more_to_do_than_to_wait_for_a_turn_waits_for_none(
    db: Connection, settings: Settings, index: IndexReader, provider: FakeProvider
) -> None:
    """Its turn would come in a second and a half, which is not far away."""
    worker = make_worker(settings.model_copy(update={"requests_per_minute": 40, "batch_size": 1}), None)
    for n in range(8):
        insert(db, f"text {n}")
    drain(db)
    worker.run_lane(Lane.LIVE, waits=False)
    asked = len(provider.calls)
    assert 8 - asked == len(marked(db)) > 0
    worker.counters.write()
    assert (RATE_LIMIT_WAIT, labels_text(purpose="items")) not in read(db), "nobody waited"
    assert worker.leaves(Lane.LIVE)
    eventually(lambda: worker.run_lane(Lane.LIVE) is not None and not marked(db), within=60)
    assert len(provider.inputs) == 8
    worker.close()
