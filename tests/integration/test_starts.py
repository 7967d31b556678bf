"""A hopeless start of a listener, a worker or an API: one clear line and the right exit code, no traceback."""

from __future__ import annotations

from collections.abc import Mapping

import psycopg
import pytest

from reindexer.postgres.connect import Connection
from reindexer.postgres.schema import REVISION
from tests.support.commands import ROLES, start


@pytest.mark.parametrize("role", ROLES)
def test_without_a_database_url(role: str) -> None:
    code, line = start(role, {"CELERY_BROKER_URL": "redis://127.0.0.1:9/0", "QDRANT_URL": "http://127.0.0.1:9"})
    assert (code, "DATABASE_URL is not set" in line) == (2, True)


@pytest.mark.parametrize("role", ROLES)
def test_with_a_wrong_value_of_a_setting(role: str, env: Mapping[str, str]) -> None:
    code, line = start(role, {**env, "REINDEXER_LEASE_S": "1"})
    assert (code, "REINDEXER_LEASE_S: must be at least 2" in line) == (2, True)


@pytest.mark.parametrize("role", ["worker", "api"])
def test_without_an_embedder(role: str, env: Mapping[str, str], db: Connection) -> None:
    """One that is guessed would make vectors that mean something else."""
    code, line = start(role, {**env, "OPENAI_API_KEY": ""})
    assert (code, "no embedder is set: give this process what the workers have, OPENAI_API_KEY" in line) == (2, True)


@pytest.mark.parametrize("role", ROLES)
def test_on_a_database_without_migrations(role: str, env: Mapping[str, str]) -> None:
    code, line = start(
        role, {**env, "DATABASE_URL": psycopg.conninfo.make_conninfo(env["DATABASE_URL"], dbname="postgres")}
    )
    assert (code, "run `reindexer migrate`" in line) == (2, True)


@pytest.mark.parametrize("role", ROLES)
def test_of_another_version_than_the_schema(role: str, env: Mapping[str, str], db: Connection) -> None:
    db.execute("UPDATE reindexer.alembic_version SET version_num = '0999'")
    code, line = start(role, env)
    assert (code, f"is at schema revision 0999, this program needs {REVISION}" in line) == (2, True)


@pytest.mark.parametrize("role", ["listen", "worker"])
def test_with_a_postgres_that_does_not_answer(role: str, env: Mapping[str, str]) -> None:
    code, line = start(role, {**env, "DATABASE_URL": "postgresql://postgres@127.0.0.1:9/x"})
    assert (code, "Postgres at 127.0.0.1:9/x does not answer" in line) == (1, True)
