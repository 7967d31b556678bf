"""`up` with servers that it is given and that do not answer: it says so at once, and starts nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from reindexer.cli.given_servers import require_answers
from reindexer.cli.output import Failed
from reindexer.embedded.children import free_port
from reindexer.settings import Settings
from reindexer.testing.proxy import Mode, Proxy
from tests.support.commands import reindexer

URLS = {
    "DATABASE_URL": "postgresql://127.0.0.1:{}/x",
    "CELERY_BROKER_URL": "redis://127.0.0.1:{}/0",
    "QDRANT_URL": "http://127.0.0.1:{}",
}


@pytest.fixture
def alive(env: Mapping[str, str]) -> Mapping[str, str]:
    """The URLs of servers that answer, by setting."""
    postgres = conninfo_to_dict(env["DATABASE_URL"])
    url = "postgresql://{user}@{host}:{port}/{dbname}".format_map(postgres)
    return {**{name: env[name] for name in URLS}, "DATABASE_URL": url}


def test_up_names_all_given_servers_that_do_not_answer_and_starts_nothing(directory: Path) -> None:
    dead = {name: url.format(free_port()) for name, url in URLS.items()}
    started = time.monotonic()
    done = reindexer("up", "--data-dir", str(directory), "--port", str(free_port()), env=dead)
    assert time.monotonic() - started < 30  # with imports, on a busy machine; a start is waited for for 60 s
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert [name for name in dead if f"{name}: " in done.stderr] == list(dead)
    assert done.stderr.count("does not answer") == 3
    assert not list((directory / "logs").iterdir())


def test_one_given_server_that_does_not_answer_keeps_the_embedded_ones_from_being_started(directory: Path) -> None:
    dead = {"QDRANT_URL": URLS["QDRANT_URL"].format(free_port())}
    done = reindexer("up", "--data-dir", str(directory), "--port", str(free_port()), env=dead)
    assert done.stderr == f"reindexer: QDRANT_URL: Qdrant at {dead['QDRANT_URL']} does not answer: ConnectError\n"
    assert not (directory / "postgres").exists()


@pytest.mark.parametrize("name", URLS)
@pytest.mark.first(1)
def test_a_given_server_that_accepts_and_stays_silent_is_not_waited_for_long(
    alive: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with Proxy.before(alive[name]) as proxy:
        proxy.mode = Mode.STALL
        silent = proxy.instead(alive[name])
        monkeypatch.setenv(name, silent)
        settings, started = Settings.from_environment(), time.monotonic()
        with pytest.raises(Failed, match=rf"^{name}: .*does not answer"):
            require_answers(settings, {name: silent})
        assert time.monotonic() - started < 15


@pytest.mark.parametrize("name", URLS)
def test_a_given_server_that_is_only_just_being_started_is_asked_again(
    alive: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with Proxy.before(alive[name]) as proxy:
        proxy.mode = Mode.REFUSE
        url = proxy.instead(alive[name])
        monkeypatch.setenv(name, url)
        answers = threading.Timer(0.5, lambda: setattr(proxy, "mode", Mode.PASS))
        answers.start()
        require_answers(Settings.from_environment(), {name: url})
        answers.join()
