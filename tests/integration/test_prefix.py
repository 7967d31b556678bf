"""One prefix for all that is ours in the broker: other applications there, and other databases, lose nothing by us."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import psycopg
import pytest
import redis
from celery import Celery

from reindexer.adapters.broker.celery_broker import OWNER_HEADER, REQUEST_TASK, WORK_TASK, CeleryBroker, make_celery
from reindexer.core.broker_url import BrokerUrl
from reindexer.core.errors import PrefixTaken, UsageError
from reindexer.core.lanes import LANES, Lane
from reindexer.core.queues import OLD_QUEUES, Names
from reindexer.index.ownership import identity, require_prefix
from reindexer.postgres.connect import Connection, connect
from reindexer.testing.processes import api_command, log_of
from reindexer.testing.provider import FakeProvider, vector_of
from reindexer.testing.waiting import eventually
from tests.support.applications import application
from tests.support.commands import Done
from tests.support.flow import insert, status
from tests.support.forks import forked_python
from tests.support.index_reader import IndexReader
from tests.support.processes import ROOT, Processes
from tests.support.servers import Servers, database_url

FOREIGN = ("live", "bulk", "celery")
"""Queues that an application may have as well."""


@contextmanager
def another_database(servers: Servers, template: str) -> Iterator[str]:
    name = f"rx_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(servers.database_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        try:
            yield database_url(servers, name)
        finally:
            admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def sending(url: str, prefix: str = "reindexer") -> CeleryBroker:
    names = Names(prefix)
    return CeleryBroker(make_celery(BrokerUrl(url), None, result_expires_s=60, names=names), names)


def foreign_tasks(url: str) -> Celery:
    """An application with tasks of its own in queues of these names, which its workers will take later."""
    theirs = Celery("theirs", broker=url)
    for queue in FOREIGN:
        for n in range(3):
            theirs.send_task("theirs.tasks.send_invoice", (n, "reindexer.tasks."), queue=queue)
    return theirs


def held(client: redis.Redis) -> dict[str, list[bytes]]:
    return {queue: client.lrange(queue, 0, -1) for queue in FOREIGN}  # type: ignore[misc]


def test_another_applications_tasks_in_queues_of_any_name_stay_as_they_are_and_ours_among_them_are_taken_over(
    db: Connection, processes: Processes, index: IndexReader, provider: FakeProvider, redis_url: str
) -> None:
    """Ours: what an older version and applications that it served have left in its queues, and what an application sent
    without naming a queue."""
    ids = {queue: insert(db, f"text of {queue}") for queue in FOREIGN}
    db.execute("DELETE FROM reindexer.outbox")
    with redis.Redis.from_url(redis_url) as client:
        foreign_tasks(redis_url)
        theirs = held(client)
        app = application(redis_url)
        sent = {queue: app.send_task(REQUEST_TASK, (ids[queue],), queue=queue) for queue in OLD_QUEUES}
        sent["celery"] = app.send_task(REQUEST_TASK, (ids["celery"],))
        for lane in LANES:
            Celery("older", broker=redis_url).send_task(WORK_TASK, (lane,), queue=lane)
        foreign_tasks(redis_url)
        theirs = {queue: held(client)[queue][:3] + theirs[queue] for queue in FOREIGN}
        worker = processes.worker(pool="solo", concurrency=1)
        for queue, task in sent.items():
            assert task.get(timeout=20) == ids[queue]
            assert index.holds(ids[queue], vector_of(f"text of {queue}"))
        assert held(client) == theirs
    said = [line for line in log_of(worker).splitlines() if "request_redirected" in line]
    assert len(said) == 3
    assert all("queue=reindexer.bulk" in line for line in said)


def test_every_key_in_redis_carries_the_prefix(
    db: Connection, processes: Processes, index: IndexReader, redis_url: str, env: Mapping[str, str]
) -> None:
    processes.env["REINDEXER_PREFIX"] = "shop"
    processes.listener()
    processes.worker(pool="solo", concurrency=1)
    item_id = insert(db, "text")
    eventually(lambda: status(db, item_id) == ("COMPLETED", None))
    app = application(redis_url, prefix="shop")
    assert app.send_task(REQUEST_TASK, (item_id,), queue="shop.bulk").get(timeout=20) == item_id
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        keys = set(client.scan_iter())
    assert {"shop.database", "shop:budget:"} <= {key[: len("shop:budget:")] for key in keys} | keys
    assert [key for key in keys if key.startswith("shop.celery-task-meta-")]
    kombus = {"_kombu.binding_deadlines"}  # all programs' on that Redis, and each entry names its own
    assert [key for key in keys - kombus if "shop" not in key] == []


PROCESSES = {
    "listen": ["reindexer.listen"],
    "worker": ["celery", "-A", "reindexer.celery_app", "worker", "-Q", "reindexer.live,reindexer.bulk"],
    "api": api_command(1)[2:],
}


@pytest.mark.parametrize("process", PROCESSES)
def test_a_second_database_is_refused_at_the_start_with_one_line_and_let_in_under_a_prefix_of_its_own(
    db: Connection, servers: Servers, template: str, env: Mapping[str, str], process: str
) -> None:
    broker = sending(env["CELERY_BROKER_URL"])
    require_prefix(db, broker, None)
    with another_database(servers, template) as second:
        done = subprocess.run(
            [*forked_python(), *PROCESSES[process]],
            env={**env, "DATABASE_URL": second},
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 2
        lines = [line for line in done.stderr.splitlines() if line.startswith("reindexer ")]
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith(f"reindexer {process}: in this broker REINDEXER_PREFIX=reindexer is used by another")
        assert "Traceback" not in done.stderr
        with connect(second, application_name="test") as other:
            require_prefix(other, sending(env["CELERY_BROKER_URL"], "second"), None)
    broker.close()


def test_a_dropped_database_holds_no_prefix(db: Connection, servers: Servers, template: str, redis_url: str) -> None:
    with another_database(servers, template) as second, connect(second, application_name="test") as other:
        require_prefix(other, sending(redis_url), None)
        with pytest.raises(UsageError, match="is used by another database"):
            require_prefix(db, sending(redis_url), None)
    require_prefix(db, sending(redis_url), None)


def test_who_sends_notes_the_database_anew_after_a_flush_and_sends_nothing_once_another_was_faster(
    db: Connection, redis_url: str
) -> None:
    broker, other = sending(redis_url), sending(redis_url)
    require_prefix(db, broker, "first")
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        client.flushall()
        broker.close()
        broker.send_work(Lane.LIVE, 1)
        assert client.get("reindexer.database") == "first"
        client.flushall()
        assert other.hold("second") == "second"
        broker.close()
        with pytest.raises(PrefixTaken, match="second"):
            broker.send_work(Lane.LIVE, 1)
        assert client.llen("reindexer.live") == 0


def test_a_message_about_another_databases_work_is_dropped_and_told_and_its_own_is_sent_again(
    db: Connection, processes: Processes, index: IndexReader, provider: FakeProvider, redis_url: str
) -> None:
    ours, task_id, item_id = identity(db, None), str(uuid.uuid4()), insert(db, "text")
    db.execute("DELETE FROM reindexer.outbox")
    app = Celery("other database", broker=redis_url)
    headers = {OWNER_HEADER: "7000000000000000000/5"}
    app.send_task(WORK_TASK, ("live",), queue="reindexer.live", headers=headers)
    app.send_task(REQUEST_TASK, (item_id,), queue="reindexer.bulk", task_id=task_id, headers=headers)
    worker = processes.worker(pool="solo", concurrency=1)
    with redis.Redis.from_url(redis_url) as client:
        eventually(lambda: client.llen("reindexer.live") + client.llen("reindexer.bulk") == 0, within=20)
    eventually(lambda: "foreign_message_dropped" in log_of(worker))
    assert f"ours={ours}" in log_of(worker)
    assert "7000000000000000000/5" in log_of(worker)
    assert provider.calls == []
    assert db.execute("SELECT count(*) FROM reindexer.request").fetchone() == (0,)
    db.execute("UPDATE context_items SET content = 'edited'")
    processes.listener()
    eventually(lambda: index.holds(item_id, vector_of("edited")))


def test_what_a_worker_holds_is_noted_under_the_prefix(redis_url: str) -> None:
    """Celery's worker gives back after an hour whatever is noted there, also what another application holds longer."""
    app = make_celery(BrokerUrl(redis_url), None, result_expires_s=60)
    with app.connection_for_read() as connection, redis.Redis.from_url(redis_url, decode_responses=True) as client:
        queue = app.amqp.queues["reindexer.live"](connection.default_channel)
        app.send_task(WORK_TASK, ("live",), queue="reindexer.live")
        message = queue.get()
        assert message is not None
        assert {"reindexer.unacked", "reindexer.unacked_index"} <= set(client.scan_iter())
        assert client.exists("unacked", "unacked_index") == 0
        message.ack()
    app.close()


def test_a_database_that_took_anothers_place_adopts_its_prefix(
    db: Connection, env: Mapping[str, str], here: Callable[..., Done]
) -> None:
    with redis.Redis.from_url(env["CELERY_BROKER_URL"], decode_responses=True) as client:
        client.set("reindexer.database", "the one before")
        adopted = here("adopt", "--json", env=env)
        assert (adopted.returncode, adopted.stderr) == (0, "")
        assert json.loads(adopted.stdout)["broker"].endswith("no longer by the one before")
        assert client.get("reindexer.database") == identity(db, None)
    assert "already" in json.loads(here("adopt", "--json", env=env).stdout)["broker"]


def test_adopt_with_a_broker_that_does_not_answer_tells_what_it_did_and_that_the_queues_are_left(
    db: Connection, env: Mapping[str, str], here: Callable[..., Done]
) -> None:
    adopted = here("adopt", "--json", env={**env, "CELERY_BROKER_URL": "redis://127.0.0.1:9/0"})
    assert (adopted.returncode, adopted.stderr.count("\n")) == (1, 1)
    assert "the broker does not answer" in adopted.stderr
    assert "queues are not adopted" in adopted.stderr
    assert "context_items" in json.loads(adopted.stdout)
    assert here("adopt", "--json", env=env).returncode == 0


def test_a_worker_command_names_the_queues_itself_and_one_of_an_older_unit_finds_them(
    db: Connection, processes: Processes, index: IndexReader
) -> None:
    processes.env["REINDEXER_PREFIX"] = "shop"
    processes.listener()
    ours = processes.children.start(
        "ours", [*forked_python(), "reindexer", "worker", "-c", "1", "--lanes", "live", "-n", "ours@%h"],
        env=processes.env, cwd=ROOT,
    )  # fmt: skip
    older = processes.children.start(
        "older", [*forked_python(), "celery", "-A", "reindexer.celery_app", "worker", "-Q", "bulk", "-P", "solo"],
        env=processes.env, cwd=ROOT,
    )  # fmt: skip
    for child, queue in ((ours, "shop.live"), (older, "shop.bulk")):
        eventually(lambda: " ready." in log_of(child), within=30)  # noqa: B023
        assert f".> {queue} " in log_of(child)
        assert log_of(child).count(".> shop.") == 1
    item_id = insert(db, "text")
    eventually(lambda: index.holds(item_id, vector_of("text")))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["reindexer", "worker", "--lanes", "live,bluk"], "reindexer: --lanes: 'bluk' is none of live, bulk"),
        (
            ["celery", "-A", "reindexer.celery_app", "worker", "-Q", "live,default"],
            "reindexer worker: -Q: there is no queue 'default'; there are reindexer.live, reindexer.bulk",
        ),
    ],
)
def test_a_queue_that_is_not_ours_is_refused_in_one_line(
    env: Mapping[str, str], command: list[str], words: str
) -> None:
    done = subprocess.run(
        [*forked_python(), *command], env=dict(env), cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == words
    assert "Traceback" not in done.stderr


def test_a_prefix_that_no_broker_could_take_is_refused(here: object, env: Mapping[str, str]) -> None:
    from reindexer.settings import Settings

    with pytest.raises(ValueError, match="letters, digits"):
        Settings.model_validate({"prefix": "a,b"})
