"""`/metrics`: every number is there, and it is the right one."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import httpx
import httpx2
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from api.main import create_app
from reindexer.backfills import runs
from reindexer.backfills.pager import walk_page
from reindexer.budgets import set_budget
from reindexer.core.items import point_id
from reindexer.core.lanes import Lane
from reindexer.core.source import CONTEXT_ITEMS
from reindexer.core.text.tokens import estimate_tokens
from reindexer.events import receivers
from reindexer.monitoring import heartbeat
from reindexer.monitoring.metrics import AT_RUN_TIME, CLAIMS, CLAIMS_EXPIRED, FORMER_NAMES, METRICS, PAID_FOR
from reindexer.monitoring.metrics_store import SLOTS, Counters, read, write
from reindexer.postgres.connect import Connection, Postgres, connect
from reindexer.queue.claim import claim_batch
from reindexer.queue.drain import drain
from reindexer.settings import Settings
from reindexer.sources.pause import set_paused
from reindexer.sources.store import find_source, set_problem
from reindexer.testing.provider import FakeProvider, error
from reindexer.testing.proxy import Mode, Proxy
from reindexer.testing.waiting import eventually, somebody_waits_for_a_lock
from reindexer.worker.worker import Worker
from tests.support.flow import idle, insert, work
from tests.support.in_fork import forked
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes

Numbers = Mapping[str, float]
"""`name{label=value,…}` with sorted labels to value."""


@pytest.fixture
def client(settings: Settings, index: IndexReader) -> Iterator[TestClient]:
    with TestClient(create_app(settings)) as client:
        yield client


def numbers(answer: httpx.Response | httpx2.Response) -> Numbers:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        f"{sample.name}{{{','.join(f'{k}={v}' for k, v in sorted(sample.labels.items()))}}}".removesuffix(
            "{}"
        ): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def differences(before: Numbers, after: Numbers, *names: str) -> Numbers:
    """What grew of these metrics."""
    return {
        key: value - before.get(key, 0)
        for key, value in after.items()
        if key.partition("{")[0] in names and value != before.get(key, 0)
    }


def test_every_metric_is_told_with_its_type_and_labels_and_no_other_is(client: TestClient, db: Connection) -> None:
    for role in get_args(heartbeat.Role):
        heartbeat.beat(db, role, f"test@{role}")
    of_sources = [each for each in METRICS.values() if each.kind == "counter" and not all(each.labels.values())]
    write(db, {(each.name, json.dumps(dict.fromkeys(sorted(each.labels), "x"))): 1.0 for each in of_sources})
    for purpose in PAID_FOR:
        db.execute(
            "INSERT INTO reindexer.spend (day, source, account, model, purpose)"
            " VALUES ((clock_timestamp() AT TIME ZONE 'UTC')::date, 'x', 'x', 'x', %s)",
            [purpose],
        )
    set_budget(db, who="test", kind="indexing", period="day", usd=5.0)
    receivers.add(db, "x", who="test", identity="x", url=None, sources=["context_items"])
    families = list(text_string_to_metric_families(client.get("/metrics").text))
    told = {family.name + ("_total" if family.type == "counter" else ""): family for family in families}
    assert told.keys() == METRICS.keys() | set(FORMER_NAMES.values())
    for name, metric in METRICS.items():
        family = told[name]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        for label, values in metric.labels.items():
            found = {sample.labels[label] for sample in family.samples}
            assert found == set(values) if values != AT_RUN_TIME else found, (name, label)
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == metric.labels.keys()


def test_a_metric_is_told_under_its_former_name_and_what_was_counted_under_it_is_not_lost(
    client: TestClient, db: Connection
) -> None:
    write(db, {(CLAIMS_EXPIRED, "{}"): 2.0})
    db.execute("UPDATE reindexer.counter SET name = %s WHERE name = %s", [FORMER_NAMES[CLAIMS_EXPIRED], CLAIMS_EXPIRED])
    write(db, {(CLAIMS_EXPIRED, "{}"): 3.0})
    told = numbers(client.get("/metrics"))
    assert told[CLAIMS_EXPIRED] == told[FORMER_NAMES[CLAIMS_EXPIRED]] >= 5


def test_what_becomes_of_items_is_counted_by_outcome(
    client: TestClient, db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    before = numbers(client.get("/metrics"))
    ids = [insert(db, f"text {n}") for n in range(6)]
    work(db, worker)
    db.execute("UPDATE context_items SET metadata = '[1]' WHERE id = %s", [ids[0]])
    db.execute("UPDATE context_items SET content = 'other' WHERE id = %s", [ids[1]])
    db.execute("UPDATE context_items SET content = 'text 1' WHERE id = %s", [ids[1]])
    db.execute("UPDATE context_items SET content = ' ' WHERE id = %s", [ids[2]])
    db.execute("DELETE FROM context_items WHERE id = %s", [ids[3]])
    db.execute("UPDATE context_items SET content = 'refused' WHERE id = %s", [ids[4]])
    provider.behave = lambda call: error(400) if "refused" in call.inputs else None
    work(db, worker)
    worker.counters.write()
    grown = differences(before, fresh(client), "reindexer_items_settled_total", "reindexer_freshness_seconds_count")
    assert grown == {
        "reindexer_items_settled_total{lane=live,outcome=embedded}": 6,
        "reindexer_items_settled_total{lane=live,outcome=payload}": 1,
        "reindexer_items_settled_total{lane=live,outcome=skipped}": 1,
        "reindexer_items_settled_total{lane=live,outcome=blank}": 1,
        "reindexer_items_settled_total{lane=live,outcome=deleted}": 1,
        "reindexer_items_settled_total{lane=live,outcome=failed}": 1,
        "reindexer_freshness_seconds_count{lane=live}": 9,
    }


def fresh(client: TestClient) -> Numbers:
    """Numbers that nobody has asked for before: answers are shared for a second."""
    client.app.state.parts.__dict__.pop("scrape").close()  # type: ignore[attr-defined]
    return numbers(client.get("/metrics"))


def test_freshness_is_the_time_from_commit_to_settled_and_a_backfill_has_none(
    client: TestClient, db: Connection, worker: Worker
) -> None:
    insert(db, "text")
    db.execute("UPDATE reindexer.outbox SET changed_at = changed_at - interval '45 s'")
    work(db, worker)
    runs.start(db, find_source(db, "context_items"), who="test", force=True)
    while walk_page(db, lambda name, _: find_source(db, name)):
        pass
    assert worker.run_lane(Lane.BULK, budget_s=0) == 1
    worker.counters.write()
    now = numbers(client.get("/metrics"))
    assert now["reindexer_freshness_seconds_bucket{lane=live,le=30.0}"] == 0
    assert now["reindexer_freshness_seconds_bucket{lane=live,le=60.0}"] == 1
    assert now["reindexer_freshness_seconds_bucket{lane=live,le=+Inf}"] == 1
    assert 45 <= now["reindexer_freshness_seconds_sum{lane=live}"] < 60
    assert now["reindexer_items_settled_total{lane=bulk,outcome=embedded}"] == 1
    assert now["reindexer_freshness_seconds_count{lane=bulk}"] == 0


def test_requests_to_the_provider_are_counted_by_their_answer_and_retries_by_their_cause(
    client: TestClient, db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    answers = iter([error(429, headers={"Retry-After": "0.25"}), error(503), None])
    provider.behave = lambda call: next(answers)
    insert(db, "some text")
    drain(db)
    eventually(lambda: worker.run_lane(Lane.LIVE, budget_s=0))
    provider.behave = lambda call: None
    assert client.post("/search", json={"query": "text"}, headers={"X-API-Key": "test-admin-key"}).status_code == 200
    worker.counters.write()
    client.app.state.parts.counters.write()  # type: ignore[attr-defined]
    now = numbers(client.get("/metrics"))
    requests = {key: value for key, value in now.items() if key.startswith("reindexer_provider_requests") and value}
    assert requests == {
        "reindexer_provider_requests_total{outcome=ok,purpose=items}": 1,
        "reindexer_provider_requests_total{outcome=rate_limited,purpose=items}": 1,
        "reindexer_provider_requests_total{outcome=error,purpose=items}": 1,
        "reindexer_provider_requests_total{outcome=ok,purpose=queries}": 1,
    }
    assert now["reindexer_provider_wait_seconds_total"] == 0.25
    assert now["reindexer_provider_inputs_total{purpose=items}"] == 1
    assert now["reindexer_provider_tokens_total{purpose=items}"] == len("some text") // 4 + 1
    of_source = "{embedder=" + worker.embedder_of(CONTEXT_ITEMS).fingerprint + ",source=context_items}"
    assert now[f"reindexer_source_inputs_total{of_source}"] == 1
    assert now[f"reindexer_source_tokens_total{of_source}"] == len("some text") // 4 + 1
    assert now[f"reindexer_source_estimated_tokens_total{of_source}"] == estimate_tokens("some text")
    assert now["reindexer_provider_request_seconds_count{purpose=items}"] == 3
    retries = {key: value for key, value in now.items() if key.startswith("reindexer_retries") and value}
    assert retries == {"reindexer_retries_total{cause=rate_limited}": 1, "reindexer_retries_total{cause=error}": 1}
    assert now["reindexer_claims_total{lane=live}"] == 3


def test_a_lost_claim_and_a_refused_write_are_counted(
    client: TestClient, db: Connection, worker: Worker, index: IndexReader
) -> None:
    item_id = insert(db, "text")
    work(db, worker)
    index.client.set_payload(
        "context_items", {"version": 2**52}, [point_id("context_items", item_id, 0)], key="_reindexer", wait=True
    )
    db.execute("UPDATE context_items SET content = 'newer'")
    drain(db)
    assert claim_batch(db, Lane.LIVE, 10, 60)
    db.execute("UPDATE reindexer.due SET lease_until = now() - interval '1 s', not_before = now()")
    eventually(lambda: worker.run_lane(Lane.LIVE, budget_s=0))
    worker.counters.write()
    now = numbers(client.get("/metrics"))
    assert now["reindexer_claims_expired_total"] == 1
    assert now["reindexer_writes_refused_total"] == now["reindexer_retries_total{cause=fenced}"] == 1


def test_gauges_tell_what_waits_and_how_everything_stands(client: TestClient, db: Connection) -> None:
    for n in range(3):
        insert(db, f"text {n}")
    drain(db)
    assert claim_batch(db, Lane.LIVE, 1, 60)
    db.execute(
        "UPDATE reindexer.due SET not_before = now() + interval '1 h' WHERE ctid = (SELECT ctid FROM reindexer.due WHERE lease_until IS NULL LIMIT 1)"
    )
    insert(db, "in the outbox")
    db.execute("UPDATE reindexer.outbox SET changed_at = changed_at - interval '1 hour'")
    db.execute(
        """
        INSERT INTO reindexer.ledger (source, item_id, generation, outcome, token, heal_at)
        VALUES ('context_items', 'a', 1, 'FAILED', 1, NULL), ('context_items', 'b', 1, 'FAILED', 1, now()),
               ('context_items', 'c', 1, 'COMPLETED', 1, NULL), ('context_items', 'd', 1, 'DELETED', 1, NULL)
        """
    )
    db.execute(
        "INSERT INTO reindexer.breaker (dependency, failures, reason, opened_at) VALUES ('provider', 3, 'x', now()), ('qdrant', 1, 'x', NULL)"
    )
    db.execute("ALTER TABLE context_items DISABLE TRIGGER USER")
    set_paused(db, None, paused=True, who="test")
    set_problem(db, "context_items", 1, "no right")
    heartbeat.beat(db, "worker", "one@host")
    heartbeat.beat(db, "worker", "two@host")
    db.execute("UPDATE reindexer.process SET beat_at = beat_at - interval '100 s' WHERE name = 'two@host'")
    runs.start(db, find_source(db, "context_items"), who="test")
    now = numbers(client.get("/metrics"))
    wanted = {
        "reindexer_up": 1,
        "reindexer_dependency_up{dependency=broker}": 1,
        "reindexer_dependency_up{dependency=qdrant}": 1,
        "reindexer_broker_messages{lane=live}": 0,
        "reindexer_outbox_changes": 1,
        "reindexer_due_items{lane=live,source=context_items,state=ready}": 1,
        "reindexer_due_items{lane=live,source=context_items,state=waiting}": 1,
        "reindexer_due_items{lane=live,source=context_items,state=claimed}": 1,
        "reindexer_due_items{lane=bulk,source=context_items,state=ready}": 0,
        "reindexer_failed_items{source=context_items}": 1,
        "reindexer_healing_items{source=context_items}": 1,
        "reindexer_completed_items{source=context_items}": 1,
        "reindexer_breaker_open{dependency=provider}": 1,
        "reindexer_breaker_open{dependency=qdrant}": 0,
        "reindexer_source_triggers{source=context_items,state=disabled}": 1,
        "reindexer_source_triggers{source=context_items,state=ok}": 0,
        "reindexer_source_paused{source=context_items}": 1,
        "reindexer_source_problem{source=context_items}": 1,
        "reindexer_listener_state{state=absent}": 1,
        "reindexer_listener_state{state=awake}": 0,
        "reindexer_processes{role=worker,state=beating}": 1,
        "reindexer_processes{role=worker,state=silent}": 1,
        "reindexer_processes{role=listener,state=beating}": 0,
        "reindexer_open_runs{kind=backfill}": 1,
        "reindexer_open_runs{kind=first_fill}": 0,
    }
    assert {key: now[key] for key in wanted} == wanted
    assert 3600 <= now["reindexer_oldest_change_age_seconds{place=outbox}"] < 3660
    assert 0 < now["reindexer_oldest_change_age_seconds{place=live}"] < 60
    assert 0 <= now["reindexer_heartbeat_age_seconds{role=worker}"] < 60
    assert "reindexer_heartbeat_age_seconds{role=listener}" not in now


@pytest.mark.alone
@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.STALL], ids=lambda mode: mode.value)
def test_with_postgres_away_the_rest_is_told_soon(
    settings: Settings, database: str, index: IndexReader, mode: Mode
) -> None:
    with Proxy.before(_url(database)) as proxy:
        away = settings.model_copy(update={"database_url": type(settings.database_url)(proxy.instead(_url(database)))})  # type: ignore[misc]
        with TestClient(create_app(away)) as client:
            assert numbers(client.get("/metrics"))["reindexer_up"] == 1
            proxy.mode = mode
            started = time.monotonic()
            eventually(lambda: numbers(client.get("/metrics"))["reindexer_up"] == 0, within=15, every=0.2)
            started = time.monotonic()
            now = numbers(client.get("/metrics"))
            assert time.monotonic() - started < 3
            assert now["reindexer_up"] == 0
            assert (
                now["reindexer_dependency_up{dependency=broker}"]
                == now["reindexer_dependency_up{dependency=qdrant}"]
                == 1
            )
            assert not any(key.startswith(("reindexer_due", "reindexer_items", "reindexer_oldest")) for key in now)
            proxy.mode = Mode.PASS
            eventually(lambda: numbers(client.get("/metrics"))["reindexer_up"] == 1, within=15, every=0.2)


def test_what_took_long_to_count_is_not_shown_once_postgres_is_away(
    settings: Settings, database: str, db: Connection, index: IndexReader
) -> None:
    """It is kept for as long as it was dear; whether it still holds is not known then."""
    insert(db, "text")
    drain(db)
    with Proxy.before(_url(database)) as proxy:
        away = settings.model_copy(update={"database_url": SecretStr(proxy.instead(_url(database)))})
        with TestClient(create_app(away)) as client, ThreadPoolExecutor(1) as asking:
            with connect(database, application_name="slows down") as slow, slow.transaction():
                slow.execute("LOCK TABLE reindexer.due")
                scraped = asking.submit(lambda: numbers(client.get("/metrics")))
                eventually(lambda: somebody_waits_for_a_lock(db))
                time.sleep(1)  # how long the count takes, and a twentieth of how long it is kept
            assert scraped.result()["reindexer_due_items{lane=live,source=context_items,state=ready}"] == 1
            proxy.mode = Mode.REFUSE
            eventually(lambda: numbers(client.get("/metrics"))["reindexer_up"] == 0, within=15, every=0.2)
            now = numbers(client.get("/metrics"))
            assert not any(key.startswith(("reindexer_due", "reindexer_oldest")) for key in now)


def _url(database: str) -> str:
    from psycopg.conninfo import conninfo_to_dict

    parts: dict[str, Any] = conninfo_to_dict(database)
    return f"postgresql://{parts['user']}@{parts['host']}:{parts['port']}/{parts['dbname']}"


def test_metrics_are_open_unless_a_setting_asks_for_the_key(settings: Settings, index: IndexReader) -> None:
    with TestClient(create_app(settings)) as client:
        assert client.get("/metrics").status_code == 200
    with TestClient(create_app(settings.model_copy(update={"metrics_open": False}))) as client:
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", headers={"Authorization": "Bearer test-admin-key"}).status_code == 200


@pytest.mark.long
def test_what_could_not_be_written_is_written_when_postgres_is_back(database: str, db: Connection) -> None:
    with Proxy.before(_url(database)) as proxy:
        postgres = Postgres(proxy.instead(_url(database)), application_name="test")
        counters = Counters(postgres)
        counters.add(CLAIMS, 2, lane="live")
        proxy.mode = Mode.REFUSE
        counters.write()
        proxy.mode = Mode.PASS
        counters.add(CLAIMS, lane="live")
        db.execute("ALTER TABLE reindexer.counter RENAME TO elsewhere")
        counters.write()
        db.execute("ALTER TABLE reindexer.elsewhere RENAME TO counter")
        assert read(db) == {}
        counters.close()
        postgres.close()
    assert read(db) == {(CLAIMS, '{"lane": "live"}'): 3}


def test_counts_are_written_by_themselves_and_by_many_processes_at_once(database: str, db: Connection) -> None:
    pools = [Postgres(database, application_name="test") for _ in range(4)]
    every = [Counters(pool) for pool in pools]
    for counters in every:
        counters.add(CLAIMS, lane="live")
    eventually(lambda: read(db).get((CLAIMS, '{"lane": "live"}')) == 4, within=20)
    for _ in range(SLOTS + 1):
        every[0].add(CLAIMS, lane="live")
        every[0].write()
    assert read(db) == {(CLAIMS, '{"lane": "live"}'): 4 + SLOTS + 1}
    for counters, pool in zip(every, pools, strict=True):
        counters.close()
        pool.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no forks")
def test_a_process_forked_while_its_parent_writes_counts_writes_its_own(database: str, db: Connection) -> None:
    postgres = Postgres(database, application_name="test")
    counters = Counters(postgres)
    counters.add(CLAIMS, 2, lane="live")
    writing = threading.Thread(target=counters.write)

    def count() -> None:
        counters.add(CLAIMS, lane="live")
        counters.write()

    with db.transaction():
        db.execute("LOCK TABLE reindexer.counter")
        writing.start()
        with connect(database, application_name="test") as other:
            eventually(lambda: somebody_waits_for_a_lock(other))
        written = forked(count)
    assert written() == "None"
    writing.join(30)
    counters.close()
    postgres.close()
    assert read(db) == {(CLAIMS, '{"lane": "live"}'): 3}


@pytest.mark.parametrize("pool", ["prefork", "threads"])
@pytest.mark.first(1)
def test_all_processes_counts_are_in_every_apis_answer_and_a_clean_end_loses_none(
    db: Connection, processes: Processes, settings: Settings, index: IndexReader, pool: str
) -> None:
    listener, worker = processes.listener(), processes.worker(pool=pool)
    for n in range(5):
        insert(db, f"text {n}")
    eventually(lambda: idle(db), within=30)
    for child in (worker, listener):
        processes.children.stop(child)
    for _ in range(2):
        with TestClient(create_app(settings)) as client:
            now = numbers(client.get("/metrics"))
        assert now["reindexer_items_settled_total{lane=live,outcome=embedded}"] == 5
        assert now["reindexer_freshness_seconds_count{lane=live}"] == 5
        assert now["reindexer_provider_inputs_total{purpose=items}"] == 5
        assert now["reindexer_changes_drained_total"] == 5


def test_a_reconnect_of_the_listener_is_counted(db: Connection, processes: Processes, servers: object) -> None:
    listener = processes.listener()
    db.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reindexer listener' AND datname = current_database()"
    )
    eventually(lambda: listener.log.read_text().count("leadership_acquired") == 2, within=20)
    processes.children.stop(listener)
    assert read(db)["reindexer_listener_reconnects_total", "{}"] == 1


def test_readyz_tells_of_work_that_nobody_takes_though_workers_beat(
    client: TestClient, db: Connection, worker: Worker
) -> None:
    def work_check() -> str:
        body = client.get("/readyz").json()
        return str(body["checks"]["work"])

    insert(db, "text")
    insert(db, "other")
    drain(db)
    heartbeat.beat(db, "worker", "one@host")
    assert work_check() == "ok"
    db.execute("UPDATE reindexer.due SET not_before = now() - interval '75 s'")
    assert re.match(r"for (7[5-9]|8\d) s there has been work that nobody takes", work_check())
    set_paused(db, None, paused=True, who="test")
    assert work_check() == "ok"
    set_paused(db, None, paused=False, who="test")
    assert claim_batch(db, Lane.LIVE, 1, 60)
    assert work_check() == "ok", "somebody has claimed one of the two"
    db.execute("UPDATE reindexer.due SET lease_until = now() - interval '75 s', not_before = now() - interval '75 s'")
    assert re.match(r"for (7[5-9]|8\d) s ", work_check())
    worker.counters.add("reindexer_retries_total", cause="error")
    worker.counters.write()
    assert work_check() == "ok", "somebody is at work"
