"""No secret and no text leaves its place: canaries in rows, keys and passwords, real processes at DEBUG, then a search
through everything that they wrote, stored, sent, answered or showed in a list of processes."""

from __future__ import annotations

import json
import os
import re
import threading
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest
import redis
from psycopg import sql
from psycopg.conninfo import make_conninfo

from reindexer.core.source import Source
from reindexer.embedded.children import Child, Children, free_port
from reindexer.embedded.postgres import EmbeddedPostgres, start_postgres
from reindexer.embedded.redis import start_redis
from reindexer.migrate import migrate
from reindexer.postgres.connect import Connection, connect
from reindexer.sources.attach import attach
from reindexer.testing.processes import log_of
from reindexer.testing.provider import DIMENSIONS, Call, FakeProvider, Reply
from reindexer.testing.waiting import eventually
from tests.support.collector import Collector, collecting
from tests.support.commands import reindexer
from tests.support.forks import forked_python
from tests.support.index_reader import IndexReader
from tests.support.processes import ROOT, Processes
from tests.support.quoting import QuotingProxy
from tests.support.rooms import room
from tests.support.servers import FAST, Servers

TEXT = "canarytext"
SECRETS = {
    "database": "canarydatabasepw",
    "redis": "canaryredispw",
    "provider": "canaryproviderkey",
    "provider_url": "canaryproviderurl",
    "qdrant": "canaryqdrantkey",
    "qdrant_url": "canaryqdranturl",
    "admin": "canaryadminkey",
    "collector": "canarycollectorpw",
}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CURSED = "00000000-0000-0000-0000-00000000dead"

_BASE64 = re.compile(r'"body\\*": \\*"((?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)\\*"')


class Places:
    """Everything that was looked at, by the name of the place."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}

    def add(self, place: str, content: object) -> None:
        """With what stands in it as base64, as bodies of messages do."""
        text = str(content)
        bodies = [b64decode(each).decode("utf-8", "replace") for each in _BASE64.findall(text)]
        self._found[place] = "\n".join([self._found.get(place, ""), text, *bodies])

    def __getitem__(self, place: str) -> str:
        return self._found[place]

    def assert_clean(self) -> None:
        told = [
            f"{canary} in {place}: …{content[max(0, at - 200): at + 100]}…"
            for place, content in self._found.items() for canary in (TEXT, *SECRETS.values())
            if (at := content.lower().find(canary)) >= 0
        ]  # fmt: skip
        assert not told, "\n\n".join(told)
        assert all(self._found.values()), "a place where nothing was found at all proves nothing"


@pytest.fixture
def closed_postgres() -> Iterator[EmbeddedPostgres]:
    """A server of its own that really asks for passwords."""
    with room() as directory, Children(directory / "logs") as children:
        server = start_postgres(children, directory / "data", settings=FAST)
        with psycopg.connect(server.url(), autocommit=True) as admin:
            admin.execute(f"CREATE ROLE owner LOGIN SUPERUSER PASSWORD '{SECRETS['database']}'".encode())
            hba = directory / "data" / "pg_hba.conf"
            hba.write_text(f"host all owner 127.0.0.1/32 scram-sha-256\n{hba.read_text()}")
            admin.execute("SELECT pg_reload_conf()")
        yield server


@pytest.fixture
def closed_redis(tmp_path: Path) -> Iterator[str]:
    """The URL of a server of its own that asks for a password."""
    with Children(tmp_path / "redis") as children:
        server = start_redis(children, tmp_path)
        with redis.Redis.from_url(server.url()) as client:
            client.config_set("requirepass", SECRETS["redis"])
        yield f"redis://:{SECRETS['redis']}@127.0.0.1:{server.port}/0"


@pytest.fixture
def qdrant(servers: Servers) -> Iterator[QuotingProxy]:
    proxy = QuotingProxy(servers.qdrant_url)
    yield proxy
    proxy.close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture
def secret_env(
    closed_postgres: EmbeddedPostgres,
    closed_redis: str,
    qdrant: QuotingProxy,
    provider: FakeProvider,
    collector: Collector,
) -> Mapping[str, str]:
    """Settings in which every secret is a canary."""
    return {
        **collector.env,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url.replace("://", f"://someone:{SECRETS['collector']}@"),
        "DATABASE_URL": make_conninfo(closed_postgres.url(), user="owner", password=SECRETS["database"]),
        "CELERY_BROKER_URL": closed_redis,
        "QDRANT_URL": f"http://someone:{SECRETS['qdrant_url']}@{qdrant.address}",
        "QDRANT_API_KEY": SECRETS["qdrant"],
        "OPENAI_API_KEY": SECRETS["provider"],
        "OPENAI_BASE_URL": provider.url.replace("://", f"://someone:{SECRETS['provider_url']}@"),
        "OPENAI_LOG": "debug",
        "REINDEXER_EMBEDDING_DIMENSIONS": str(DIMENSIONS),
        "REINDEXER_ADMIN_API_KEY": SECRETS["admin"],
        "REINDEXER_RETRY_BASE_S": "0.05",
        "REINDEXER_BATCH_SIZE": "1",
        "REINDEXER_LOG_LEVEL": "DEBUG",
        "CELERY_TASK_SEND_SENT_EVENT": "1",
    }


def quoting(call: Call) -> Reply | None:
    """A provider whose every error quotes all that it was sent."""
    words = f"{call.inputs} {SECRETS['provider']}"
    for mark, status in (("refused", 400), ("broken", 500), ("limited", 429), ("unauthorised", 401), ("garbled", 200)):
        if any(mark in text for text in call.inputs):
            error = {"message": words, "type": words, "code": words, "param": words}
            headers = {"Retry-After": "0", "X-Request-Id": words.encode("ascii", "replace").decode()}
            return Reply(status, {"error": error, "data": words}, headers)
    return None


@contextmanager
def redis_heard(url: str) -> Iterator[list[str]]:
    """Notes every command that the server gets: messages, results and events."""
    heard: list[str] = []
    stop = threading.Event()

    def run() -> None:
        with redis.Redis.from_url(url, socket_timeout=None) as client, client.monitor() as monitor:
            while not stop.is_set():
                heard.append(str(monitor.next_command()))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield heard
    finally:
        stop.set()
        with redis.Redis.from_url(url) as client:
            client.ping()  # the last command that it waits for
        thread.join()


@pytest.mark.timeout(300)
def test_no_text_and_no_secret_is_found_where_it_does_not_belong(
    secret_env: Mapping[str, str],
    qdrant: QuotingProxy,
    provider: FakeProvider,
    index: IndexReader,
    tmp_path: Path,
    collector: Collector,
) -> None:
    places = Places()
    url = secret_env["DATABASE_URL"]
    migrate(url, with_context_items=True)
    provider.behave = quoting
    qdrant.refuse = lambda body: next(
        (code for mark, code in (("unwritable", 400), ("unlucky", 500)) if mark in body), None
    )
    with (
        redis_heard(secret_env["CELERY_BROKER_URL"]) as heard,
        Children(tmp_path / "logs") as children,
        connect(url, application_name="test") as db,
    ):
        processes = Processes(children, secret_env, forked=False)
        listener, worker = processes.listener(), processes.worker("-E")
        api, address = processes.api()
        curse(db)
        with db.transaction():
            db.execute("SELECT reindexer.mark(%s)", [f"00-{TRACE}-00f067aa0ba902b7-01"])
            write(db)
        with httpx.Client(base_url=address, headers={"X-API-Key": SECRETS["admin"]}, timeout=20) as client:
            eventually(lambda: settled(db), within=60)
            places.add("answers", ask(client, db))
        running = [psutil.Process(child.process.pid) for child in (listener, worker, api)]
        running += [below for each in running for below in each.children(recursive=True)]
        places.add("process arguments", [each.cmdline() for each in running])
        places.add("our tables", tables(db))
        places.add("our connections", connections(db))
        for command in (
            ["status"],
            ["status", "--json"],
            ["sources"],
            ["why", "context_items", "1"],
            ["pause"],
            ["resume"],
        ):
            done = reindexer(*command, env=secret_env)
            places.add("command line", done.stdout + done.stderr)
        db.execute("TRUNCATE shy_notes")
        eventually(lambda: "statement_failed" in log_of(listener), within=30)
        children.stop_together()
        for child, event in ((listener, "statement_failed"), (worker, "unexpected_error"), (api, "unexpected_error")):
            assert event in log_of(child), child.name
            places.add(f"log of {child.name}", log_of(child))
        collector.status = 500
        api, address = processes.api()
        httpx.post(f"{address}/search", json={"query": TEXT}).close()
        eventually(lambda: "traces_dropped" in log_of(api), within=20)
        places.add(f"log of {api.name} without a collector", log_of(api))
    spans = collector.spans()
    places.add("spans", [*spans, *(body.decode("utf-8", "replace") for body in collector.bodies)])
    told = {(each.name, each.attributes.get("reindexer.outcome")) for each in spans if each.trace_id == TRACE}
    assert {name for name, _ in told} >= {"drain", "read", "embed", "settle"}
    assert {outcome for name, outcome in told if name == "index"} >= {"embedded", "failed", "postponed"}
    assert {each.name for each in spans} >= {"POST /search", "POST /admin/backfills"}
    places.add("redis commands", heard)
    places.add("redis keys", redis_content(secret_env["CELERY_BROKER_URL"]))
    assert any(TEXT in text for text in provider.inputs)
    assert qdrant.refused >= 2
    assert "task-received" in places["redis commands"], "no Celery event was heard"
    places.assert_clean()


def write(db: Connection) -> None:
    """Items of every outcome, with the canary in text and payload."""
    for mark in ("good", "refused", "broken", "limited", "unauthorised", "garbled", "unwritable", "unlucky"):
        db.execute(
            "INSERT INTO context_items (title, content, metadata) VALUES (%s, %s, jsonb_build_object('note', %s::text))",
            [f"{TEXT} {mark}", f"{TEXT} {mark} text", f"{TEXT} {mark} payload"],
        )
    db.execute("INSERT INTO context_items (id, content) VALUES (%s, %s)", [CURSED, f"{TEXT} cursed"])
    # A type whose values can't be read as text without an error that quotes them.
    db.execute("CREATE TYPE shy AS (words text)")
    db.execute(
        "CREATE FUNCTION shy_text(shy) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'bad: %', $1.words; END $$"
    )
    db.execute("CREATE CAST (shy AS text) WITH FUNCTION shy_text(shy)")
    db.execute("CREATE TABLE shy_notes (id int PRIMARY KEY, body shy)")
    attach(db, Source("context_items-shy", "public", "shy_notes", ("id",), ("body",)))
    db.execute("INSERT INTO shy_notes VALUES (1, ROW(%s))", [f"{TEXT} shy"])


def curse(db: Connection) -> None:
    """Errors in each process that nobody expects, with words that quote a row: triggers on tables of ours raise them."""
    db.execute(
        f"CREATE FUNCTION curse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE '{TEXT} in words'; END $$".encode()
    )
    for table, condition in (
        ("ledger", f"NEW.item_id = '{CURSED}'"),
        ("run", "NEW.condition = 'false'"),
        ("run", "NEW.kind = 'whole_source'"),
    ):
        db.execute(
            f"CREATE TRIGGER curse_{len(condition)} BEFORE INSERT ON reindexer.{table} FOR EACH ROW WHEN ({condition})"
            " EXECUTE FUNCTION curse()".encode()
        )


def settled(db: Connection) -> bool:
    """Whether everything has its outcome that can have one: 429 waits for ever."""
    row = db.execute(
        "SELECT (SELECT count(*) FROM reindexer.outbox), (SELECT count(*) FROM reindexer.ledger),"
        " (SELECT count(error) FROM reindexer.ledger WHERE source = 'context_items-shy')"
    ).fetchone()
    return row is not None and row[0] == 0 and row[1] >= 8 and row[2] == 1


def ask(client: httpx.Client, db: Connection) -> str:
    """Every route that tells something, and requests that go wrong because of what is in them."""
    answers = []
    source = {"source": "context_items"}
    for query in ("refused", "broken", "limited", "unauthorised", "garbled"):
        answers.append(client.post("/search", json={**source, "query": f"{TEXT} {query}"}))
    assert client.post("/search", json={**source, "query": f"{TEXT} good"}).status_code == 200
    for body in ({"query": TEXT, TEXT[:3]: 1, "limit": TEXT}, {"query": [TEXT]}, [TEXT], TEXT):
        answers.append(client.post("/search", json=body))
    for where in ("content::int > 3", "shout(content)", "metadata ->> 'note' = 1"):
        answers.append(client.post("/admin/backfills", json={**source, "where": where}))
    answers.append(client.post("/admin/backfills", json={**source, "where": "false"}))
    assert answers[-1].status_code == 500
    answers += [client.post("/admin/backfills", json={"source": "context_items-shy", "where": "body::text = 'x'"})]
    ids = [str(i) for (i,) in db.execute("SELECT id FROM context_items")]
    answers.append(client.post("/admin/bulk/regenerate-embeddings", json={"context_ids": ids}))
    tasks = answers[-1].json()["task_ids"]
    states = dict[str, str]()

    def begun() -> bool:
        states.update({t: client.get(f"/admin/tasks/{t}").json()["state"] for t in tasks})
        return "PENDING" not in states.values()

    eventually(begun, within=30)
    paths = [f"/admin/tasks/{t}" for t in tasks] + [f"/admin/items/context_items/{i}" for i in ids]
    paths += ["/admin/items/context_items-shy/1", "/admin/status", "/admin/backfills", "/admin/dead-letters", "/admin/audit",
              "/readyz", "/healthz", "/metrics", "/openapi.json"]  # fmt: skip
    answers += [client.get(path) for path in paths]
    assert client.get("/admin/status", headers={"X-API-Key": f"{SECRETS['admin']}x"}).status_code == 401
    return "\n".join(f"{answer.headers} {answer.text}" for answer in answers)


def tables(db: Connection) -> str:
    """Everything in the schema `reindexer`, the catalog's part of it too."""
    names = [
        name
        for (name,) in db.execute(
            "SELECT relname::text FROM pg_class WHERE relnamespace = 'reindexer'::regnamespace AND relkind IN ('r', 'v', 'm', 'S')"
        )
    ]
    assert len(names) > 8
    return "\n".join(
        str(db.execute(sql.SQL("SELECT * FROM reindexer.{}").format(sql.Identifier(n))).fetchall()) for n in names
    )


def connections(db: Connection) -> list[Any]:
    """What others see of our sessions."""
    return db.execute(
        "SELECT application_name, query FROM pg_stat_activity WHERE application_name LIKE 'reindexer%'"
    ).fetchall()


def redis_content(url: str) -> str:
    """All keys and their values, of every type."""
    readers = {
        "string": "GET",
        "list": "LRANGE {} 0 -1",
        "hash": "HGETALL",
        "set": "SMEMBERS",
        "zset": "ZRANGE {} 0 -1",
    }
    with redis.Redis.from_url(url, decode_responses=True) as client:
        found: dict[str, Any] = {}
        for key in client.scan_iter("*"):
            command, *rest = readers[client.type(key)].replace("{}", "").split()
            found[key] = client.execute_command(command, key, *rest)
        return json.dumps(found, default=str) + " end"


UNREADABLE = [
    {"DATABASE_URL": f"postgresql://owner:{SECRETS['database']}/x@127.0.0.1:9/db"},
    {"DATABASE_URL": f"postgresql://owner:x@{SECRETS['database']}@127.0.0.1:9/db"},
    {"CELERY_BROKER_URL": f"redis://:{SECRETS['redis']}/x@127.0.0.1:9/0"},
    {"CELERY_BROKER_URL": f"redis://:12/{SECRETS['redis']}@127.0.0.1:9/0"},
    {"QDRANT_URL": f"http://x:{SECRETS['qdrant_url']}#@127.0.0.1:9"},
    {"OPENAI_BASE_URL": f"http://x:{SECRETS['provider_url']}?@127.0.0.1:9/v1"},
]
"""Passwords with a character in them that some reader takes for the end of the password."""

AWAY = ("password authentication failed", "broker_unavailable", "Cannot connect")
"""What a process says whose server does not let it in."""


def says_that_it_is_away(child: Child) -> bool:
    return any(word in log_of(child) for word in AWAY)


def test_a_wrong_password_or_one_that_makes_a_url_unreadable_is_not_told(
    closed_postgres: EmbeddedPostgres, secret_env: Mapping[str, str], tmp_path: Path
) -> None:
    migrate(secret_env["DATABASE_URL"], with_context_items=True)
    right = SECRETS["redis"]
    wrong = {
        "DATABASE_URL": make_conninfo(secret_env["DATABASE_URL"], password=f"{SECRETS['database']}-wrong"),
        "CELERY_BROKER_URL": secret_env["CELERY_BROKER_URL"].replace(right, f"{right}-wrong"),
    }
    places = Places()
    commands = {
        "listener": ["reindexer.listen"],
        "worker": [
            "celery",
            "-A",
            "reindexer.celery_app",
            "worker",
            "-Q",
            "reindexer.live,reindexer.bulk",
            "-P",
            "solo",
        ],
        "api": ["uvicorn", "api.main:app", "--port", str(free_port())],
    }
    with Children(tmp_path / "logs") as children:

        def start(role: str, number: int, env: Mapping[str, str]) -> Child:
            full = {**os.environ, **secret_env, **env}
            return children.start(f"{role}-{number}", [*forked_python(), *commands[role]], env=full, cwd=ROOT)

        hopeless = [
            start("listener" if "DATABASE_URL" in env else "worker", n, env) for n, env in enumerate(UNREADABLE)
        ]
        away = [start(role, 99, {"DATABASE_URL": wrong["DATABASE_URL"]}) for role in commands]
        away.append(start("worker", 100, {"CELERY_BROKER_URL": wrong["CELERY_BROKER_URL"]}))
        for child in hopeless:
            assert child.process.wait(60) == 2, (child.name, log_of(child))
            assert "is not a URL that can be read" in log_of(child), (child.name, log_of(child))
        for child in away:
            eventually(partial(says_that_it_is_away, child), within=30, what=child.name)
        for child in (*hopeless, *away):
            places.add(child.name, log_of(child))
    for number, env in enumerate((UNREADABLE[0], wrong)):
        done = reindexer("status", env={**secret_env, **env})
        assert done.returncode != 0
        places.add(f"command line {number}", done.stdout + done.stderr)
    places.assert_clean()
