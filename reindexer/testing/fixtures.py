"""Pytest fixtures. In a `conftest.py`: `pytest_plugins = ["reindexer.testing.fixtures"]`.

They start servers of their own, from the extra `embedded`. Servers that the environment or `.env` names are not used: a
test must not write to them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from reindexer.cli.up import running_stack
from reindexer.embedded.children import free_port
from reindexer.monitoring.status import status
from reindexer.postgres.connect import connect
from reindexer.testing.provider import FakeProvider
from reindexer.testing.waiting import eventually

OF_OTHERS = (
    "DATABASE_URL", "REINDEXER_LISTEN_DATABASE_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "REDIS_URL",
    "QDRANT_URL", "QDRANT_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL",
)  # fmt: skip
"""Settings that name servers or hold keys. The stack gets none of them."""


@dataclass(frozen=True, slots=True)
class RunningStack:
    """A stack that is up: Postgres, Redis, Qdrant, a listener, a worker and the API."""

    api: str
    """The URL of the API."""
    admin_api_key: str
    env: Mapping[str, str]
    """The settings for other processes and commands, for example DATABASE_URL."""

    @property
    def database_url(self) -> str:
        """Where the application puts its tables."""
        return self.env["DATABASE_URL"]

    def wait_until_idle(self, *, within: float = 30.0) -> None:
        """Return when every change that was committed before can be found. `within`: seconds."""
        with connect(self.database_url, application_name="reindexer test") as connection:

            def idle() -> bool:
                found = status(connection)
                return not (found.outbox or found.pending or found.processing or found.healing)

            eventually(idle, within=within, what="nothing left to do")


@pytest.fixture(scope="session")
def reindexer_settings() -> Mapping[str, str]:
    """The settings of `reindexer_stack`, by variable. Override it to choose another embedder."""
    return {"REINDEXER_EMBEDDER": "static"}


@pytest.fixture(scope="session")
def reindexer_stack(reindexer_settings: Mapping[str, str]) -> Iterator[RunningStack]:
    """The whole stack, once a session."""
    with tempfile.TemporaryDirectory(prefix="rxt-") as folder, pytest.MonkeyPatch.context() as environment:
        Path(folder).chmod(0o755)  # started by root, Postgres runs as another user
        for name in OF_OTHERS:
            environment.setenv(name, "")  # `.env` would be read where it is not set at all
        for name, value in reindexer_settings.items():
            environment.setenv(name, value)
        with running_stack(Path(folder), "127.0.0.1", free_port(), lambda _: None) as running:
            yield RunningStack(running.api, running.key, dict(running.stack.env))


@pytest.fixture
def reindexer_provider() -> Iterator[FakeProvider]:
    """An embedding provider on loopback: its `url` is for OPENAI_BASE_URL."""
    running = FakeProvider()
    yield running
    running.close()
