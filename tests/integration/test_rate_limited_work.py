"""Workers, searches and `status` keep to the one rate limit of a provider's account: at a real Redis."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping

import pytest
import redis
from pydantic import SecretStr

from reindexer.core.errors import RateLimited
from reindexer.core.lanes import Lane
from reindexer.core.source import CONTEXT_ITEMS
from reindexer.postgres.connect import Connection
from reindexer.queue.drain import drain
from reindexer.settings import Settings
from reindexer.testing.provider import Call, FakeProvider, Reply, error
from reindexer.testing.proxy import Mode, Proxy
from reindexer.testing.waiting import eventually
from reindexer.wiring import query_embedder_of
from reindexer.wiring import worker as make_worker
from reindexer.worker.worker import Worker
from tests.support.commands import Done
from tests.support.flow import idle, insert, status, work
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes

BURST_S = 6
"""How far an edit may be ahead of the rate: redis_rate_limiter.lua."""


def test_the_key_stands_nowhere_in_redis_in_clear(
    db: Connection, worker: Worker, provider: FakeProvider, redis_url: str
) -> None:
    provider.behave = limited_first(provider)
    item_id = insert(db, "text")
    drain(db)
    eventually(lambda: worker.run_lane(Lane.LIVE, budget_s=0) and status(db, item_id) == ("COMPLETED", None))
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        (key,) = client.keys("reindexer:budget:*")
        held = str(client.hgetall(key)) + key
        assert client.ttl(key) > 0
    assert not any(word in held for word in ("sk-test-key", "127.0.0.1", "text"))


def state_of(db: Connection, item_id: str) -> str | None:
    found = status(db, item_id)
    return found and found[0]


def limited_first(provider: FakeProvider, **headers: str) -> Callable[[Call], Reply | None]:
    """The first request gets a 429."""
    return lambda call: error(429, "rate_limit_exceeded", headers) if len(provider.calls) == 1 else None


@pytest.fixture
def another(settings: Settings, index: IndexReader) -> Iterator[Callable[..., Worker]]:
    """Makes workers as other processes have them, some settings changed."""
    made: list[Worker] = []

    def make(**changed: object) -> Worker:
        made.append(make_worker(settings.model_copy(update=changed), None))
        return made[-1]

    yield make
    for worker in made:
        worker.close()


def test_the_other_worker_and_searches_honour_a_retry_after_that_they_did_not_hear(
    db: Connection, worker: Worker, another: Callable[..., Worker], settings: Settings, provider: FakeProvider
) -> None:
    other = another()
    provider.behave = limited_first(provider, **{"retry-after": "3"})
    first = insert(db, "first")
    work(db, worker)
    assert state_of(db, first) == "PENDING"
    second = insert(db, "second")
    drain(db)
    assert other.run_lane(Lane.LIVE, budget_s=0) == 0
    assert state_of(db, second) == "PENDING"
    with pytest.raises(RateLimited) as refused:
        query_embedder_of(settings)(CONTEXT_ITEMS).embed(["query"], timeout_s=5)
    assert refused.value.retry_after_s is not None
    assert len(provider.calls) == 1, "nobody asked"
    eventually(lambda: other.run_lane(Lane.LIVE, budget_s=0.2) is not None and idle(db), within=20)
    assert provider.calls[1].at - provider.calls[0].at >= 3
    assert db.execute("SELECT DISTINCT attempts FROM reindexer.ledger").fetchall() == [(1,)], "no attempt is burnt"


def test_an_edit_is_embedded_while_backfills_wait_for_their_turn(
    db: Connection, another: Callable[..., Worker], provider: FakeProvider
) -> None:
    worker = another(requests_per_minute=20, batch_size=1)
    for number in range(20):
        insert(db, f"row {number}")
    drain(db)
    db.execute("UPDATE reindexer.due SET lane = 'bulk'")
    eventually(lambda: worker.run_lane(Lane.BULK, budget_s=0) == 1, within=10)
    assert worker.run_lane(Lane.BULK) == 0, "its reservation is three seconds away"
    looked_at = tokens(db)
    assert len(looked_at) == 19, "all have been looked at"
    db.execute("UPDATE reindexer.due SET not_before = now()")  # as after edits that were given the turns in between
    for _ in range(6):
        assert worker.run_lane(Lane.BULK, budget_s=0) == 0
    edit = insert(db, "edit")
    drain(db)
    assert worker.run_lane(Lane.LIVE, budget_s=0) == 1
    assert status(db, edit) == ("COMPLETED", None)
    assert len(provider.calls) == 2
    assert sum(tokens(db).get(item, 0) != token for item, token in looked_at.items()) <= 3, (
        "not again and again in vain"
    )
    eventually(lambda: worker.run_lane(Lane.BULK, budget_s=0) == 1, within=30)
    assert provider.calls[2].at - provider.calls[1].at > 2, "the backfill pays for the edit"


def tokens(db: Connection) -> dict[str, int]:
    """Of each item that is due, the number of its last claim."""
    return dict(db.execute("SELECT item_id, token FROM reindexer.due WHERE token IS NOT NULL").fetchall())


@pytest.mark.long
def test_an_item_of_many_requests_waits_for_all_its_turns_in_one_claim(
    db: Connection, another: Callable[..., Worker], provider: FakeProvider
) -> None:
    worker = another(requests_per_minute=50, embedding_max_inputs=1)
    db.execute("UPDATE reindexer.generation SET definition = definition || '{\"chunk_tokens\": 40}'")
    item = insert(db, " ".join(f"word{number}" for number in range(60)))
    drain(db)
    assert worker.run_lane(Lane.LIVE, budget_s=0) == 1
    assert status(db, item) == ("COMPLETED", None)
    assert len(provider.inputs) == len(set(provider.inputs)) > 5, "each chunk was asked for once"


@pytest.mark.alone
@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.CUT, Mode.STALL])
def test_a_redis_that_is_away_stops_no_work(
    db: Connection, another: Callable[..., Worker], redis_url: str, mode: Mode
) -> None:
    with Proxy.before(redis_url) as proxy:
        worker = another(redis_url=SecretStr(proxy.instead(redis_url)), requests_per_minute=6)
        embedded_within_s(db, worker, "with Redis")
        proxy.mode = mode
        for number in range(4):
            assert embedded_within_s(db, worker, f"without, {number}") < 1.5, "not even at the rate that was set"
        proxy.mode = Mode.PASS


def embedded_within_s(db: Connection, worker: Worker, text: str) -> float:
    item = insert(db, text)
    drain(db)
    began = time.monotonic()
    assert worker.run_lane(Lane.LIVE, budget_s=0) == 1
    assert status(db, item) == ("COMPLETED", None)
    return time.monotonic() - began


@pytest.mark.timeout(120)
@pytest.mark.long
def test_two_worker_processes_keep_one_cap_together(
    db: Connection, processes: Processes, env: Mapping[str, str], provider: FakeProvider
) -> None:
    """A busy machine can hold up a request that had its turn, so those of two seconds can arrive in one. None arrives
    before its turn: what is compared is how many have arrived since the first row."""
    setting = {"REINDEXER_REQUESTS_PER_MINUTE": "300", "REINDEXER_BATCH_SIZE": "1"}
    processes.listener(**setting)
    for _ in range(2):
        processes.worker(pool="threads", concurrency=2, **setting)
    began = time.monotonic()
    for number in range(60):
        insert(db, f"row {number}")
    eventually(lambda: len(provider.inputs) >= 60 and idle(db), within=60)
    times = sorted(call.at for call in provider.calls)
    assert len(times) == 60
    for arrived, at in enumerate(times, start=1):
        assert arrived <= BURST_S * 5 + (at - began) * 5 + 1, "a burst, then five a second"


def test_status_tells_the_rate_limit_of_each_source(
    db: Connection, another: Callable[..., Worker], env: Mapping[str, str], here: Callable[..., Done]
) -> None:
    insert(db, "text")
    work(db, another(requests_per_minute=120))
    shown = json.loads(here("status", "--json", env={**env, "REINDEXER_REQUESTS_PER_MINUTE": "120"}).stdout)
    told = shown["rate_limit"]["context_items"]
    assert (told["requests_per_minute"], told["requests_limit"], told["tokens_limit"]) == (120, 120, None)
    without = json.loads(here("status", "--json", env={**env, "REDIS_URL": "redis://127.0.0.1:1/0"}).stdout)
    assert without["rate_limit"] == {}
