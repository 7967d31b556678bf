"""A provider that refuses everything, and one that fails on one text: neither is the other texts' fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from reindexer.core.errors import SourceError
from reindexer.core.lanes import Lane
from reindexer.monitoring.status import status as state_of_everything
from reindexer.postgres.connect import Connection
from reindexer.queue import requests
from reindexer.queue.breaker import open_breakers
from reindexer.queue.drain import drain
from reindexer.testing.provider import DIMENSIONS, Call, FakeProvider, Reply, error, vector_of
from reindexer.testing.waiting import eventually
from reindexer.worker.execution import WorkLimits
from reindexer.worker.worker import Worker
from tests.support.flow import insert, status, work
from tests.support.index_reader import IndexReader
from tests.support.outages import attempts_by_item


def problem(db: Connection) -> str | None:
    return state_of_everything(db).sources["context_items"].problem


def look_again(db: Connection, worker: Worker) -> None:
    """As if all waits were over; a process takes a provider that refuses everything to refuse it for a moment still."""
    db.execute("UPDATE reindexer.due SET not_before = clock_timestamp() WHERE lease_until IS NULL")
    eventually(lambda: worker.refusals.last("context_items") is None)
    work(db, worker)


REFUSALS: dict[str, tuple[Callable[[Call], Reply], str]] = {
    "other dimensions": (
        lambda call: Reply(200, {"data": [{"index": n, "embedding": [0.5] * 8} for n in range(len(call.inputs))]}),
        "the provider answers 8 dimensions, REINDEXER_EMBEDDING_DIMENSIONS says 32",
    ),
    "401": (
        lambda call: error(401, "invalid_api_key"),
        "the embedding provider answered 401 (invalid_api_key): "
        "check OPENAI_API_KEY, OPENAI_BASE_URL and REINDEXER_EMBEDDING_MODEL",
    ),
    "403": (
        lambda call: error(403, "forbidden"),
        "the embedding provider answered 403 (forbidden): "
        "check OPENAI_API_KEY, OPENAI_BASE_URL and REINDEXER_EMBEDDING_MODEL",
    ),
    "404": (
        lambda call: error(404, "model_not_found"),
        "the embedding provider answered 404 (model_not_found): "
        "check OPENAI_API_KEY, OPENAI_BASE_URL and REINDEXER_EMBEDDING_MODEL",
    ),
    "400": (
        lambda call: error(400, "invalid_argument"),  # what Gemini says of a wrong key
        "the embedding provider answered 400 (invalid_argument): "
        "check OPENAI_API_KEY, OPENAI_BASE_URL and REINDEXER_EMBEDDING_MODEL",
    ),
}


@pytest.mark.parametrize(("refuses", "reason"), REFUSALS.values(), ids=REFUSALS.keys())
@pytest.mark.first(2)
def test_a_refusal_of_everything_is_the_sources_problem_and_its_items_wait_and_follow_when_it_is_over(
    db: Connection,
    worker: Worker,
    index: IndexReader,
    provider: FakeProvider,
    refuses: Callable[[Call], Reply],
    reason: str,
) -> None:
    before_id = insert(db, "before")
    work(db, worker)
    provider.behave = refuses
    ids = {insert(db, f"text {n}"): f"text {n}" for n in range(300)}
    asked = len(provider.calls)
    work(db, worker)
    assert sum(len(call.inputs) > 1 for call in provider.calls[asked:]) <= 2, "of two claims"
    assert {status(db, each) for each in ids} == {("PENDING", reason)}
    assert set(attempts_by_item(db)) == {0}, "no try is used"
    assert problem(db) == reason
    db.execute("DELETE FROM context_items WHERE id = %s", [before_id])
    work(db, worker)
    assert index.count() == 0, "a deletion needs no provider"
    assert problem(db) == reason, "and says nothing of it"
    assert open_breakers(db) == [], "it answers"
    provider.behave = lambda call: None
    look_again(db, worker)
    assert all(index.holds(item_id, vector_of(text)) for item_id, text in list(ids.items())[::30])
    assert index.count() == len(ids)
    assert problem(db) is None


def test_a_payload_that_changes_with_its_text_does_not_wait_for_a_key(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    item_id = insert(db, "text", "before")
    work(db, worker)
    provider.behave = lambda call: error(401, "invalid_api_key")
    db.execute("UPDATE context_items SET title = 'after', content = 'other' WHERE id = %s", [item_id])
    work(db, worker)
    assert (index.payload(item_id) or {})["title"] == "after"
    assert index.holds(item_id, vector_of("before\ntext")), "beside the old vector"
    provider.behave = lambda call: None
    look_again(db, worker)
    assert index.holds(item_id, vector_of("after\nother"))


def test_many_claims_of_a_provider_that_refuses_everything_cost_one_question(
    db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    provider.behave = lambda call: error(401, "invalid_api_key")
    worker.limits = WorkLimits(batch_size=10)
    for n in range(100):
        insert(db, f"text {n}")
    work(db, worker)
    assert [len(call.inputs) for call in provider.calls] == [10, 1], "one request, and a harmless one"


def test_a_request_whose_provider_refuses_everything_is_told_the_setting_and_succeeds_when_it_is_mended(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    provider.behave = lambda call: error(401, "invalid_api_key")
    item_id = insert(db, "text")
    drain(db)
    requests.record(db, "context_items", [requests.ReindexRequest("request", item_id)], lane=Lane.BULK, sent=True)
    worker.run_item("context_items", item_id)
    told = requests.task_state(db, "request")
    assert told is not None
    assert told.state == "RETRY"
    assert "401 (invalid_api_key): check OPENAI_API_KEY" in str(told.waits_for)
    provider.behave = lambda call: None
    look_again(db, worker)
    told = requests.task_state(db, "request")
    assert told is not None
    assert told.state == "SUCCESS"


def test_the_synchronous_call_tells_the_setting_at_once(
    db: Connection, index: IndexReader, provider: FakeProvider, embed_here: Callable[..., None]
) -> None:
    item_id = insert(db, "text")
    provider.behave = lambda call: error(401, "invalid_api_key")
    with pytest.raises(SourceError, match=r"401 \(invalid_api_key\): check OPENAI_API_KEY.*done when that is mended"):
        embed_here(item_id, timeout_s=60)


def test_readyz_tells_a_source_whose_provider_refuses_everything(
    db: Connection, worker: Worker, provider: FakeProvider, readyz_source: Callable[[], str]
) -> None:
    assert readyz_source() == "ok"
    provider.behave = lambda call: error(401, "invalid_api_key")
    insert(db, "text")
    work(db, worker)
    assert readyz_source() == "context_items: its items wait; see `reindexer status`"
    provider.behave = lambda call: None
    look_again(db, worker)
    assert readyz_source() == "ok"


def one_vector(vector: list[float]) -> Callable[[FakeProvider, Call], Reply | None]:
    """That vector for the bad text, the right one for each other."""

    def answer(provider: FakeProvider, call: Call) -> Reply:
        body = dict(provider.vectors(call).body)
        data = [
            {**each, "embedding": vector} if "whitepaper" in text else each
            for each, text in zip(body["data"], call.inputs, strict=True)
        ]
        return Reply(200, {**body, "data": data})

    return answer


def for_bad(reply: Reply) -> Callable[[FakeProvider, Call], Reply | None]:
    """That answer to each request that holds the bad text."""
    return lambda _, call: reply if any("whitepaper" in text for text in call.inputs) else None


BAD: dict[str, Callable[[FakeProvider, Call], Reply | None]] = {
    "an empty vector": one_vector([]),
    "a vector of zeros": one_vector([0.0] * DIMENSIONS),
    "another length": one_vector([0.5] * 8),
    "403 of a firewall": for_bad(Reply(403, b"<html>Request blocked</html>")),
    "424": for_bad(Reply(424, {"error": "Inference failed", "error_type": "backend"})),
    "500": for_bad(error(500)),
    "502, as the server behind it dies": for_bad(error(502)),
    "a cut, as the server dies": for_bad(Reply(200, cut_at=0)),
    "an HTML page": for_bad(Reply(200, b"<html>Welcome to the gateway</html>")),
    "one vector less": lambda provider, call: (
        Reply(200, {"data": provider.vectors(call).body["data"][1:]})
        if any("whitepaper" in text for text in call.inputs)
        else None
    ),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
@pytest.mark.first(2)
def test_one_text_on_which_the_provider_fails_in_whatever_way_fails_alone(
    db: Connection,
    worker: Worker,
    index: IndexReader,
    provider: FakeProvider,
    bad: Callable[[FakeProvider, Call], Reply | None],
) -> None:
    provider.behave = lambda call: bad(provider, call)
    ids = {insert(db, text): text for text in (f"text {n}" for n in range(60))}
    bad_id = insert(db, "a whitepaper")
    eventually(lambda: work(db, worker) + 1 and not attempts_by_item(db), within=20)
    assert all(index.holds(item_id, vector_of(text)) for item_id, text in ids.items())
    assert db.execute(
        "SELECT count(*) FROM reindexer.ledger WHERE outcome = 'COMPLETED' AND attempts > 2"
    ).fetchone() == (0,)
    failed = status(db, bad_id)
    assert failed is not None
    assert failed[0] == "FAILED"
    assert problem(db) is None


def test_a_provider_that_fails_on_everything_is_not_searched_for_a_bad_text(
    db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    provider.behave = lambda call: error(500)
    worker.policy = replace(worker.policy, base_s=60.0)  # nothing is tried again but as said below
    for n in range(50):
        insert(db, f"text {n}")
    for _ in range(4):
        db.execute("UPDATE reindexer.due SET not_before = clock_timestamp() WHERE lease_until IS NULL")
        work(db, worker)
    assert len(provider.calls) <= 8, "one request a try, and a harmless one for each but the first"
