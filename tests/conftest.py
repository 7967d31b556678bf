"""Fixtures: servers once a session, a fresh database (cloned from a migrated template) for each test."""

from __future__ import annotations

import gc
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import hypothesis
import psycopg
import pytest

from reindexer import indexing
from reindexer.adapters.broker.celery_broker import CeleryBroker, make_celery
from reindexer.cli import main
from reindexer.core.broker_url import BrokerUrl
from reindexer.embedded.children import Children
from reindexer.migrate import migrate
from reindexer.postgres.connect import Connection, connect
from reindexer.settings import Settings
from reindexer.testing.provider import FakeProvider
from reindexer.wiring import worker as make_worker
from reindexer.worker.worker import Worker
from tests.support.commands import SERVER_SETTINGS, Done
from tests.support.fresh import emptied_index, emptied_redis, environment, fresh_database
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes
from tests.support.servers import Servers, database_url, servers

TEMPLATE = "reindexer_test_template"
TOLD_LINES = 30
"""Of each child's log, where a test fails."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--pictures DIRECTORY`: the tests of the page in a browser leave pictures there."""
    parser.addoption("--pictures", help="where tests/browser writes pictures of the page")


def pytest_configure(config: pytest.Config) -> None:
    """Nothing here speaks TLS, but every HTTP client reads all certificate authorities when it is made: 30 ms of CPU,
    thousands of times. In a directory without any there is nothing to read."""
    os.environ.pop("SSL_CERT_FILE", None)
    os.environ["SSL_CERT_DIR"] = os.devnull
    # An example that took longer than 200 ms would fail, and on a busy machine any may.
    few = "not long" in config.getoption("markexpr")
    hypothesis.settings.register_profile("suite", deadline=None, max_examples=40 if few else 100)
    hypothesis.settings.load_profile("suite")


@pytest.hookimpl(tryfirst=True)  # before `-m` deselects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Cases beyond those that `first` names are long."""
    seen = Counter[str]()
    for item in items:
        for marker in item.iter_markers("first"):
            test = item.nodeid.partition("[")[0]
            seen[test] += 1
            if seen[test] > marker.args[0]:
                item.add_marker("long")


def pytest_collection_finish() -> None:
    """Thousands of tests stay for good: a garbage collection that visits them again takes a second of CPU."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Beside a failure: the ends of the logs of the processes that the test started."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    given = getattr(item, "funcargs", {})
    directory: Path | None = getattr(given.get("site"), "logs", None) or given.get("tmp_path")
    if report.failed and directory is not None:
        for log in sorted(directory.rglob("*.log")):
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            report.sections.append((f"end of {log.name}", "\n".join(lines[-TOLD_LINES:])))


@pytest.fixture(scope="session", name="servers")
def _servers() -> Iterator[Servers]:
    with servers() as running:
        yield running


@pytest.fixture(scope="session")
def template(servers: Servers) -> str:
    """A migrated database without rows, its first fill done."""
    with psycopg.connect(servers.database_url, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {TEMPLATE}")
        admin.execute(f"CREATE DATABASE {TEMPLATE}")
    url = database_url(servers, TEMPLATE)
    migrate(url, with_context_items=True)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE reindexer.run SET state = 'finished', finished_at = now()")
    return TEMPLATE


@pytest.fixture
def database(servers: Servers, template: str) -> Iterator[str]:
    """The URL of this test's own database."""
    with fresh_database(servers, template) as url:
        yield url


@pytest.fixture
def db(database: str) -> Iterator[Connection]:
    """An autocommit connection, as a user's application has one."""
    with connect(database, application_name="test") as connection:
        yield connection


@pytest.fixture
def redis_url(servers: Servers) -> str:
    """An empty Redis."""
    return emptied_redis(servers)


@pytest.fixture
def index(servers: Servers) -> Iterator[IndexReader]:
    """An independent reader of a Qdrant without collections of ours."""
    with emptied_index(servers) as reader:
        yield reader


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """An embedding provider on loopback."""
    running = FakeProvider()
    yield running
    running.close()


@pytest.fixture
def env(database: str, redis_url: str, servers: Servers, provider: FakeProvider) -> Mapping[str, str]:
    """The environment of our processes: all real servers, waits shortened."""
    return environment(database, redis_url, servers, provider)


@pytest.fixture
def settings(env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The same as settings, in this process."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return Settings.load()


@pytest.fixture
def worker(settings: Settings, index: IndexReader) -> Iterator[Worker]:
    """All that a worker process has, in this one; without Celery."""
    built = make_worker(settings, None)
    yield built
    built.close()


@pytest.fixture
def embed_here(settings: Settings) -> Iterator[Callable[..., None]]:
    """The synchronous call, by a worker of this test's own: a process keeps one."""
    indexing._client.cache_clear()
    yield indexing.generate_context_item_embedding
    if indexing._client.cache_info().currsize:
        indexing._client().close()
    indexing._client.cache_clear()


@pytest.fixture
def broker(redis_url: str) -> Iterator[CeleryBroker]:
    """The queues, in this process."""
    server = BrokerUrl(redis_url)
    app = make_celery(server, server, result_expires_s=600)
    broker = CeleryBroker(app)
    yield broker
    broker.close()
    app.close()


@pytest.fixture
def processes(env: Mapping[str, str], index: IndexReader, tmp_path: Path) -> Iterator[Processes]:
    """Starts listeners, workers and APIs; they end with the test."""
    with Children(tmp_path / "logs") as children:
        yield Processes(children, env)
        children.stop_together()


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs a command in this process: the same `main`, without a second of imports."""

    def run(*arguments: str, env: Mapping[str, str] | None = None) -> Done:
        monkeypatch.setattr(sys, "argv", ["reindexer", *arguments])
        for name in SERVER_SETTINGS:
            monkeypatch.delenv(name, raising=False)
        for name, value in (env or {}).items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        return Done(int(ended.value.code or 0), shown.out, shown.err)

    return run
