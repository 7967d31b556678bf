"""docker-compose.yml and Dockerfile, as far as they can be tried without Docker; tests/docker_integration.sh is for the
rest. Our services run here with exactly their commands, their environment and their health checks."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from reindexer import __version__
from reindexer.embedded.children import Children, free_port
from reindexer.monitoring.heartbeat import STALE_S
from reindexer.postgres.connect import connect
from reindexer.testing.processes import log_of
from reindexer.testing.waiting import eventually
from tests.support.compose import COMPOSE, compose, health_command, interpolated, our_service, seconds, services
from tests.support.index_reader import IndexReader
from tests.support.local_services import LocalServices
from tests.support.processes import ROOT
from tests.support.servers import Servers

SERVERS = ("postgres", "redis", "qdrant")
ONE_SHOT = "migrate"
LASTING = ("listener", "celery-worker", "celery-worker-bulk", "api")
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+(\.\d+)?(-[\w.-]+)?")
SECRET = re.compile(r"PASS|SECRET|TOKEN|KEY", re.IGNORECASE)
NO_LITERAL = re.compile(r"\$\{\w+(:-|:\?[^}]*)?\}")


@pytest.fixture
def composed(
    empty_database: str, env: Mapping[str, str], index: IndexReader, tmp_path: Path
) -> Iterator[LocalServices]:
    """`docker compose up` without Docker: `migrate` to its end, then all the others."""
    variables = {**env, "POSTGRES_PASSWORD": "pa$$ word@/:%"}
    rewritten = {
        "DATABASE_URL": empty_database,
        "CELERY_BROKER_URL": env["CELERY_BROKER_URL"],
        "QDRANT_URL": env["QDRANT_URL"],
    }
    directory = tmp_path / "app"
    directory.mkdir()
    with Children(tmp_path / "logs") as children:
        ours = {name: our_service(name, variables) for name in (ONE_SHOT, *LASTING)}
        local = LocalServices(children, ours, rewritten, free_port(), directory)
        migrate = local.start(ONE_SHOT)
        assert migrate.process.wait(timeout=30) == 0, log_of(migrate)
        for name in LASTING:
            local.start(name)
        yield local
        children.stop_together()


def each_eventually(local: LocalServices, *, healthy: bool, within: float) -> None:
    """What every lasting service's check tells, all within the same seconds."""
    until = time.monotonic() + within
    for name in LASTING:
        told = partial(told_as, local, name, healthy)
        what = f"{name}: {local.running[name].last_lines()}"
        eventually(told, within=until - time.monotonic(), every=3 if healthy else 10, what=what)


def told_as(local: LocalServices, name: str, healthy: bool) -> bool:
    return local.healthy(name) == healthy


@pytest.mark.long
@pytest.mark.timeout(240)
def test_the_composed_services_find_an_edit_are_healthy_and_unhealthy_within_a_minute_after_sigstop(
    composed: LocalServices, empty_database: str, env: Mapping[str, str]
) -> None:
    an_edit_is_found(composed, empty_database, env)
    each_eventually(composed, healthy=True, within=30)
    pids = [composed.running[name].process.pid for name in LASTING]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        each_eventually(composed, healthy=False, within=60)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    each_eventually(composed, healthy=True, within=30)


def an_edit_is_found(composed: LocalServices, empty_database: str, env: Mapping[str, str]) -> None:
    with connect(empty_database, application_name="test") as sql:
        sql.execute("INSERT INTO context_items (title, content) VALUES ('first', 'a heron stands in the reeds')")
        eventually(lambda: titles_found(composed, env) == ["first"], within=30, every=0.2)
        sql.execute("UPDATE context_items SET title = 'second', content = 'quarterly tax return'")
        eventually(lambda: titles_found(composed, env) == ["second"], within=10, every=0.05)


def titles_found(local: LocalServices, env: Mapping[str, str]) -> list[str]:
    """What POST /search answers; nothing while it can't."""
    headers = {"X-API-Key": env["REINDEXER_ADMIN_API_KEY"]}
    body = {"source": "context_items", "query": "quarterly tax return"}
    try:
        answer = httpx.post(f"http://127.0.0.1:{local.port}/search", json=body, headers=headers)
    except httpx.ConnectError:
        return []
    return [hit["payload"]["title"] for hit in answer.json()["hits"]] if answer.is_success else []


@pytest.mark.parametrize("name", LASTING)
def test_a_stuck_process_is_told_within_a_minute_however_slow_its_check_is(name: str) -> None:
    check = services()[name]["healthcheck"]
    seen_after_s = 0 if name == "api" else STALE_S
    assert seen_after_s + check["retries"] * (seconds(check["interval"]) + seconds(check["timeout"])) <= 60


def test_the_file_has_exactly_the_services_that_these_tests_know() -> None:
    assert set(services()) == {*SERVERS, ONE_SHOT, *LASTING}


@pytest.mark.parametrize("name", [*SERVERS, *LASTING])
def test_every_lasting_service_has_a_health_check_and_starts_again(name: str) -> None:
    check = services()[name]["healthcheck"]
    assert health_command(check["test"])
    assert set(check) == {"test", "interval", "timeout", "retries", "start_period"}
    assert services()[name]["restart"] == "unless-stopped"


def test_services_start_when_what_they_need_is_healthy() -> None:
    healthy, done = {"condition": "service_healthy"}, {"condition": "service_completed_successfully"}
    assert services()[ONE_SHOT]["depends_on"] == {"postgres": healthy}
    for name in LASTING:
        assert services()[name]["depends_on"] == {**dict.fromkeys(SERVERS, healthy), ONE_SHOT: done}, name


def test_each_worker_checks_its_own_node() -> None:
    for name in ("celery-worker", "celery-worker-bulk"):
        command, test = services()[name]["command"], services()[name]["healthcheck"]["test"]
        assert command[command.index("-n") + 1] == test[test.index("--node") + 1]
    queues = {name: services()[name]["command"][services()[name]["command"].index("-Q") + 1] for name in LASTING[1:3]}
    assert queues == {"celery-worker": "reindexer.live,reindexer.bulk", "celery-worker-bulk": "reindexer.bulk"}


def test_every_image_has_a_pinned_tag_and_the_tests_find_those_of_the_servers() -> None:
    from tests.support.containers import image

    images = {name: service["image"] for name, service in services().items()}
    assert [each for each in images.values() if not PINNED.fullmatch(each)] == []
    assert {image("postgres"), image("redis"), image("qdrant/qdrant")} == {images[name] for name in SERVERS}
    assert {images[name] for name in (ONE_SHOT, *LASTING)} == {f"reindexer:{__version__}"}


def test_what_is_kept_is_on_named_volumes_at_the_paths_of_the_images() -> None:
    assert services()["postgres"]["volumes"] == ["postgres:/var/lib/postgresql"]
    assert services()["qdrant"]["volumes"] == ["qdrant:/qdrant/storage"]
    assert set(compose()["volumes"]) == {"postgres", "qdrant"}


def test_no_secret_is_in_the_file_and_no_port_is_open_to_the_network() -> None:
    for name, service in services().items():
        for key, value in service.get("environment", {}).items():
            if SECRET.search(key):
                assert NO_LITERAL.fullmatch(value), f"{name}: {key}"
            elif "://" in value:
                assert urlsplit(value).password is None, f"{name}: {key}"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    assert not re.search(r"://[^\s/@]*:[^\s$/@]+@", COMPOSE.read_text(encoding="utf-8"))


def test_without_a_secret_compose_refuses_to_start() -> None:
    environment = services()["api"]["environment"]
    for key in ("PGPASSWORD", "REINDEXER_ADMIN_API_KEY"):
        with pytest.raises(KeyError, match="set "):
            interpolated(environment[key], {})


def test_the_check_of_qdrant_knows_a_ready_server_from_another(servers: Servers) -> None:
    def outcome(port: int, path: str) -> int:
        command = [
            word.replace("6333", str(port)).replace("/readyz", path)
            for word in health_command(services()["qdrant"]["healthcheck"]["test"])
        ]
        return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode

    port = urlsplit(servers.qdrant_url).port
    assert port
    assert outcome(port, "/readyz") == 0
    assert outcome(port, "/there-is-no-such-path") != 0
    assert outcome(free_port(), "/readyz") != 0


def dockerfile_stages() -> list[list[tuple[str, str]]]:
    """The instructions of the Dockerfile, by stage."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    stages: list[list[tuple[str, str]]] = []
    for line in lines:
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            stages.append([])
        stages[-1].append((instruction, rest))
    return stages


def test_the_image_is_slim_pinned_and_runs_as_nobody_special() -> None:
    stages = dockerfile_stages()
    for stage in stages:
        base = stage[0][1].split()[0]
        assert PINNED.fullmatch(base), base
        assert "slim" in base
    users = [rest for instruction, rest in stages[-1] if instruction == "USER"]
    assert users
    assert users[-1] not in ("root", "0")
    copied = [rest for instruction, rest in stages[-1] if instruction in ("COPY", "ADD")]
    assert copied == ["--from=build /venv /venv"]


def test_the_image_has_what_keywords_and_traces_need(tmp_path: Path) -> None:
    (run,) = (rest for _, rest in dockerfile_stages()[0] if "dependencies.txt" in rest)
    _, *arguments = shlex.split(run.partition(" > ")[0])
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    done = subprocess.run([sys.executable, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["keywords"], *extras["otel"]]
    assert done.stdout.splitlines() == wanted


def test_the_image_is_built_from_all_that_the_wheel_holds_and_nothing_else() -> None:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    wanted = {"pyproject.toml", "constraints.txt", "LICENSE", project["project"]["readme"], *wheel}
    copies = [rest.split()[:-1] for instruction, rest in dockerfile_stages()[0] if instruction == "COPY"]
    assert set(chain(*copies)) == wanted
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    assert "*" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == wanted
