"""Events: receivers are told what became of items, at least once, in order, and by no copy of the database."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest

from reindexer import budgets
from reindexer.adapters.webhook import HttpWebhooks
from reindexer.backfills.runs import start as backfill
from reindexer.core.errors import UsageError
from reindexer.core.event import Bounds, SendingRules
from reindexer.core.lanes import Lane
from reindexer.core.retry import RetryPolicy
from reindexer.events import outbox, receivers
from reindexer.events.receivers import Receiver as Known
from reindexer.generations.promotion import Terms, promote
from reindexer.index.forget import forget
from reindexer.index.ownership import identity
from reindexer.listener.sender import Sender
from reindexer.monitoring.buffer import MetricsBuffer
from reindexer.monitoring.metrics import EVENTS_SENT
from reindexer.postgres.connect import Connection, connect
from reindexer.queue.drain import drain
from reindexer.settings import Settings
from reindexer.sources.detach import detach
from reindexer.sources.store import find_source
from reindexer.testing.provider import FakeProvider, refuse_texts
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.flow import insert, work
from tests.support.generations import SOON, fill_first, made, settle
from tests.support.receiver import Message, Receiver, Reply

SOURCE = "context_items"
RULES = SendingRules(Bounds(100_000, 86_400), RetryPolicy(base_s=0.05, max_s=0.5), timeout_s=1.0)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@contextmanager
def receiving() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.close()


Sending = Callable[..., Sender]


@pytest.fixture
def sending(database: str) -> Sending:
    """What the leading listener has, in this process."""

    def connected() -> Connection:
        return connect(database, application_name="reindexer events")

    def begin(rules: SendingRules = RULES, metrics: MetricsBuffer | None = None) -> Sender:
        return Sender(connected, HttpWebhooks(), rules, MetricsBuffer() if metrics is None else metrics, random.random)

    return begin


def add(db: Connection, receiver: Receiver | None, *types: str, name: str = "hook") -> None:
    url = receiver.url if receiver else None
    made = receivers.add(db, name, who="test", identity=identity(db, None), url=url, sources=[SOURCE], types=types)
    if receiver is not None:
        assert made.secret is not None
        receiver.secret = made.secret


def known(db: Connection, name: str = "hook") -> Known:
    (found,) = [each for each in receivers.all_receivers(db) if each.name == name]
    return found


def all_taken(db: Connection, name: str = "hook") -> None:
    eventually(lambda: known(db, name).waiting == 0, within=20)


def events(db: Connection) -> list[tuple[str, str]]:
    return db.execute("SELECT id, type FROM reindexer.event ORDER BY number").fetchall()


def edit(db: Connection, item_id: str, content: str) -> None:
    db.execute("UPDATE context_items SET content = %s WHERE id::text = %s", [content, item_id])


def look_again(db: Connection, item_id: str) -> None:
    db.execute(
        "INSERT INTO reindexer.due (source, item_id, generation, lane) VALUES (%s, %s, 1, 'live')", [SOURCE, item_id]
    )


def test_an_item_that_becomes_searchable_is_told_without_its_text_and_the_reference_verifies_it(
    db: Connection, worker: Worker, receiver: Receiver, sending: Sending
) -> None:
    add(db, receiver)
    with sending():
        item_id = insert(db, "the first text")
        work(db, worker)
        all_taken(db)
    (message,) = receiver.taken
    assert message.type == "item.searchable"
    assert message.data == {"source": SOURCE, "item_id": item_id, "generation": 1, "version": message.data["version"]}
    assert not receiver.refused
    assert b"first" not in message.body


def test_what_is_told_is_an_items_last_outcome_and_nothing_where_nothing_changed(
    db: Connection, worker: Worker, receiver: Receiver, provider: FakeProvider
) -> None:
    add(db, receiver)
    item_id = insert(db, "text")
    work(db, worker)
    assert events(db) == [(item_id, "item.searchable")]
    edit(db, item_id, "")
    work(db, worker)
    assert events(db) == [(item_id, "item.deleted")]
    db.execute("TRUNCATE reindexer.event")
    look_again(db, item_id)
    work(db, worker)
    assert events(db) == []
    provider.behave = refuse_texts
    edit(db, item_id, "refused")
    work(db, worker)
    assert events(db) == [(item_id, "item.failed")]
    db.execute("TRUNCATE reindexer.event")
    edit(db, item_id, "refused once more, for the same reason")
    work(db, worker)
    assert events(db) == []
    provider.behave = lambda _: None
    edit(db, item_id, "taken")
    work(db, worker)
    assert events(db) == [(item_id, "item.searchable")]
    db.execute("TRUNCATE reindexer.event")
    look_again(db, item_id)
    work(db, worker)
    assert events(db) == []
    db.execute("DELETE FROM context_items WHERE id::text = %s", [item_id])
    work(db, worker)
    assert events(db) == [(item_id, "item.deleted")]


def test_an_item_that_failed_and_went_is_told_as_deleted(
    db: Connection, worker: Worker, receiver: Receiver, provider: FakeProvider
) -> None:
    add(db, receiver)
    provider.behave = refuse_texts
    item_id = insert(db, "refused")
    work(db, worker)
    (reason,) = db.execute("SELECT details ->> 'reason' FROM reindexer.event").fetchone() or ("",)
    assert reason == db.execute("SELECT error FROM reindexer.item_status").fetchone()[0]  # type: ignore[index]
    db.execute("DELETE FROM context_items")
    work(db, worker)
    assert events(db) == [(item_id, "item.deleted")]


def test_only_who_asks_for_a_source_and_a_type_is_told(db: Connection, worker: Worker, receiver: Receiver) -> None:
    add(db, receiver, "item.deleted")
    item_id = insert(db, "text")
    work(db, worker)
    assert events(db) == []
    db.execute("UPDATE reindexer.event_receiver SET sources = '{other}'")
    db.execute("DELETE FROM context_items")
    work(db, worker)
    assert events(db) == []
    db.execute("UPDATE reindexer.event_receiver SET sources = %s", [[SOURCE]])
    item_id = insert(db, "text")
    work(db, worker)
    db.execute("DELETE FROM context_items")
    work(db, worker)
    assert events(db) == [(item_id, "item.deleted")]


def test_only_the_generation_that_searches_use_is_told_of(db: Connection, worker: Worker, receiver: Receiver) -> None:
    add(db, receiver)
    db.execute("UPDATE reindexer.source SET generation = 2")
    insert(db, "text")
    db.execute("UPDATE reindexer.source SET generation = 1")
    db.execute("INSERT INTO reindexer.generation SELECT (jsonb_populate_record(generation, jsonb_build_object("
               "'number', 2, 'state', 'standby', 'standby_until', now() + interval '1 h'))).* FROM reindexer.generation")  # fmt: skip
    work(db, worker)
    assert db.execute("SELECT array_agg(generation ORDER BY generation) FROM reindexer.ledger").fetchone() == ([1, 2],)
    assert db.execute("SELECT array_agg(generation) FROM reindexer.event").fetchone() == ([1],)


def test_while_an_event_is_in_flight_a_later_one_of_the_item_waits_and_is_not_lost(
    db: Connection, worker: Worker, receiver: Receiver, sending: Sending
) -> None:
    add(db, receiver)
    item_id = insert(db, "text")
    may_answer = threading.Event()

    def wait(message: Message) -> Reply:
        may_answer.wait(5)
        return Reply()

    receiver.plan = wait
    work(db, worker)
    with sending(replace(RULES, timeout_s=8.0)):
        eventually(lambda: receiver.asked, within=10)
        edit(db, item_id, "another text")
        work(db, worker)
        db.execute("DELETE FROM context_items")
        work(db, worker)
        time.sleep(0.6)  # three looks of the sender
        assert len(receiver.asked) == 1
        may_answer.set()
        all_taken(db)
    assert receiver.types() == ["item.searchable", "item.deleted"]
    assert not receiver.disorder()


def test_a_webhook_that_is_not_taken_comes_again_with_its_id_and_holds_no_other_item_up(
    db: Connection, worker: Worker, receiver: Receiver, sending: Sending
) -> None:
    add(db, receiver)
    refused, *others = [insert(db, f"text {n}") for n in range(10)]
    may_pass = threading.Event()
    receiver.plan = lambda message: Reply(204 if message.item != refused or may_pass.is_set() else 500)
    work(db, worker)
    with sending():
        eventually(lambda: {*others} <= {*receiver.last()}, within=10)
        eventually(lambda: len([each for each in receiver.asked if each.item == refused]) > 2, within=10)
        may_pass.set()
        all_taken(db)
    tries = [each for each in receiver.asked if each.item == refused]
    assert len({each.headers["webhook-id"] for each in tries}) == 1
    assert len({each.headers["webhook-id"] for each in receiver.asked}) == 10
    assert receiver.most_at_once <= 8


def test_a_receiver_that_is_away_holds_no_other_up_and_gets_all_when_it_is_back(
    db: Connection, worker: Worker, receiver: Receiver, sending: Sending
) -> None:
    add(db, receiver)
    with receiving() as other, sending():
        add(db, other, name="other")
        with receiver.away():
            items = {insert(db, f"text {n}") for n in range(30)}
            work(db, worker)
            all_taken(db, "other")
            eventually(lambda: known(db).problem, within=10)
            assert known(db).waiting == 30
        all_taken(db)
        eventually(lambda: known(db).problem is None)
    assert {*other.last()} == {*receiver.last()} == items


def test_an_event_that_alone_is_not_taken_holds_no_later_one_up(
    db: Connection, worker: Worker, receiver: Receiver, sending: Sending
) -> None:
    add(db, receiver)
    refused = insert(db, "text")
    work(db, worker)
    receiver.plan = lambda message: Reply(500 if message.item == refused else 204)
    with sending():
        eventually(lambda: known(db).failures > 1, within=10)
        later = insert(db, "later")
        work(db, worker)
        eventually(lambda: later in receiver.last(), within=5)
        receiver.plan = lambda _: Reply()
        all_taken(db)


@pytest.mark.long
def test_a_receiver_that_is_back_is_sent_at_once_what_it_did_not_take(
    db: Connection, worker: Worker, receiver: Receiver, sending: Sending
) -> None:
    add(db, receiver)
    for n in range(12):
        insert(db, f"text {n}")
    work(db, worker)
    with sending(), receiver.away():
        eventually(lambda: known(db).failures > 2, within=10)
    db.execute("UPDATE reindexer.event SET not_before = now() + interval '1 h'")
    db.execute("UPDATE reindexer.event SET not_before = now() WHERE number = (SELECT min(number) FROM reindexer.event)")
    db.execute("UPDATE reindexer.event_receiver SET next_try_at = now()")
    with sending():
        all_taken(db)


def test_a_kept_connection_that_was_closed_is_made_again_at_once(
    db: Connection, worker: Worker, receiver: Receiver, sending: Sending
) -> None:
    add(db, receiver)
    counted = MetricsBuffer()
    with sending(metrics=counted):
        insert(db, "text")
        work(db, worker)
        all_taken(db)
        with receiver.away():
            pass
        receiver.plan = lambda _: Reply(wait_s=0.05)
        for n in range(24):  # for each of its threads, of which one has the connection
            insert(db, f"text {n}")
        work(db, worker)
        all_taken(db)
    assert {name for name, _ in counted.take()} == {EVENTS_SENT}


@pytest.mark.parametrize("plan", [Reply(wait_s=3.0), Reply(dies=True), Reply(302), Reply(404)], ids=repr)
@pytest.mark.first(2)
def test_an_answer_that_is_late_or_no_success_is_not_taken_for_one(
    db: Connection, worker: Worker, receiver: Receiver, sending: Sending, plan: Reply
) -> None:
    add(db, receiver)
    insert(db, "text")
    work(db, worker)
    receiver.plan = lambda _: plan
    with sending():
        eventually(lambda: known(db).failures > 0, within=10)
        assert known(db).waiting == 1
        receiver.plan = lambda _: Reply()
        all_taken(db)


def test_an_answer_whose_body_never_ends_is_one_and_holds_nothing_up(
    db: Connection, worker: Worker, receiver: Receiver, sending: Sending
) -> None:
    add(db, receiver)
    insert(db, "text")
    work(db, worker)
    receiver.plan = lambda _: Reply(200, drip_s=0.5)  # for 50 s
    with sending():
        all_taken(db)
    assert len(receiver.asked) == 1


def test_a_receiver_that_asks_to_wait_is_left_alone_for_so_long(
    db: Connection, worker: Worker, receiver: Receiver, sending: Sending
) -> None:
    add(db, receiver)
    insert(db, "text 0")
    work(db, worker)
    receiver.plan = lambda message: Reply(429, {"Retry-After": "2"}) if len(receiver.asked) == 1 else Reply()
    with sending():
        eventually(lambda: known(db).problem, within=10)
        for n in range(1, 4):
            insert(db, f"text {n}")
        work(db, worker)
        all_taken(db)
    first, *later = [each.at for each in receiver.asked]
    assert len(later) == 4
    assert min(later) - first >= 1.9


def test_a_receiver_that_is_gone_is_told_nothing_any_more(
    db: Connection, worker: Worker, receiver: Receiver, sending: Sending
) -> None:
    add(db, receiver)
    insert(db, "text")
    work(db, worker)
    receiver.plan = lambda _: Reply(410)
    with sending():
        eventually(lambda: known(db).state == "off", within=10)
        assert "410" in str(known(db).problem)
        insert(db, "another")
        work(db, worker)
        all_taken(db)
    assert len(receiver.asked) == 1


def test_what_waits_for_a_receiver_that_is_no_more_goes(db: Connection, worker: Worker, sending: Sending) -> None:
    add(db, None, name="app")
    insert(db, "text")
    work(db, worker)
    db.execute("UPDATE reindexer.event SET receiver = 'removed just now'")
    with sending():
        eventually(lambda: events(db) == [], within=10)


def test_more_than_may_wait_becomes_a_resync_and_what_comes_later_follows_it(
    db: Connection, worker: Worker, receiver: Receiver, sending: Sending
) -> None:
    add(db, receiver)
    for n in range(12):
        insert(db, f"text {n}")
    work(db, worker)
    with sending(replace(RULES, bounds=Bounds(10, 86_400))), receiver.away():
        eventually(lambda: events(db) == [("", "resync")], within=10)
        later = insert(db, "later")
        work(db, worker)
        receiver.open()
        all_taken(db)
        receiver.die()
    assert receiver.types() == ["resync", "item.searchable"]
    assert receiver.taken[0].data["sources"] == [SOURCE]
    assert receiver.taken[1].item == later


def test_while_a_resync_waits_nothing_else_is_sent(db: Connection, worker: Worker, receiver: Receiver) -> None:
    add(db, receiver)
    for n in range(3):
        insert(db, f"text {n}")
    work(db, worker)
    assert outbox.keep_bounded(db, Bounds(2, 60)).keys() == {"hook"}
    insert(db, "later")
    work(db, worker)

    def taken() -> list[str]:
        found = outbox.take(db, "hook", sender="me", identity=str(identity(db, None)), lease_s=5, most=10)
        return [each.type for each in found.events] if found else []

    assert taken() == ["resync"]
    db.execute("UPDATE reindexer.event SET not_before = now() + interval '1 h' WHERE type = 'resync'")
    assert outbox.ready(db, []) == taken() == []
    db.execute("DELETE FROM reindexer.event WHERE type = 'resync'")
    assert taken() == ["item.searchable"]


def test_what_waits_for_too_long_becomes_a_resync(
    db: Connection, worker: Worker, receiver: Receiver, sending: Sending
) -> None:
    add(db, receiver)
    insert(db, "text")
    work(db, worker)
    db.execute("UPDATE reindexer.event SET at = now() - interval '90 s'")
    with sending(replace(RULES, bounds=Bounds(10, 60))):
        all_taken(db)
    assert "resync" in receiver.types()


@pytest.mark.long
def test_of_two_senders_one_sends_until_its_lease_is_over(
    db: Connection, worker: Worker, receiver: Receiver, sending: Sending
) -> None:
    add(db, receiver)
    receiver.plan = lambda _: Reply(wait_s=0.05)
    items = {insert(db, f"text {n}") for n in range(40)}
    work(db, worker)
    with sending(), sending():
        all_taken(db)
    assert len(receiver.asked) == 40
    assert {*receiver.last()} == items
    db.execute("UPDATE reindexer.event_receiver SET leased_by = 'one that died', leased_until = now() + interval '2 s'")
    insert(db, "text")
    work(db, worker)
    with sending():
        time.sleep(0.6)
        assert len(receiver.asked) == 40
        all_taken(db)


def test_a_copy_sends_nothing_until_it_is_adopted(
    db: Connection, worker: Worker, receiver: Receiver, sending: Sending
) -> None:
    add(db, receiver)
    insert(db, "text")
    work(db, worker)
    db.execute("UPDATE reindexer.spender SET identity = 'another database'")
    with sending():
        eventually(lambda: known(db).problem, within=10)
        assert "reindexer adopt" in str(known(db).problem)
        time.sleep(0.6)
        assert not receiver.asked
        db.execute("UPDATE reindexer.spender SET identity = %s", [identity(db, None)])
        all_taken(db)
        assert known(db).problem is None


def test_nobody_takes_events_of_a_copy(db: Connection, worker: Worker, receiver: Receiver) -> None:
    add(db, receiver)
    insert(db, "text")
    work(db, worker)
    ours = str(identity(db, None))
    assert outbox.take(db, "hook", sender="me", identity=f"not {ours}", lease_s=5, most=10) is None
    assert outbox.take(db, "hook", sender="me", identity=ours, lease_s=5, most=10) is not None


def test_whoever_adds_a_receiver_writes_down_which_database_this_is(db: Connection, receiver: Receiver) -> None:
    assert budgets.spender(db) is None
    add(db, receiver)
    assert budgets.spender(db) == identity(db, None)


def test_the_secret_before_signs_as_well_for_a_while(
    db: Connection, worker: Worker, receiver: Receiver, sending: Sending
) -> None:
    add(db, receiver)
    receivers.rotate(db, "hook", who="test", keep_s=60)
    insert(db, "text")
    work(db, worker)
    with sending():
        all_taken(db)
        assert not receiver.refused
        new = receivers.rotate(db, "hook", who="test", keep_s=0).secret
        insert(db, "text")
        work(db, worker)
        all_taken(db)
        assert receiver.refused  # it knows the first one
        receiver.secret, receiver.refused = str(new), []
        insert(db, "text")
        work(db, worker)
        all_taken(db)
    assert not receiver.refused


def test_a_receiver_is_added_only_if_it_can_be_told(db: Connection, receiver: Receiver) -> None:
    def refused(**given: object) -> str:
        fit: dict[str, object] = {"identity": "x", "url": receiver.url, "sources": [SOURCE], "types": []}
        with pytest.raises(UsageError) as why:
            receivers.add(db, "hook", who="test", **(fit | given))  # type: ignore[arg-type]
        return str(why.value)

    for url in (
        "ftp://host/",
        "https:///path",
        "no url",
        "http://user:password@host/",
        "http://höst/",
        "http://a:99999/",
    ):
        assert "--url" in refused(url=url)
        assert "password@" not in refused(url=url)
    assert "item.gone" in refused(types=["item.gone"])
    assert "nothing" in refused(sources=["nothing"])
    assert "--source" in refused(sources=[])
    assert "REINDEXER_INSTANCE" in refused(identity=None)
    assert receivers.all_receivers(db) == []
    add(db, receiver)
    assert "already" in refused()


def test_by_notify_a_receiver_is_told_to_look_and_acknowledges_what_has_not_changed(
    db: Connection, database: str, worker: Worker, sending: Sending
) -> None:
    add(db, None, name="app")
    item_id = insert(db, "text")
    with psycopg.connect(database, autocommit=True) as listening, sending():
        listening.execute("LISTEN reindexer_events")
        work(db, worker)
        (told,) = list(listening.notifies(timeout=10, stop_after=1))
        assert told.payload == "app"
        ((number, kind, _, data),) = db.execute("SELECT * FROM reindexer.waiting_events('app', 10)").fetchall()
        assert (kind, data["item_id"], data["generation"]) == ("item.searchable", item_id, 1)
        edit(db, item_id, "another text")
        work(db, worker)
        assert db.execute("SELECT reindexer.acknowledge_events('app', ARRAY[%s])", [number]).fetchone() == (0,)
        (told,) = list(listening.notifies(timeout=10, stop_after=1))
        ((later, *_),) = db.execute("SELECT * FROM reindexer.waiting_events('app')").fetchall()
        assert later > number
        assert db.execute("SELECT reindexer.acknowledge_events('app', ARRAY[%s, %s])", [number, later]).fetchone() == (
            1,
        )
        assert known(db, "app").waiting == 0


def test_the_end_of_a_run_and_a_generation_that_is_ready_are_told(
    db: Connection, settings: Settings, worker: Worker, receiver: Receiver, sending: Sending
) -> None:
    fill_first(db, worker)
    add(db, receiver)
    run = backfill(db, find_source(db, SOURCE), who="test")
    settle(db, worker)
    made(db, settings, worker)
    settle(db, worker)
    with sending():
        all_taken(db)
    told = [(each.type, {**each.data, "version": 0}) for each in receiver.taken if not each.item]
    rebuilt = max(each["run_id"] for _, each in told if "run_id" in each)
    assert sorted(told, key=str) == [
        ("generation.ready", {"source": SOURCE, "generation": 2, "version": 0}),
        ("run.finished", {"source": SOURCE, "generation": 1, "run_id": run.id, "kind": "backfill", "version": 0}),
        ("run.finished", {"source": SOURCE, "generation": 2, "run_id": rebuilt, "kind": "rebuild", "version": 0}),
    ]
    assert rebuilt > run.id


def test_a_promotion_tells_of_the_items_whose_outcome_is_another_and_of_no_other(
    db: Connection, settings: Settings, worker: Worker, receiver: Receiver
) -> None:
    fill_first(db, worker)
    made(db, settings, worker)
    settle(db, worker)
    add(db, receiver)
    same, searchable, failed, gone = (row[0] for row in db.execute("SELECT id::text FROM context_items ORDER BY title"))
    db.execute(
        "UPDATE reindexer.ledger SET outcome = 'FAILED', error = 'why' WHERE generation = 1 AND item_id = %s",
        [searchable],
    )
    db.execute(
        "UPDATE reindexer.ledger SET outcome = 'FAILED', error = 'why' WHERE generation = 2 AND item_id = %s", [failed]
    )
    db.execute(
        "UPDATE reindexer.ledger SET outcome = 'DELETED', chunks = 0 WHERE generation = 2 AND item_id = %s", [gone]
    )
    promote(db, SOURCE, who="test", terms=Terms(patience_s=5, accept_failed=True))
    assert sorted(events(db)) == sorted(
        [(searchable, "item.searchable"), (failed, "item.failed"), (gone, "item.deleted")]
    )
    assert same not in dict(events(db))


def test_an_edit_that_only_the_next_generation_has_got_is_told_when_searches_use_it(
    db: Connection, settings: Settings, worker: Worker, receiver: Receiver
) -> None:
    fill_first(db, worker)
    made(db, settings, worker)
    settle(db, worker)
    add(db, receiver)
    (item_id,) = db.execute("SELECT id::text FROM context_items LIMIT 1").fetchone() or ("",)
    edit(db, item_id, "edited just before")
    drain(db)
    db.execute("UPDATE reindexer.due SET not_before = now() + interval '1 h', lane = 'live' WHERE generation = 1")
    for lane in Lane:
        worker.run_lane(lane, budget_s=5)
    assert db.execute("SELECT array_agg(generation) FROM reindexer.due").fetchone() == ([1],)
    assert events(db) == []
    promote(db, SOURCE, who="test", terms=SOON)
    assert events(db) == [(item_id, "item.searchable")]


def test_whoever_was_told_of_an_item_is_told_that_it_is_forgotten_and_then_nothing_names_it(
    db: Connection, settings: Settings, worker: Worker, receiver: Receiver, sending: Sending
) -> None:
    add(db, receiver)
    add(db, None, "item.searchable", name="app")
    item_id = insert(db, "text")
    work(db, worker)
    db.execute("ALTER TABLE context_items DISABLE TRIGGER USER")
    db.execute("DELETE FROM context_items")
    forget(db, worker.index, SOURCE, item_id, who="test", policy=settings.retry_policy, lease_s=settings.lease_s)
    assert db.execute("SELECT receiver, type FROM reindexer.event").fetchall() == [("hook", "item.deleted")]
    with sending():
        all_taken(db)
    assert receiver.last()[item_id].type == "item.deleted"


def test_a_source_that_is_detached_is_told_of_no_more(db: Connection, worker: Worker, receiver: Receiver) -> None:
    add(db, receiver)
    insert(db, "text")
    work(db, worker)
    detach(db, find_source(db, SOURCE), who="test", lease_s=1)
    assert events(db) == []
