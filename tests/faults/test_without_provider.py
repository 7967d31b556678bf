"""What needs no provider waits for none: neither while it is away, nor while nobody may ask it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import replace

import pytest
import redis
from psycopg.types.json import Jsonb

from reindexer.backfills import runs
from reindexer.backfills.pager import walk_page
from reindexer.core.profile import Profile
from reindexer.core.source import Source
from reindexer.core.text.tokens import estimate_tokens
from reindexer.monitoring.buffer import labels_text
from reindexer.monitoring.metrics import RATE_LIMIT_WAIT
from reindexer.monitoring.metrics_store import read
from reindexer.postgres.connect import Connection
from reindexer.queue import requests
from reindexer.queue.breaker import open_breakers
from reindexer.queue.claim import claim_batch, claim_item
from reindexer.queue.drain import drain
from reindexer.settings import Settings
from reindexer.sources.attach import attach
from reindexer.sources.store import find_source
from reindexer.testing.provider import Call, FakeProvider, Reply, error, vector_of
from reindexer.testing.waiting import eventually
from reindexer.wiring import worker as make_worker
from reindexer.worker.execution import WorkLimits
from reindexer.worker.worker import Worker
from tests.support.flow import insert, status, work
from tests.support.index_reader import IndexReader


@pytest.fixture
def env(env: Mapping[str, str]) -> Mapping[str, str]:
    """A sixtieth of the usual waits: probes come after 0.05, 0.1, 0.2 … 0.5 s."""
    return {**env, "REINDEXER_RETRY_MAX_S": "1"}


class Away:
    """A provider that says 502, as a gateway does behind which nobody answers."""

    def __init__(self, db: Connection, worker: Worker, provider: FakeProvider) -> None:
        self._db, self._worker, self._provider = db, worker, provider

    def goes(self) -> None:
        """Away, and its breaker is open; the next probe is far off."""
        self._provider.behave = lambda call: error(502)
        self._worker.breaker = replace(self._worker.breaker, opens_at=1)
        insert(self._db, "it is found out by this one", "public")
        work(self._db, self._worker)
        assert [each.dependency for each in open_breakers(self._db)] == ["provider"]
        self._db.execute("UPDATE reindexer.breaker SET probe_at = now() + interval '1 hour'")
        self._provider.calls.clear()

    def returns(self) -> None:
        """And may be asked: all that waited is done."""
        self._provider.behave = lambda call: None
        self._db.execute("UPDATE reindexer.breaker SET probe_at = now()")
        self._db.execute("UPDATE reindexer.due SET not_before = now() WHERE lease_until IS NULL")
        eventually(lambda: work(self._db, self._worker) == 0 and not marked(self._db))
        assert open_breakers(self._db) == []


@pytest.fixture
def away(db: Connection, worker: Worker, provider: FakeProvider, index: IndexReader) -> Away:
    return Away(db, worker, provider)


def marked(db: Connection) -> list[str]:
    """Items of which it is known that nothing but their embedding is left to do."""
    return [i for (i,) in db.execute("SELECT item_id FROM reindexer.due WHERE marked ORDER BY item_id")]


def payload(index: IndexReader, item_id: str, chunk: int = 0) -> Mapping[str, object]:
    """The source's columns of a point."""
    found = index.payload(item_id, chunk)
    assert found is not None
    return {name: value for name, value in found.items() if name != "_reindexer"}


def facts(index: IndexReader, item_id: str, chunk: int = 0) -> Mapping[str, object]:
    """What a point says of its text."""
    found = index.payload(item_id, chunk)
    assert found is not None
    return {name: found["_reindexer"][name] for name in ("fingerprint", "span", "chunk")}


def change(db: Connection, item_id: str, content: str, tenant: str) -> None:
    db.execute(
        "UPDATE context_items SET content = %s, metadata = jsonb_build_object('tenant', %s::text) WHERE id = %s",
        [content, tenant, item_id],
    )


def test_deletions_blanks_payloads_and_what_is_unchanged_are_settled_while_the_provider_is_away_and_many_texts_wait(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, away: Away
) -> None:
    deleted, blank, paid, same = (insert(db, f"text {n}") for n in range(4))
    work(db, worker)
    away.goes()
    worker.limits = WorkLimits(batch_size=50)
    db.execute("INSERT INTO context_items (content) SELECT 'waits ' || n FROM generate_series(1, 300) n")
    db.execute("DELETE FROM context_items WHERE id = %s", [deleted])
    db.execute("UPDATE context_items SET content = '' WHERE id = %s", [blank])
    change(db, paid, "text 2", "b")
    db.execute("INSERT INTO reindexer.outbox (source, item_id) VALUES ('context_items', %s)", [same])
    assert work(db, worker) == 4
    assert index.count() == 2
    assert payload(index, paid)["metadata"] == {"tenant": "b"}
    assert [status(db, each) for each in (deleted, blank, paid, same)] == [None, *[("COMPLETED", None)] * 3]
    assert len(marked(db)) == 301
    assert not provider.calls
    away.returns()
    assert index.count() == 303


def test_a_payload_that_changed_with_its_text_is_written_beside_the_older_vector_and_the_text_follows(
    db: Connection, worker: Worker, index: IndexReader, away: Away
) -> None:
    item_id = insert(db, "A")
    work(db, worker)
    before = facts(index, item_id)
    away.goes()
    change(db, item_id, "B", "b")
    work(db, worker)
    assert payload(index, item_id)["metadata"] == {"tenant": "b"}
    assert facts(index, item_id) == before, "it says what text its vector is of"
    assert index.holds(item_id, vector_of("A"))
    away.returns()
    assert index.holds(item_id, vector_of("B"))
    assert facts(index, item_id) != before
    assert payload(index, item_id)["metadata"] == {"tenant": "b"}


def test_a_text_and_payload_that_go_back_while_the_provider_is_away_end_as_they_were(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, away: Away
) -> None:
    """(A, p1) is indexed; (B, p2), of which p2 is written; back to (A, p1), which looks unchanged to who forgot p2."""
    item_id = insert(db, "A")
    change(db, item_id, "A", "p1")
    work(db, worker)
    away.goes()
    change(db, item_id, "B", "p2")
    work(db, worker)
    assert payload(index, item_id)["metadata"] == {"tenant": "p2"}
    change(db, item_id, "A", "p1")
    work(db, worker)
    assert payload(index, item_id)["metadata"] == {"tenant": "p1"}
    assert index.holds(item_id, vector_of("A"))
    assert status(db, item_id) == ("COMPLETED", None)
    assert not provider.calls


def test_a_payload_of_an_item_in_doubt_reaches_all_points_that_its_lost_claim_may_have_made(
    db: Connection, worker: Worker, index: IndexReader, away: Away
) -> None:
    db.execute("UPDATE reindexer.source SET definition = definition || '{\"chunk_tokens\": 40}'")
    item_id = insert(db, " ".join(f"word{n}" for n in range(100)))
    work(db, worker)
    chunks = index.count()
    assert chunks > 3
    db.execute("UPDATE reindexer.ledger SET chunks = 1")  # as where a claim that was lost wrote more than was settled
    away.goes()
    change(db, item_id, "short", "b")
    drain(db)
    db.execute("UPDATE reindexer.due SET doubtful = true WHERE item_id = %s", [item_id])
    work(db, worker)
    assert {str(payload(index, item_id, n)["metadata"]) for n in range(chunks)} == {"{'tenant': 'b'}"}
    away.returns()
    assert index.payload(item_id, 1) is None
    assert index.holds(item_id, vector_of("short"))


def test_paragraphs_that_are_dropped_leave_the_index_while_the_provider_is_away(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, away: Away
) -> None:
    paragraphs = [f"## Part {n}\n" + " ".join([f"word{n}"] * 25) for n in range(4)]
    room = max(map(estimate_tokens, paragraphs)) * 3 // 2  # for one, and not for two
    db.execute("UPDATE reindexer.source SET definition = definition || %s", [Jsonb({"chunk_tokens": room})])
    item_id = insert(db, "\n\n".join(paragraphs))
    work(db, worker)
    before = index.count()
    away.goes()
    db.execute("UPDATE context_items SET content = %s WHERE id = %s", ["\n\n".join(paragraphs[:2]), item_id])
    work(db, worker)
    assert index.count() < before, "the rest is there already, and no vector is wanting"
    assert status(db, item_id) == ("COMPLETED", None)
    assert not provider.calls


def test_a_row_that_leaves_the_condition_leaves_the_index_while_the_provider_is_away(
    db: Connection, worker: Worker, index: IndexReader, away: Away
) -> None:
    condition = {"condition": "title = 'public'", "condition_columns": ["title"]}
    db.execute("UPDATE reindexer.source SET definition = definition || %s", [Jsonb(condition)])
    item_id = insert(db, "text", "public")
    work(db, worker)
    assert index.count() == 1
    away.goes()
    db.execute("UPDATE context_items SET title = 'secret', content = 'and another text' WHERE id = %s", [item_id])
    work(db, worker)
    assert index.count() == 0


def test_marked_items_are_not_claimed_again_use_no_attempt_and_a_later_change_of_any_kind_clears_the_mark(
    db: Connection, worker: Worker, index: IndexReader, away: Away
) -> None:
    away.goes()
    ids = [insert(db, f"text {n}") for n in range(6)]
    work(db, worker)
    rows = "SELECT item_id, token, attempts FROM reindexer.due WHERE item_id = ANY (%s) ORDER BY 1"
    before = db.execute(rows, [ids]).fetchall()
    assert [attempts for *_, attempts in before] == [0] * 6
    db.execute("UPDATE reindexer.due SET not_before = now() WHERE lease_until IS NULL")
    for lane in ("live", "bulk"):
        assert worker.run_lane(lane, budget_s=1) == 0
    assert claim_item(db, "context_items", ids[0], 10, 60) is None
    assert db.execute(rows, [ids]).fetchall() == before, "nobody read them again"
    assert set(ids) <= set(marked(db))
    db.execute("DELETE FROM context_items WHERE id = %s", [ids[0]])
    drain(db)
    request = requests.ReindexRequest(str(uuid.uuid4()), ids[1])
    requests.record(db, "context_items", [request], lane="bulk", sent=True)
    runs.start(db, find_source(db, "context_items"), who="test", where=f"id = '{ids[2]}'")
    assert walk_page(db, lambda name, _: find_source(db, name))
    assert set(ids) - set(marked(db)) == set(ids[:3])
    work(db, worker)
    assert status(db, ids[0]) is None
    assert set(ids[1:]) <= set(marked(db))
    state = requests.task_state(db, request.task_id)
    assert state is not None
    assert state.state == "RETRY"
    assert "does not answer" in str(state.waits_for)


def test_a_change_that_comes_while_its_item_is_being_marked_is_looked_at_all_the_same(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    item_id = insert(db, "A")
    work(db, worker)
    change(db, item_id, "B", "b")
    drain(db)

    def is_deleted_meanwhile(call: Call) -> Reply:
        db.execute("DELETE FROM context_items WHERE id = %s", [item_id])
        drain(db)
        return error(502)

    provider.behave = is_deleted_meanwhile
    worker.run_lane("live", budget_s=0)
    assert marked(db) == []
    assert index.count() == 1
    work(db, worker)
    assert index.count() == 0


def test_no_claim_is_in_vain_while_marked_items_wait_beside_others(
    db: Connection, worker: Worker, index: IndexReader, away: Away
) -> None:
    away.goes()
    db.execute("INSERT INTO context_items (content) SELECT 'waits ' || n FROM generate_series(1, 50) n")
    work(db, worker)
    db.execute("UPDATE reindexer.due SET not_before = now() WHERE lease_until IS NULL")
    db.execute("INSERT INTO context_items (content) SELECT 'new ' || n FROM generate_series(1, 60) n")
    drain(db)
    assert all(claim_batch(db, "live", 1, 60) for _ in range(60))
    assert claim_batch(db, "live", 1, 60) is None


def test_the_backlog_of_a_backfill_stays_short_while_the_provider_is_away(
    db: Connection, worker: Worker, index: IndexReader, away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reindexer.backfills.pager.PAGE", 20)
    monkeypatch.setattr("reindexer.backfills.pager.MAX_BACKLOG", 60)
    away.goes()
    db.execute("INSERT INTO context_items (content) SELECT 'text ' || n FROM generate_series(1, 200) n")
    db.execute("DELETE FROM reindexer.outbox")
    runs.start(db, find_source(db, "context_items"), who="test")

    def goes_on() -> bool:
        walked = walk_page(db, lambda name, _: find_source(db, name))
        worker.run_lane("bulk", budget_s=5)
        return walked

    while goes_on():
        pass
    assert 60 <= len(marked(db)) <= 80
    (run,) = [each for each in runs.recent(db, "context_items") if each.is_open]
    runs.cancel(db, run.id, who="test")
    assert len(marked(db)) == 1, "and what it queued goes with it"


def test_truncate_empties_the_index_while_as_many_texts_wait_as_a_backfill_may_have_due(
    db: Connection, worker: Worker, index: IndexReader, away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reindexer.backfills.pager.PAGE", 20)
    monkeypatch.setattr("reindexer.backfills.pager.MAX_BACKLOG", 60)
    insert(db, "was there")
    work(db, worker)
    assert index.count() == 1
    away.goes()
    _make_wait_in_bulk(db, worker, 70)
    db.execute("TRUNCATE context_items")
    eventually(lambda: _has_left(db, worker, index))


def test_rows_that_a_changed_condition_leaves_out_leave_the_index_while_as_many_texts_wait(
    db: Connection, worker: Worker, index: IndexReader, away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reindexer.backfills.pager.PAGE", 20)
    monkeypatch.setattr("reindexer.backfills.pager.MAX_BACKLOG", 60)
    insert(db, "was there", "secret")
    work(db, worker)
    assert index.count() == 1
    away.goes()
    _make_wait_in_bulk(db, worker, 70)
    attach(db, replace(find_source(db, "context_items"), condition="title <> 'secret'", condition_columns=("title",)))
    eventually(lambda: _has_left(db, worker, index))


def _make_wait_in_bulk(db: Connection, worker: Worker, texts: int) -> None:
    """So many items of the bulk lane of which nothing but an embedding is left to do."""
    db.execute(
        "INSERT INTO context_items (title, content) SELECT 'public', 'text ' || n FROM generate_series(1, %s) n",
        [texts],
    )
    drain(db)
    db.execute("UPDATE reindexer.due SET lane = 'bulk'")
    worker.run_lane("bulk", budget_s=5)
    assert len(marked(db)) >= texts - 10


def _has_left(db: Connection, worker: Worker, index: IndexReader) -> bool:
    """Nothing is in the index, after another step of the listener and of a worker."""
    drain(db)
    walk_page(db, lambda name, _: find_source(db, name))
    worker.run_lane("bulk", budget_s=5)
    return index.count() == 0


def test_one_accounts_outage_does_not_stop_the_sources_of_another(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, away: Away
) -> None:
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, note text)")
    other = FakeProvider()
    attach(db, Source("notes", "public", "notes", ("id",), ("note",), alias="context_items_notes",
                      profile=Profile(base_url=other.url, dimensions=32)))  # fmt: skip
    try:
        away.goes()
        insert(db, "waits")
        db.execute("INSERT INTO notes VALUES (1, 'does not wait')")
        while walk_page(db, lambda name, _: find_source(db, name)):
            pass
        work(db, worker)
        assert other.inputs == ["does not wait"]
        assert IndexReader(index.client, "context_items_notes").count() == 1
        assert len(marked(db)) == 2
        other.behave = lambda call: error(502)
        db.execute("UPDATE notes SET note = 'another text'")
        work(db, worker)
        assert len(open_breakers(db)) == 2, "each has its own"
        assert len({each.account for each in open_breakers(db)}) == 2
        other.behave = lambda call: None
        db.execute(
            "UPDATE reindexer.breaker SET probe_at = now() WHERE account = (SELECT account FROM reindexer.source WHERE name = 'notes')"
        )
        db.execute("UPDATE reindexer.due SET not_before = now() WHERE lease_until IS NULL")
        work(db, worker)
        assert other.inputs[-1] == "another text"
        assert len(open_breakers(db)) == 1
        assert len(marked(db)) == 2
    finally:
        other.close()


def test_in_one_claim_what_needs_no_provider_is_done_before_it_is_asked(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    deleted, paid = insert(db, "deleted"), insert(db, "paid")
    work(db, worker)
    insert(db, "new")
    db.execute("DELETE FROM context_items WHERE id = %s", [deleted])
    change(db, paid, "paid", "b")
    seen: list[object] = []

    def looks(call: Call) -> None:
        seen.append((index.count(), payload(index, paid)["metadata"]))

    provider.behave = looks
    assert work(db, worker) == 3
    assert seen == [(1, {"tenant": "b"})]


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
    eventually(lambda: worker.run_lane("live", budget_s=0) == 0 and index.count() == 3)
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
    worker.run_lane("live", waits=False)
    assert time.monotonic() - began < 5, "no more than a request takes to be refused"
    assert len(marked(db)) == 11
    assert index.count() == 2
    assert [payload(index, each)["metadata"] for each in (paid, both)] == [{"tenant": "b"}] * 2
    db.execute("DELETE FROM context_items WHERE content LIKE 'waits%'")
    drain(db)
    worker.run_lane("live", waits=False)
    assert marked(db) == [both]
    assert not provider.calls
    with redis.Redis.from_url(redis_url) as client:
        client.delete(key)
    eventually(lambda: worker.run_lane("live") is not None and not marked(db))
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
    worker.run_lane("live", waits=False)
    asked = len(provider.calls)
    assert 8 - asked == len(marked(db)) > 0
    worker.counters.write()
    assert (RATE_LIMIT_WAIT, labels_text(purpose="items")) not in read(db), "nobody waited"
    assert worker.leaves("live")
    eventually(lambda: worker.run_lane("live") is not None and not marked(db), within=60)
    assert len(provider.inputs) == 8
    worker.close()
