"""Keys on the command line and in Python; who may write them; roles of an older version."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import timedelta

import psycopg
import pytest
from alembic import command
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

import reindexer
from reindexer import Client, Settings, api_keys
from reindexer.core.api_key import is_key
from reindexer.migrate import alembic_config, migrate
from reindexer.postgres.connect import Connection
from tests.support.commands import Done

Run = Callable[..., Done]


@pytest.fixture
def run(here: Run, env: Mapping[str, str]) -> Run:
    return lambda *arguments: here(*arguments, env=env)


def test_a_key_is_made_shown_once_listed_and_revoked(run: Run, db: Connection) -> None:
    made = run("keys", "create", "shop", "--role", "search", "--source", "context_items", "--filter", "title = Tea",
               "--filter", "metadata.level=2", "--expires", "30d")  # fmt: skip
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    assert is_key(key)
    assert "not shown again" in made.stderr
    found = api_keys.find(db, key)
    assert found is not None
    assert found.access.filter == {"title": "Tea", "metadata.level": 2}
    assert found.left_s == pytest.approx(30 * 86400, abs=60)

    listed = run("keys", "list")
    assert key not in listed.stdout
    (line,) = listed.stdout.splitlines()
    assert line.split("\t")[:5] == ["shop", "search", "context_items", 'title="Tea", metadata.level=2', "live"]
    (told,) = json.loads(run("keys", "list", "--json").stdout)["keys"]
    assert told["expires_at"]
    assert key not in str(told)
    assert "hash" not in told

    assert run("keys", "revoke", "shop").stdout.startswith("shop  revoked")
    assert api_keys.find(db, key) is None
    again = json.loads(run("keys", "create", "shop", "--role", "admin", "--json").stdout)
    assert (again["name"], again["role"], again["state"], is_key(again["key"])) == ("shop", "admin", "live", True)
    assert [each["state"] for each in json.loads(run("keys", "list", "--json").stdout)["keys"]] == ["revoked", "live"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create",), "write `reindexer keys create NAME`"),
        (("revoke",), "write `reindexer keys revoke NAME`"),
        (("create", "k"), "write --role search"),
        (("list", "k"), "takes no name"),
        (("revoke", "k", "--role", "admin"), "takes none of --role"),
        (("revoke", "k"), "no live key is named 'k'"),
        (("create", "k", "--role", "admin", "--expires", "soon"), "90m, 12h or 30d"),
        (("create", "k", "--role", "admin", "--expires", "999999d"), "one second to 3,650 days"),
        (("create", "k", "--role", "search", "--filter", "title=x"), "a filter needs a source"),
        (("create", "k", "--role", "root"), "root"),
    ],
)
def test_a_command_that_can_not_be_meant_is_refused_in_one_line(
    run: Run, arguments: tuple[str, ...], words: str
) -> None:
    done = run("keys", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_python_makes_lists_and_revokes_keys(settings: Settings, db: Connection) -> None:
    with Client(settings) as client:
        made = client.create_key(
            "shop", role="search", source="context_items", filter={"title": "Tea"},
            expires_s=timedelta(days=1).total_seconds(),
        )  # fmt: skip
        assert client.list_keys() == [made.about]
        assert (made.about.state, made.about.filter, made.about.created_by[:7]) == ("live", {"title": "Tea"}, "python ")
        assert api_keys.find(db, made.key) is not None
        with pytest.raises(reindexer.UsageError, match="a live key is named"):
            client.create_key("shop", role="admin")
        client.revoke_key("shop")
        assert [key.state for key in client.list_keys()] == ["revoked"]
        with pytest.raises(reindexer.UsageError, match="no live key"):
            client.revoke_key("shop")


def test_who_only_reads_keys_is_told_who_may_write_them(settings: Settings, db: Connection, database: str) -> None:
    """The role of the API: a client that could make it run SQL would still make no key."""
    db.execute("CREATE ROLE keys_reader LOGIN")
    db.execute(
        "GRANT USAGE ON SCHEMA reindexer TO keys_reader; GRANT SELECT ON ALL TABLES IN SCHEMA reindexer TO keys_reader"
    )
    url = SecretStr(make_conninfo(database, user="keys_reader"))
    try:
        with Client(settings.model_copy(update={"database_url": url})) as client:
            assert client.list_keys() == []
            for act in (lambda: client.create_key("k", role="admin"), lambda: client.revoke_key("k")):
                with pytest.raises(reindexer.UsageError, match="may not write keys"):
                    act()
    finally:
        db.execute("DROP OWNED BY keys_reader; DROP ROLE keys_reader")


def test_the_apis_role_of_the_version_before_may_read_keys_and_no_other_role_may(empty_url: str) -> None:
    migrate(empty_url, with_context_items=True)
    command.downgrade(alembic_config(empty_url), "0008")
    with psycopg.connect(empty_url, autocommit=True) as admin:
        roles = ("key_api", "key_owner", "key_worker")
        for role in roles:
            admin.execute(f"CREATE ROLE {role}".encode())
        try:
            admin.execute(
                "GRANT UPDATE (paused) ON reindexer.source TO key_api; GRANT UPDATE ON reindexer.source TO key_owner;"
                " GRANT SELECT ON reindexer.source TO key_worker"
            )
            migrate(empty_url)
            rights = {
                (role, right) for role in roles for right in ("SELECT", "INSERT", "UPDATE", "DELETE")
                if admin.execute("SELECT has_table_privilege(%s, 'reindexer.api_key', %s)", [role, right]).fetchone() == (True,)
            }  # fmt: skip
            assert rights == {("key_api", "SELECT"), ("key_owner", "SELECT")}
        finally:
            for role in roles:
                admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())
