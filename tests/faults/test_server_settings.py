"""Settings of database, role and environment: none of them decides what is read, or what a statement of ours means."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager

import httpx
import psycopg
import pytest
from alembic import command
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from reindexer.core.errors import UsageError
from reindexer.core.fingerprint import digest
from reindexer.core.source import Source
from reindexer.migrate import alembic_config, migrate
from reindexer.monitoring.status import status
from reindexer.postgres.connect import Connection, connect
from reindexer.postgres.schema import require_schema
from reindexer.queue.drain import drain
from reindexer.settings import Settings
from reindexer.sources.attach import attach
from reindexer.sources.condition import count
from reindexer.sources.key_pages import key_page
from reindexer.sources.keys import canonical_id
from reindexer.sources.rows import find_rows
from reindexer.sources.store import find_source
from reindexer.testing.processes import log_of
from reindexer.testing.provider import FakeProvider
from reindexer.testing.waiting import eventually
from reindexer.wiring import worker as make_worker
from tests.support.commands import Done
from tests.support.flow import Flow, idle
from tests.support.index_reader import IndexReader
from tests.support.pooler import pooler
from tests.support.processes import ROOT, Processes
from tests.support.proxy import cable
from tests.support.servers import Servers, database_url

pytestmark = pytest.mark.long

READING = {
    "TimeZone": "Asia/Kathmandu",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "iso_8601",
    "extra_float_digits": "-5",
    "bytea_output": "escape",
    "xmlbinary": "hex",
    "xmloption": "document",
    "timezone_abbreviations": "Australia",
    "client_encoding": "LATIN1",
    "row_security": "on",
    "search_path": "nowhere",
    "backslash_quote": "off",
    "escape_string_warning": "on",
    "check_function_bodies": "off",
    "plan_cache_mode": "force_custom_plan",
}
"""By which a value may read otherwise, or which are set otherwise here and there."""

MEANING = {
    "standard_conforming_strings": "off",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "quote_all_identifiers": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
}
"""By which a statement means something else."""

LIMITS = {
    "statement_timeout": "2ms",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "2ms",
    "idle_session_timeout": "50ms",
    "transaction_timeout": "20ms",
    "default_transaction_deferrable": "on",
    "exit_on_error": "on",
}
"""By which a session or a statement ends early, or waits."""

ENVIRONMENT = {
    "PGTZ": "America/St_Johns",
    "PGDATESTYLE": "German",
    "PGCLIENTENCODING": "SQL_ASCII",
    "PGOPTIONS": "-c statement_timeout=2ms -c extra_float_digits=-9 -c array_nulls=off",
}

TABLE = r"""
    CREATE TYPE pair AS (at timestamptz, ratio float8);
    CREATE TABLE odd (
        id int PRIMARY KEY, body text, at timestamptz, day date, span interval, ratio float8, bits bytea, during tstzrange,
        pair pair, times timestamptz[], price numeric
    );
    CREATE TABLE folders (owner uuid, path text, number bigint, body text, PRIMARY KEY (owner, path, number));
    INSERT INTO odd SELECT n, 'room ' || n || ' zimmer für ž', '2026-03-04 05:06:07.8+00', '2026-03-04', '1 year 2 days 03:04', 1 / 3e0,
        '\x00ff5c', '[2026-01-01 00:00+00,)', ROW('2026-03-04 05:06+00'::timestamptz, 0.1::float8)::pair, '{2026-03-04 05:06+00}', 0.1
        FROM generate_series(1, 3) AS n;
    INSERT INTO odd VALUES (4, 'no number');
"""

ODD = Source(
    "odd", "public", "odd", ("id",), ("body", "at", "span", "bits"),
    ("day", "at", "ratio", "during", "pair", "times", "price"),
    condition=r"body ~ '\d' AND at > '2026-03-04 02:00'", condition_columns=("body", "at"),
)  # fmt: skip
FOLDERS = Source("folders", "public", "folders", ("owner", "path", "number"), ("body",))
FOLDER = r"INSERT INTO folders VALUES ('11111111-1111-1111-1111-111111111111', E'C:\\\\a ''b'' ž', 7, 'a')"


@pytest.fixture
def odd(db: Connection) -> Connection:
    db.execute(TABLE.encode())
    for source in (ODD, FOLDERS):
        attach(db, source)
    db.execute(FOLDER.encode())
    return db


def reading(connection: Connection) -> str:
    """A hash of all that is read of a user's rows."""
    odd, folders = find_source(connection, "odd"), find_source(connection, "folders")
    ids = key_page(connection, odd, None, 10, timeout_s=5).item_ids
    keys = key_page(connection, folders, None, 10, timeout_s=5).item_ids
    rows = {**find_rows(connection, odd, ids).rows, **find_rows(connection, folders, keys).rows}
    assert len(rows) == 4
    assert [canonical_id(connection, folders, key) for key in keys] == list(keys)
    assert count(connection, odd, None) == (3, False)
    status(connection)
    return digest([[item_id, row.text, row.payload] for item_id, row in rows.items()])


@contextmanager
def set_otherwise(url: str, settings: Mapping[str, str], *, of_role: bool = False) -> Iterator[None]:
    """Connections that are made meanwhile begin with these."""
    name = str(conninfo_to_dict(url)["dbname"])
    whose = "ROLE postgres IN DATABASE" if of_role else "DATABASE"
    with connect(url, application_name="test") as admin:
        for setting, value in settings.items():
            if setting == "transaction_timeout" and admin.info.server_version < 170_000:
                continue
            statement = sql.SQL("ALTER " + whose + " {} SET {} = {}")
            admin.execute(statement.format(sql.Identifier(name), sql.Identifier(setting), sql.Literal(value)))
        yield
        admin.execute(sql.SQL("ALTER " + whose + " {} RESET ALL").format(sql.Identifier(name)))


@pytest.mark.parametrize(
    "of_role", [pytest.param(False, id="of the database", marks=pytest.mark.long), pytest.param(True, id="of the role")]
)
def test_a_row_reads_the_same_whatever_a_session_is_set_to(odd: Connection, database: str, of_role: bool) -> None:
    expected = reading(odd)
    wrong = {}
    for setting, value in {**READING, **MEANING, **LIMITS}.items():
        with set_otherwise(database, {setting: value}, of_role=of_role):
            try:
                with connect(database, application_name="test") as connection:
                    require_schema(connection)
                    if (found := reading(connection)) != expected:
                        wrong[setting] = found
            except Exception as exc:  # noqa: BLE001  each is told beside its setting
                wrong[setting] = repr(exc)
    assert wrong == {}


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_a_row_reads_the_same_whatever_the_environment_says(
    odd: Connection, database: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    expected = reading(odd)
    monkeypatch.setenv(name, ENVIRONMENT[name])
    with connect(database, application_name="test") as connection:
        assert reading(connection) == expected


def test_behind_a_pooler_a_row_reads_the_same_and_what_can_not_be_helped_is_told_in_one_line(
    odd: Connection, database: str
) -> None:
    expected = reading(odd)
    proxy, url = cable(database, pooler)
    wrong = {}
    with proxy:
        connect(url, application_name="test").close()  # notices the pooler
        for setting, value in READING.items():
            with set_otherwise(database, {setting: value}), connect(url, application_name="test") as connection:
                require_schema(connection)
                try:
                    if (found := reading(connection)) != expected:
                        wrong[setting] = found
                    connection.execute("SELECT clock_timestamp(), ARRAY[now()]").fetchone()
                except Exception as exc:  # noqa: BLE001
                    wrong[setting] = repr(exc)
                row = connection.execute("SELECT current_setting(%s)", [setting]).fetchone()
                if setting != "client_encoding" and row != (value,):
                    wrong[setting] = f"{row} stays behind in the pool"
        for setting, value in MEANING.items():
            told = f"^{setting} is '{value}' by default, and a pooler .* SET {setting}"
            with (
                set_otherwise(database, {setting: value}),
                connect(url, application_name="test") as connection,
                pytest.raises(UsageError, match=told),
            ):
                require_schema(connection)
    assert wrong == {}


def test_a_key_is_recorded_as_we_read_it_whatever_the_writers_session_is_set_to(odd: Connection, database: str) -> None:
    expected = list(key_page(odd, FOLDERS, None, 10, timeout_s=5).item_ids)
    settings = {**READING, **MEANING, "default_transaction_read_only": "off", "client_encoding": "UTF8"}
    statements = (
        "UPDATE folders SET body = 'b'",
        "UPDATE folders SET body = 'c' WHERE number = 7",
        "DELETE FROM folders",
    )
    with set_otherwise(database, settings | {"search_path": "public"}), psycopg.connect(database) as user:
        for statement in (*statements, FOLDER):
            drain(odd)
            odd.execute("DELETE FROM reindexer.due")
            user.execute(statement.encode())
            user.commit()
            drain(odd)
            assert [item_id for (item_id,) in odd.execute("SELECT item_id FROM reindexer.due")] == expected, statement


def test_a_whole_stack_works_while_everything_is_set_otherwise(
    db: Connection, database: str, processes: Processes, index: IndexReader, env: Mapping[str, str],
    here: Callable[..., Done],
) -> None:  # fmt: skip
    """From taking the program out and putting it in again to each command; what it leaves is right for a plain session."""
    hostile = {**env, **ENVIRONMENT}
    with set_otherwise(database, READING | LIMITS), set_otherwise(database, MEANING, of_role=True):

        def done(*arguments: str) -> Done:
            found = here(*arguments, env=hostile)
            assert found.returncode == 0, found.stderr
            return found

        done("migrate", "--uninstall", "--yes")
        done("migrate")
        db.execute(TABLE.encode())
        done(
            "attach", "odd", "--table", "public.odd", "--text", "body", "--payload", "at", "--where", str(ODD.condition)
        )
        done("attach", "folders", "--table", "public.folders", "--text", "body")
        processes.env |= ENVIRONMENT
        children = [processes.listener(), processes.worker()]
        api, url = processes.api()
        db.execute(FOLDER.encode())
        db.execute("UPDATE odd SET body = body || '!'")
        eventually(lambda: idle(db), within=30)
        for source, items in (("odd", 3), ("folders", 1)):
            assert IndexReader(index.client, source).count() == items
            compared = json.loads(done("reconcile", source, "--json").stdout)
            assert (compared["equal"], compared["rows"]) == (True, items)
        assert json.loads(done("status", "--json").stdout)["failed"] == 0
        assert json.loads(done("why", "odd", "2", "--json").stdout)["status"] == "COMPLETED"
        done("estimate", "odd")
        done("backfill", "odd", "--where", "at > '2026-03-04 05:00'")
        done("search", "odd", "room")
        done("dead-letters", "list")
        done("audit")
        headers = {"X-API-Key": "test-admin-key"}
        for path in ("admin/status", "admin/items/odd/2", "readyz", "admin/backfills", "metrics"):
            answer = httpx.get(f"{url}/{path}", headers=headers, timeout=10)
            assert answer.is_success, f"{path}: {answer.text}"
        for child in (*children, api):
            assert "Traceback" not in log_of(child)
            assert "_fails" not in log_of(child)
    for source in ("odd", "folders"):
        assert json.loads(here("reconcile", source, "--json", env=env).stdout)["equal"], "for a plain session as well"


@pytest.fixture
def in_encoding(servers: Servers) -> Iterator[Callable[[str], str]]:
    """Makes a database of an encoding, and gives its URL."""
    with psycopg.connect(servers.database_url, autocommit=True) as admin:
        made: list[str] = []

        def make(encoding: str) -> str:
            made.append(f"rx_{encoding.lower()}_{uuid.uuid4().hex[:8]}")
            options = f"ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
            admin.execute(f"CREATE DATABASE {made[-1]} {options}".encode())
            return database_url(servers, made[-1])

        yield make
        for name in made:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def test_a_database_of_another_encoding_works(
    in_encoding: Callable[[str], str], settings: Settings, provider: FakeProvider
) -> None:
    url = in_encoding("LATIN1")
    migrate(url)
    worker = make_worker(settings.model_copy(update={"database_url": SecretStr(url)}), None)
    with connect(url, application_name="test") as db, closing(worker):
        db.execute("CREATE TABLE orte (name text PRIMARY KEY, body text, meta json)")
        attach(db, Source("orte", "public", "orte", ("name",), ("body",), ("meta",)))
        db.execute("""INSERT INTO orte VALUES ('Köln', 'straße', '{"ü": "é"}')""")
        flow = Flow(db, worker)
        eventually(flow.settles)
        assert provider.inputs == ["straße"]
        found = find_source(db, "orte")
        assert (canonical_id(db, found, "Köln"), canonical_id(db, found, "Łódź")) == ("Köln", None)
        rows = find_rows(db, found, ["Köln", "Łódź", "nowhere"])
        assert rows.rows["Köln"].payload == {"meta": {"ü": "é"}}
        assert rows.impossible == {"Łódź"}


def test_a_database_of_no_encoding_is_refused_in_one_line(
    in_encoding: Callable[[str], str], here: Callable[..., Done]
) -> None:
    done = here("migrate", env={"DATABASE_URL": in_encoding("SQL_ASCII")})
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "has the encoding SQL_ASCII" in done.stderr


def test_no_statement_of_ours_needs_an_encoding() -> None:
    for folder in ("reindexer/postgres/sql", "migrations/sql"):
        for file in (ROOT / folder).glob("*.sql"):
            assert file.read_text(encoding="utf-8").isascii(), file


def test_an_upgrade_looks_once_at_what_read_otherwise_before(odd: Connection, database: str) -> None:
    """A key is printed alike everywhere, and so is text: those sources have nothing to look at."""
    for zone, looked_at in (("UTC", []), ("Asia/Kathmandu", ["odd"])):
        odd.execute("UPDATE reindexer.run SET finished_at = now(), state = 'finished'")
        with set_otherwise(database, {"TimeZone": zone}):
            command.downgrade(alembic_config(database), "0004")
            command.upgrade(alembic_config(database), "head")
        runs = odd.execute("SELECT source FROM reindexer.run WHERE finished_at IS NULL AND kind = 'whole_source'")
        assert [source for (source,) in runs] == looked_at
