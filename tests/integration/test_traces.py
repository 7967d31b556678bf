"""Traces: from a request of an application to the point, as a collector gets them; and that nobody waits for one."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider

from reindexer.backfills import runs
from reindexer.backfills.fan_out import fan_out
from reindexer.backfills.pager import walk_page
from reindexer.core.lanes import Lane
from reindexer.core.related import Link, Related
from reindexer.core.source import CONTEXT_ITEMS, Source
from reindexer.embedded.children import Child, Children, free_port
from reindexer.listener.traced import tell_drain
from reindexer.postgres.connect import Connection
from reindexer.queue import marks
from reindexer.queue.claim import claim_batch
from reindexer.queue.drain import drain
from reindexer.queue.settle import Finished, finish
from reindexer.sources.attach import attach
from reindexer.sources.store import find_source
from reindexer.testing.processes import log_of
from reindexer.testing.provider import FakeProvider, error
from reindexer.testing.waiting import eventually
from reindexer.tracing import process
from reindexer.worker.worker import Worker
from tests.support.collector import Collector, Span, collecting
from tests.support.flow import Flow, insert, work
from tests.support.index_reader import IndexReader
from tests.support.processes import ROOT, Processes

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
OTHER = "0af7651916cd43dd8448eb211c80319c"
PARTS = ["claim", "read", "embed", "upsert", "settle"]


def parent(trace_id: str = TRACE, flags: str = "01") -> str:
    return f"00-{trace_id}-{SPAN}-{flags}"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture
def here(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """The collector of this process's traces."""
    process.close()
    for name, value in collector.env.items():
        monkeypatch.setenv(name, value)
    yield collector
    process.close()


def written(db: Connection, traceparent: str | None, *texts: str) -> list[str]:
    """A transaction that is marked in a trace and inserts these texts."""
    with db.transaction():
        db.execute("SELECT reindexer.mark(%s)", [traceparent])
        return [insert(db, each) for each in texts]


def told(collector: Collector) -> list[Span]:
    """All that this process has recorded."""
    process.close()
    return collector.spans()


SHOP = """
import os, sys

import django
from django.conf import settings
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.django import DjangoInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from psycopg.conninfo import conninfo_to_dict
from wsgiref.simple_server import make_server

place = conninfo_to_dict(os.environ["DATABASE_URL"])
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": place.pop("dbname"), "OPTIONS": place}},
    INSTALLED_APPS=["reindexer.django", "tests.support.django_shop"], ROOT_URLCONF=__name__, USE_TZ=True,
    ALLOWED_HOSTS=["*"], DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
DjangoInstrumentor().instrument()
django.setup()

from django.core.wsgi import get_wsgi_application
from django.db import transaction
from django.http import HttpResponse
from django.urls import path

from reindexer.django import marked
from tests.support.django_shop.models import Product


def save(request):
    with transaction.atomic(), marked() as mark:
        product = Product.objects.create(name=request.GET["name"])
    return HttpResponse(f"{product.id} {mark.token}")


urlpatterns = [path("save", save)]
make_server("127.0.0.1", int(sys.argv[1]), get_wsgi_application()).serve_forever()
"""


def test_one_trace_leads_from_a_django_request_to_the_point(
    db: Connection,
    env: Mapping[str, str],
    processes: Processes,
    collector: Collector,
    index: IndexReader,
    tmp_path: Path,
) -> None:
    db.execute("CREATE TABLE django_shop_product (id bigserial PRIMARY KEY, name text, price numeric NOT NULL)")
    attach(db, Source("products", "public", "django_shop_product", ("id",), ("name",)))
    processes.listener(**collector.env)
    processes.worker(pool="prefork", concurrency=2, **collector.env)
    eventually(lambda: db.execute("SELECT FROM reindexer.run WHERE finished_at IS NULL").rowcount == 0)
    program, port = tmp_path / "shop.py", free_port()
    program.write_text(SHOP, encoding="utf-8")
    with Children(tmp_path / "shop") as children:
        whole = {**processes.env, **env, **collector.env, "PYTHONPATH": str(ROOT)}
        shop = children.start("shop", [sys.executable, str(program), str(port)], env=whole)
        asked = f"http://127.0.0.1:{port}/save"
        answer = eventually(lambda: answered(asked, name="Fjord"), within=30, what=log_of(shop))
    assert answer is not None
    item_id, token = answer.split()
    eventually(partial(is_indexed, db, token))
    index.alias = "products"
    assert index.count() == 1
    request = next(each for each in collector.spans() if each.service == "shop")
    spans = collector.awaited(request.trace_id, "drain", "dispatch", "index", *PARTS)
    assert request.parent_id == ""
    for name in ("drain", "dispatch", "index"):
        assert spans[name].parent_id == request.span_id, name
    for name in PARTS:
        assert spans[name].parent_id == spans["index"].span_id, name
    assert request.began_ns < spans["drain"].ended_ns  # which can be before the answer has left
    ended = sorted((spans[name] for name in ("drain", *PARTS)), key=lambda each: each.ended_ns)
    assert [each.name for each in ended] == ["drain", *PARTS]
    assert spans["drain"].ended_ns <= spans["dispatch"].began_ns
    assert {each.service for each in collector.spans(request.trace_id)} == {"shop", "reindexer"}
    assert spans["index"].attributes == {
        "reindexer.source": "products", "reindexer.generation": 1, "reindexer.lane": "live", "reindexer.claim.items": 1,
        "reindexer.items": 1, "reindexer.item_ids": [item_id], "reindexer.outcome": "embedded", "reindexer.attempts": 1,
    }  # fmt: skip
    assert (spans["embed"].attributes, spans["upsert"].attributes) == ({"reindexer.count": 1}, {"reindexer.count": 1})


def is_indexed(db: Connection, token: str) -> bool:
    return marks.states(db, [token]) == {token: "indexed"}


def has_ended(child: Child) -> bool:
    return not child.running()


def answered(url: str, **params: str) -> str | None:
    """The answer, once somebody gives one."""
    try:
        return httpx.get(url, params=params, timeout=10).raise_for_status().text
    except httpx.TransportError:
        return None


def test_coalesced_edits_are_told_in_each_trace_with_links_to_the_others(
    db: Connection, worker: Worker, here: Collector
) -> None:
    [item_id] = written(db, parent(), "first")
    with db.transaction():
        db.execute("SELECT reindexer.mark(%s)", [parent(OTHER)])
        db.execute("UPDATE context_items SET content = 'second' WHERE id = %s", [item_id])
    assert work(db, worker) == 1
    spans = told(here)
    index = {each.trace_id: each for each in spans if each.name == "index"}
    assert index.keys() == {TRACE, OTHER}
    assert index[TRACE].links == ((OTHER, SPAN),)
    assert index[OTHER].links == ((TRACE, SPAN),)
    for trace_id, span in index.items():
        parts = [each for each in spans if each.parent_id == span.span_id]
        assert [each.trace_id for each in parts] == [trace_id] * len(parts)
        assert [each.name for each in parts if each.name in PARTS] == PARTS


def test_items_of_several_transactions_in_one_claim_are_told_each_in_its_own_trace(
    db: Connection, worker: Worker, here: Collector
) -> None:
    ids = {TRACE: written(db, parent(), "one", "two"), OTHER: written(db, parent(OTHER), "three")}
    written(db, None, "four")
    insert(db, "five")
    assert work(db, worker) == 5
    for span in (each for each in told(here) if each.name == "index"):
        assert sorted(span.attributes["reindexer.item_ids"]) == sorted(ids[span.trace_id])
        assert (span.attributes["reindexer.claim.items"], span.links) == (5, ())


def test_what_fails_or_waits_says_so_and_a_retry_is_told_in_the_same_trace(
    db: Connection, worker: Worker, here: Collector, provider: FakeProvider
) -> None:
    provider.behave = lambda call: error(500) if len(provider.calls) < 2 else None
    written(db, parent(), "text")
    drain(db)
    eventually(lambda: worker.run_lane(Lane.LIVE, budget_s=0) == 1, within=10)
    first, *_, last = [each for each in told(here) if each.name == "index"]
    assert (first.failed, first.attributes["reindexer.outcome"]) == (True, "postponed")
    assert (last.failed, last.attributes["reindexer.outcome"]) == (False, "embedded")
    assert last.attributes["reindexer.attempts"] > first.attributes["reindexer.attempts"]
    assert {first.trace_id, last.trace_id} == {TRACE}


def test_what_is_not_sampled_or_no_traceparent_is_told_nowhere(db: Connection, worker: Worker, here: Collector) -> None:
    for traceparent in (parent(flags="00"), "hello", "x" * 55, parent() + "-x", "x" * 1_000_000):
        written(db, traceparent, "text")
    drained = drain(db)
    tell_drain(drained, 0, 1)
    assert drained.changes == 5
    assert worker.run_lane(Lane.LIVE, budget_s=1) == 5
    assert told(here) == []
    assert db.execute("SELECT max(octet_length(traceparent)) < 100 FROM reindexer.mark").fetchone() == (True,)


def test_of_many_marks_some_are_told_and_the_others_counted(db: Connection, worker: Worker, here: Collector) -> None:
    for number in range(40):
        written(db, parent(f"{number + 1:032x}"), f"text {number}")
    drained = drain(db)
    assert len(drained.traceparents) == 32
    assert worker.run_lane(Lane.LIVE, budget_s=5) == 40
    index = [each for each in told(here) if each.name == "index"]
    assert [each.trace_id for each in index] == [f"{number + 1:032x}" for number in range(16)]
    assert {each.attributes["reindexer.claim.traces_left_out"] for each in index} == {24}


def test_a_later_edit_of_a_claimed_item_is_told_with_the_claim_that_reads_it(
    db: Connection, worker: Worker, here: Collector
) -> None:
    [item_id] = written(db, parent(), "first")
    drain(db)
    claim = claim_batch(db, Lane.LIVE, 10, 60)
    assert claim is not None
    with db.transaction():
        db.execute("SELECT reindexer.mark(%s)", [parent(OTHER)])
        db.execute("UPDATE context_items SET content = 'second' WHERE id = %s", [item_id])
    drain(db)
    assert [each.partition(" ")[2] for item in claim.items for each in item.traces] == [parent()]
    finish(db, claim, [Finished(each, "COMPLETED") for each in claim.items])
    assert work(db, worker) == 1
    assert {each.trace_id for each in told(here) if each.name == "index"} == {OTHER}


def test_an_edit_of_an_item_that_is_due_already_is_told_with_it(
    db: Connection, worker: Worker, here: Collector
) -> None:
    [item_id] = written(db, parent(), "first")
    drain(db)
    with db.transaction():
        db.execute("SELECT reindexer.mark(%s)", [parent(OTHER)])
        db.execute("UPDATE context_items SET content = 'second' WHERE id = %s", [item_id])
    drain(db)
    assert work(db, worker) == 1
    assert [each.trace_id for each in told(here) if each.name == "index"] == [TRACE, OTHER]
    db.execute("UPDATE context_items SET content = 'third' WHERE id = %s", [item_id])
    assert work(db, worker) == 1
    assert len([each for each in told(here) if each.name == "index"]) == 2, "that of nobody is not told"


def test_an_edit_of_a_related_row_is_told_with_the_items_that_it_leads_to(
    db: Connection, worker: Worker, here: Collector
) -> None:
    db.execute("CREATE TABLE author (id int PRIMARY KEY, name text)")
    db.execute("CREATE TABLE book (id int PRIMARY KEY, author int, title text)")
    db.execute("INSERT INTO author VALUES (1, 'Ada')")
    db.execute("INSERT INTO book VALUES (1, 1, 'Engines'), (2, 1, 'Numbers')")
    author = Related("author", (Link("public", "author", ("author",), ("id",)),), key_columns=("id",))
    attach(db, Source("books", "public", "book", ("id",), ("title", "author.name"), related=(author,)))
    eventually(Flow(db, worker).settles)
    with db.transaction():
        db.execute("SELECT reindexer.mark(%s)", [parent()])
        db.execute("UPDATE author SET name = 'Ada Lovelace'")
    drain(db)
    assert fan_out(db, lambda name: find_source(db, name))
    assert work(db, worker) == 2
    [index] = [each for each in told(here) if each.name == "index"]
    assert (index.trace_id, index.attributes["reindexer.item_ids"]) == (TRACE, ["1", "2"])


def test_log_lines_of_a_claim_carry_the_id_of_its_trace(db: Connection, worker: Worker, here: Collector) -> None:
    lines: list[Mapping[str, object]] = []

    def keep(_: object, __: str, event: Mapping[str, object]) -> str:
        lines.append(dict(event))
        return ""

    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, keep],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    try:
        written(db, parent(), "text")
        assert work(db, worker) == 1
        insert(db, "of nobody's trace")
        assert work(db, worker) == 1
    finally:
        structlog.configure(**before)
    assert [each.get("trace_id") for each in lines if each["event"] == "settled"] == [TRACE, None]


def test_a_run_is_told_in_the_trace_in_which_it_was_started(db: Connection, worker: Worker, here: Collector) -> None:
    insert(db, "one")
    insert(db, "two")
    work(db, worker)
    with TracerProvider().get_tracer("test").start_as_current_span("nightly") as span:
        run = runs.start(db, CONTEXT_ITEMS, who="test", force=True)
        while walk_page(db, lambda name, _: find_source(db, name)):
            worker.run_lane(Lane.BULK, budget_s=5)
        walk_page(db, lambda name, _: find_source(db, name))
        assert runs.get(db, run.id).state == "finished"
        runs.cancel(db, runs.start(db, CONTEXT_ITEMS, who="test").id, who="test")
    runs.cancel(db, runs.start(db, CONTEXT_ITEMS, who="test", where="title IS NULL").id, who="test")
    finished, cancelled = [each for each in told(here) if each.name == "run"]
    within = span.get_span_context()
    assert {each.trace_id for each in (finished, cancelled)} == {f"{within.trace_id:032x}"}
    assert {each.parent_id for each in (finished, cancelled)} == {f"{within.span_id:016x}"}
    assert finished.attributes == {
        "reindexer.run": run.id, "reindexer.source": "context_items", "reindexer.kind": "backfill",
        "reindexer.outcome": "finished", "reindexer.items": 2, "reindexer.failed": 0,
    }  # fmt: skip
    assert cancelled.attributes["reindexer.outcome"] == "cancelled"
    assert finished.ended_ns > finished.began_ns > 0


def test_with_traces_no_statement_is_added(
    db: Connection, worker: Worker, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []
    execute = Connection.execute

    def counted(self: Connection, query: Any, *args: Any, **kwargs: Any) -> Any:
        statements.append(str(query))
        return execute(self, query, *args, **kwargs)

    def counts() -> list[str]:
        insert(db, "text")
        assert drain(db).changes == 1
        statements.clear()
        assert worker.run_lane(Lane.LIVE, budget_s=0) == 1
        return [*statements]

    process.close()
    counts()  # which prepares the collection
    monkeypatch.setattr(Connection, "execute", counted)
    without = counts()
    for name, value in collector.env.items():
        monkeypatch.setenv(name, value)
    process.close()
    assert counts() == without
    assert told(collector) == []


def test_a_process_that_has_no_traces_does_not_import_what_they_need() -> None:
    program = (
        "import sys, reindexer.tasks, reindexer.listen\n"
        "from reindexer.tracing import process\n"
        "assert process.traces() is None\n"
        "process.prepare(); process.publish(); process.close()\n"
        "found = [each for each in ('opentelemetry.sdk.trace', 'reindexer.tracing.otlp') if each in sys.modules]\n"
        "assert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, timeout=60)


def test_without_the_extra_one_line_says_what_to_install_and_work_goes_on() -> None:
    program = (
        "import sys\n"
        "sys.modules['opentelemetry.sdk'] = None\n"
        "from reindexer import logs\n"
        "from reindexer.tracing import process\n"
        "logs.configure('INFO', 'json')\n"
        "for _ in range(3): process.prepare(); assert process.traces() is None\n"
    )
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, cwd=ROOT, env=env, capture_output=True, text=True
    )
    [line] = [json.loads(each) for each in done.stderr.splitlines()]
    assert (line["event"], "pip install 'reindexer[otel]'" in line["error"]) == ("traces_unexported", True)


FOREIGN = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from reindexer.core.trace import Work, place_of
from reindexer.tracing import process

kept, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(kept))
trace.set_tracer_provider(provider)
process.publish()
assert trace.get_tracer_provider() is provider
place = place_of("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
process.traces().tell(place, Work("index", 1, 2))
process.close()
assert [(each.name, each.end_time) for each in kept.get_finished_spans()] == [("index", 2)]
"""


def test_the_provider_of_an_application_is_used_and_never_replaced(collector: Collector) -> None:
    env = {**collector.env, "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FOREIGN], check=False, cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert collector.spans() == []


@pytest.mark.parametrize("fault", ["hanging", pytest.param("dead", marks=pytest.mark.long)])
def test_a_collector_that_hangs_or_is_dead_delays_neither_edits_nor_the_end_of_a_process(
    db: Connection, processes: Processes, collector: Collector, index: IndexReader, fault: str
) -> None:
    env = collector.env
    if fault == "dead":
        collector.close()
    collector.hangs_s = 60.0
    children = [processes.listener(**env), processes.worker(pool="prefork", concurrency=1, **env)]
    slowest_s = 0.0
    for number in range(12):
        with db.transaction():
            row = db.execute("SELECT reindexer.mark(%s)", [parent(f"{number + 1:032x}")]).fetchone()
            insert(db, f"text {number}")
        assert row is not None
        began = time.monotonic()
        eventually(partial(is_indexed, db, str(row[0])), every=0.01)
        slowest_s = max(slowest_s, time.monotonic() - began) if number else 0.0  # the first one prepares the collection
    assert slowest_s < 2.0
    began = time.monotonic()
    for child in children:
        child.process.send_signal(signal.SIGTERM)
    for child in children:
        eventually(partial(has_ended, child), within=15)
    assert time.monotonic() - began < 8.0
    assert [child.process.returncode for child in children] == [0, 0]
    for child in children:
        assert log_of(child).count("traces_dropped") <= 2
        assert "export" not in log_of(child), log_of(child)


def test_a_request_to_the_api_is_a_span_without_its_query_and_its_log_lines_carry_the_trace(
    processes: Processes, collector: Collector, index: IndexReader, db: Connection, worker: Worker
) -> None:
    insert(db, "how long do refunds take")
    work(db, worker)
    child, url = processes.api(**collector.env, REINDEXER_LOG_FORMAT="json")
    headers = {"Authorization": "Bearer test-admin-key", "traceparent": parent()}
    with httpx.Client(base_url=url, headers=headers) as client:
        searched = client.post("/search", json={"source": "context_items", "query": "secretquestion"})
        assert searched.status_code == 200, searched.text
        assert client.get("/admin/dead-letters", params={"error": "secretfilter"}).status_code == 200
        assert client.get("/healthz").status_code == 200
        assert client.get("/metrics").status_code == 200
        client.post("/admin/backfills", json={"source": "context_items", "force": True}).raise_for_status()
    spans = collector.awaited(
        TRACE, "POST /search", "embed", "search", "GET /admin/dead-letters", "POST /admin/backfills"
    )
    assert {each.parent_id for each in spans.values() if each.name.startswith(("GET", "POST"))} == {SPAN}
    assert {spans[each].parent_id for each in ("embed", "search")} == {spans["POST /search"].span_id}
    assert [each.name for each in collector.spans() if "health" in each.name or "metrics" in each.name] == []
    assert b"secret" not in b"".join(collector.bodies)
    assert b"test-admin-key" not in b"".join(collector.bodies)
    row = db.execute("SELECT traceparent FROM reindexer.run WHERE kind = 'backfill'").fetchone()
    assert row == (f"00-{TRACE}-{spans['POST /admin/backfills'].span_id}-01",)
    of_search = [
        json.loads(each) for each in log_of(child).splitlines() if '"POST /search' in each or "POST /search" in each
    ]
    assert [each.get("trace_id") for each in of_search] == [TRACE]
