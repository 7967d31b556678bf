"""A Redis by TLS: every process and every use of it verifies the server, by one setting or one URL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest
import redis
from celery.result import AsyncResult

from reindexer.adapters.broker.celery_broker import CeleryBroker, make_celery
from reindexer.adapters.redis_rate_limiter import RateLimiterServer
from reindexer.core.broker_url import read_broker_url
from reindexer.core.errors import DependencyUnavailable
from reindexer.embedded.children import Children
from reindexer.postgres.connect import Connection
from reindexer.settings import Settings
from reindexer.testing.processes import log_of
from reindexer.testing.waiting import eventually
from tests.support.flow import insert, status
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes
from tests.support.tls import Certificates, certificates, start_tls_redis

KEY = {"X-API-Key": "test-admin-key"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def port(files: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    directory = tmp_path_factory.mktemp("redis")
    with Children(directory / "logs") as children:
        yield start_tls_redis(children, directory, files)[1]


@pytest.fixture
def reader(files: Certificates, port: int) -> Iterator[redis.Redis]:
    """Verified by the test's own client; the server is empty."""
    with redis.Redis.from_url(
        f"rediss://localhost:{port}/0", ssl_ca_certs=str(files.authority), decode_responses=True
    ) as client:
        client.flushall()
        yield client


@pytest.mark.long
def test_listener_worker_api_results_and_rate_limiter_use_a_broker_by_tls_and_verify_it(
    db: Connection, processes: Processes, index: IndexReader, files: Certificates, port: int, reader: redis.Redis
) -> None:
    processes.env |= {
        "CELERY_BROKER_URL": f"rediss://localhost:{port}/0",
        "REINDEXER_BROKER_CA_FILE": str(files.authority),
    }
    processes.listener()
    worker = processes.worker(pool="prefork", concurrency=1)
    _, url = processes.api()
    item_id = insert(db, "text")
    eventually(lambda: status(db, item_id) == ("COMPLETED", None))
    body = {"context_ids": [item_id]}
    asked = httpx.post(f"{url}/admin/bulk/regenerate-embeddings", json=body, headers=KEY).json()
    settings = Settings.model_validate(
        {"celery_broker_url": processes.env["CELERY_BROKER_URL"], "broker_ca_file": files.authority}
    )
    app = make_celery(settings.broker, settings.result_backend, result_expires_s=60)
    eventually(lambda: AsyncResult(asked["task_ids"][0], app=app).state == "SUCCESS", within=20)
    eventually(lambda: httpx.get(f"{url}/readyz").is_success)
    assert [key for key in reader.scan_iter() if key.startswith("reindexer:budget:")]
    assert "insecure" not in log_of(worker)
    app.backend.client.close()
    app.close()


def test_nobody_works_with_a_broker_whose_certificate_nobody_vouches_for_and_each_says_so(
    db: Connection, processes: Processes, port: int, reader: redis.Redis
) -> None:
    processes.env["CELERY_BROKER_URL"] = f"rediss://localhost:{port}/0"
    listener = processes.listener()
    worker = processes.start_worker(pool="solo", concurrency=1)
    api, url = processes.api()
    insert(db, "text")
    eventually(lambda: "certificate verify failed" in log_of(worker), within=30)
    eventually(lambda: "its certificate is not trusted" in log_of(listener))
    assert httpx.get(f"{url}/readyz").json()["checks"]["broker"] == "does not answer"
    eventually(lambda: "its certificate is not trusted" in log_of(api))
    assert worker.running()
    assert reader.dbsize() == 0


def works(url: str, ca_file: Path | None = None) -> set[str]:
    """Which of the uses of a Redis get an answer by this URL."""
    server = read_broker_url("CELERY_BROKER_URL", url, ca_file=str(ca_file) if ca_file else None)
    app, found = make_celery(server, server, result_expires_s=60), set()
    sender = CeleryBroker(app)
    try:
        sender.ping()
        found.add("broker")
    except DependencyUnavailable:
        pass
    try:
        sender.store_results([("task", "item", None)])
        found.add("results")
    except DependencyUnavailable:
        pass
    limiter = RateLimiterServer(server, "reindexer:budget:")
    if limiter.run("account", "look", {}) is not None:
        found.add("rate limiter")
    limiter.close()
    sender.close()
    app.backend.client.close()
    app.close()
    return found


ALL, NONE = {"broker", "results", "rate limiter"}, set[str]()


@pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # Celery's
@pytest.mark.parametrize(
    ("url", "trusts", "expected"),
    [
        ("rediss://localhost:{port}/0", True, ALL),
        ("rediss://localhost:{port}/0", False, NONE),
        ("rediss://localhost:{port}/0?ssl_ca_certs={ca}", False, ALL),
        ("rediss://localhost:{port}/0?ssl_cert_reqs=required&ssl_ca_certs={ca}", False, ALL),
        ("rediss://localhost:{port}/0?ssl_cert_reqs=CERT_REQUIRED", True, ALL),
        ("rediss://localhost:{port}/0?ssl_cert_reqs=none", False, ALL),
        ("rediss://localhost:{port}/0?ssl_cert_reqs=CERT_NONE", False, ALL),
        ("rediss://127.0.0.1:{port}/0", True, NONE),
        ("rediss://127.0.0.1:{port}/0?ssl_check_hostname=false", True, ALL),
        ("redis://localhost:{port}/0", True, NONE),
    ],
)
@pytest.mark.first(5)
def test_all_uses_of_a_redis_agree_on_whom_they_trust(
    reader: redis.Redis, files: Certificates, port: int, url: str, trusts: bool, expected: set[str]
) -> None:
    assert works(url.format(port=port, ca=files.authority), files.authority if trusts else None) == expected


def test_an_authority_that_is_no_file_is_told_in_one_line(here: object, env: Mapping[str, str]) -> None:
    assert callable(here)
    done = here(
        "status", env={**env, "CELERY_BROKER_URL": "rediss://localhost/0", "REINDEXER_BROKER_CA_FILE": "/no/ca"}
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "there is no file /no/ca" in done.stderr
