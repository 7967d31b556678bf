"""What a user sees who gets it wrong: one line that says what to do, the right exit code, no traceback."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import psycopg
import pytest
from qdrant_client import models

from reindexer import __version__
from reindexer.cli.output import rows
from reindexer.core.lanes import Lane
from reindexer.postgres.connect import Connection
from reindexer.queue import requests
from reindexer.testing.provider import FakeProvider, error, refuse_texts
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.commands import CLEAN, Done, reindexer
from tests.support.flow import insert, work
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes

NOWHERE = "postgresql://postgres@127.0.0.1:9/x"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["staus"], "No such command 'staus'. Did you mean 'status'"),
        (["status", "--wach"], "No such option: --wach (Possible options: --watch). See `reindexer status --help`."),
        (["audit", "--limit"], "Option '--limit' requires an argument. See `reindexer audit --help`."),
        (
            ["migrate", "now", "please"],
            "Got more arguments than it takes (now please). See `reindexer migrate --help`.",
        ),
        (["why", "context_items"], "Missing argument 'ID'. See `reindexer why --help`."),
        (["search", "context_items", "x", "--limit", "0"], "Invalid value for '--limit': must be at least 1. See"),
        (["search", "context_items", " "], "is empty"),
        (["search", "context_items", "x", "--min-score", "high"], "Invalid value for '--min-score': must be a number."),
        (["similar", "context_items"], "Missing argument 'ID'. See `reindexer similar --help`."),
        (["health", "nobody"], "Invalid value for 'role': 'nobody' is not one of 'listener', 'worker', 'api'. See"),
        (["up", "--port", "99999"], "Invalid value for '--port': must be at most 65535. See"),
        (["demo", "--limit", "many"], "Invalid value for '--limit': must be a whole number. See"),
        (["backfill"], "Missing argument"),
        (["dead-letters", "bury"], "Invalid value for 'act': 'bury' is not one of 'list', 'replay'. See"),
        (["reconcile", "s", "--max-deletions", "-1"], "Invalid value for '--max-deletions'"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_2(
    here: Callable[..., Done], arguments: list[str], line: str
) -> None:
    done = here(*arguments)
    assert done.returncode == 2
    assert line in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("env", "code", "line"),
    [
        ({"REINDEXER_DATA_DIR": "/tmp/nothing-is-up-here"}, 2, "DATABASE_URL is not set"),
        ({"DATABASE_URL": "mysql://x"}, 2, "DATABASE_URL is not a Postgres URL"),
        ({"DATABASE_URL": NOWHERE}, 1, "Postgres at 127.0.0.1:9/x does not answer"),
        (
            {"DATABASE_URL": NOWHERE, "REINDEXER_BATCH_SIZE": "many"},
            2,
            "REINDEXER_BATCH_SIZE: must be a whole number",
        ),
        (
            {"DATABASE_URL": NOWHERE, "REINDEXER_EMBEDDER": "magic"},
            2,
            "REINDEXER_EMBEDDER: there is no embedder 'magic'; there",
        ),
    ],
)
@pytest.mark.parametrize("command", [["status"], ["why", "s", "1"], ["search", "s", "x"], ["similar", "s", "1"], ["sources"], ["pause"], ["resume"], ["migrate"], ["backfill", "s"], ["reconcile", "s"], ["dead-letters"], ["audit"], ["estimate", "s"], ["adopt"], ["attach", "s", "--table", "t", "--text", "c"], ["detach", "s"]], ids=lambda c: c[0])  # fmt: skip
@pytest.mark.first(40)
def test_wrong_settings_and_dead_databases_are_one_line(
    here: Callable[..., Done], command: list[str], env: dict[str, str], code: int, line: str
) -> None:
    done = here(*command, env=env)
    assert line in done.stderr
    assert done.returncode == code
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [["status"], ["why", "context_items", "1"], ["sources"], ["pause"], ["backfill", "context_items"], ["reconcile", "s"], ["dead-letters"], ["audit"], ["estimate", "s"], ["adopt"], ["attach", "s", "--table", "t", "--text", "c"], ["detach", "s"]], ids=lambda c: c[0])  # fmt: skip
def test_a_database_without_migrations_is_told_what_to_run(
    here: Callable[..., Done], servers: object, env: Mapping[str, str], command: list[str]
) -> None:
    admin = psycopg.conninfo.make_conninfo(env["DATABASE_URL"], dbname="postgres")
    done = here(*command, env={**env, "DATABASE_URL": admin})
    assert (done.returncode, done.stderr) == (
        2,
        "reindexer: the database has no reindexer schema; run `reindexer migrate`\n",
    )


def test_a_missing_table_is_one_line(db: Connection, env: Mapping[str, str]) -> None:
    db.execute("DROP TABLE context_items")
    done = reindexer("migrate", env=env)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (
        1,
        "context_items  source 'context_items': table public.context_items does not exist\n",
        1,
    )
    assert "not all sources can be worked on: context_items; mend them, or" in done.stderr
    assert json.loads(reindexer("status", "--json", env=env).stdout)["triggers"] == "missing"


def test_another_revision_of_the_schema_is_one_line_everywhere(db: Connection, env: Mapping[str, str]) -> None:
    db.execute("UPDATE reindexer.alembic_version SET version_num = '0000'")
    done = reindexer("status", env=env)
    assert done.returncode == 2
    assert "schema revision 0000, this program needs" in done.stderr
    done = reindexer("migrate", env=env)
    assert done.returncode == 2
    assert "Can't locate revision identified by '0000'; is it a newer version's? Then use that version" in done.stderr
    assert done.stderr.count("\n") == 1


def test_unknown_sources_and_items_are_one_line(db: Connection, env: Mapping[str, str], index: IndexReader) -> None:
    for command in (["why", "nothing", "1"], ["backfill", "nothing"]):
        unknown = reindexer(*command, env=env)
        assert (unknown.returncode, unknown.stderr) == (
            2,
            "reindexer: there is no source 'nothing'; attached: context_items\n",
        )
    missing = str(uuid.uuid4())
    absent = reindexer("why", "context_items", missing, env=env)
    assert absent.returncode == 1
    assert f"has no row '{missing}'" in absent.stderr


def test_a_wrong_provider_key_and_a_dead_qdrant_are_one_line(
    db: Connection, env: Mapping[str, str], index: IndexReader, provider: FakeProvider
) -> None:
    provider.behave = lambda call: error(401, "invalid_api_key")
    refused = reindexer("search", "context_items", "x", env=env)
    assert refused.returncode == 1
    assert "401 (invalid_api_key): check OPENAI_API_KEY" in refused.stderr
    provider.behave = lambda call: None
    dead = reindexer("search", "context_items", "x", env={**env, "QDRANT_URL": "http://127.0.0.1:9"})
    assert dead.returncode == 1
    assert "Qdrant at http://127.0.0.1:9 does not answer" in dead.stderr
    assert dead.stderr.count("\n") == refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "undone"),
    [
        (["demo", "--limit", "1"], "nothing was embedded"),
        (["migrate", "--uninstall"], "nothing was changed"),
        (["migrate", "--uninstall", "--json"], "nothing was changed"),
    ],
)
def test_a_question_that_nobody_can_answer_is_told_with_the_option_that_does(
    here: Callable[..., Done], db: Connection, env: Mapping[str, str], command: list[str], undone: str
) -> None:
    done = here(*command, env=env)
    assert (done.returncode, done.stderr) == (
        1,
        f"reindexer: {undone}; if that is meant, say --yes: there is no terminal to ask at\n",
    )
    assert "[y/N]" not in done.stdout
    assert db.execute("SELECT count(*) FROM reindexer.source").fetchone() == (1,)


def test_detach_tells_that_the_collection_is_left_where_qdrant_does_not_answer(
    db: Connection, env: Mapping[str, str], here: Callable[..., Done]
) -> None:
    done = here("detach", "context_items", "--drop-collection", env={**env, "QDRANT_URL": "http://127.0.0.1:9"})
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "context_items is detached (0 items); its collection context_items__g1 is left" in done.stderr
    assert "does not answer" in done.stderr


def test_a_collection_of_other_dimensions_is_told_by_status_and_search(
    db: Connection, env: Mapping[str, str], index: IndexReader, worker: Worker
) -> None:
    index.client.create_collection(
        "context_items", vectors_config=models.VectorParams(size=8, distance=models.Distance.COSINE)
    )
    insert(db, "text")
    work(db, worker)
    shown = json.loads(reindexer("status", "--json", env=env).stdout)
    assert "of 8 dimensions that is not ours" in shown["sources"]["context_items"]["problem"]
    searched = reindexer("search", "context_items", "x", env=env)
    assert (searched.returncode, searched.stdout) == (0, "")
    assert "of 8 dimensions that is not ours" in searched.stderr
    assert searched.stderr.count("\n") == 1


def test_paused_work_waits_and_is_done_after_resume(
    db: Connection, env: Mapping[str, str], processes: Processes, index: IndexReader
) -> None:
    processes.listener()
    processes.worker()
    assert reindexer("pause", "context_items", env=env).returncode == 0
    item_id = insert(db, "text")
    eventually(lambda: json.loads(reindexer("status", "--json", env=env).stdout)["pending"] == 1)
    assert "its source is paused" in reindexer("why", "context_items", item_id, env=env).stdout
    assert index.count() == 0
    assert reindexer("resume", "--json", env=env).stdout == '{"context_items": "at work"}\n'
    eventually(lambda: index.count() == 1)


def test_output_has_no_colours_where_there_is_no_terminal(db: Connection, env: Mapping[str, str]) -> None:
    assert "\x1b" not in reindexer("status", env=env).stdout


def test_the_version_is_told(here: Callable[..., Done]) -> None:
    assert here("--version").stdout == f"reindexer {__version__}\n"


def test_to_a_pipe_each_row_is_one_line_whose_values_are_whole_and_parted_by_tabs(
    db: Connection, env: Mapping[str, str], worker: Worker, provider: FakeProvider, here: Callable[..., Done]
) -> None:
    db.execute("CREATE TABLE words (id text PRIMARY KEY, body text)")
    key = "a long key, " * 30 + "\n\tand its end"
    assert here("attach", "words", "--table", "words", "--text", "body", env=env).returncode == 0
    db.execute("INSERT INTO words VALUES (%s, 'text')", [key])
    provider.behave = refuse_texts
    work(db, worker)
    (letter,) = here("dead-letters", env=env).stdout.splitlines()
    source, shown, _, _, again, why = letter.split("\t")
    assert (source, shown) == ("words", key.replace("\n", "\\n").replace("\t", "\\t"))
    assert again == "when replayed: its cause lasts"
    assert "400 (invalid_input)" in why
    provider.behave = lambda call: None
    assert here("dead-letters", "replay", env=env).returncode == 0
    work(db, worker)
    (hit,) = here("search", "words", "-text", "--limit", "1", env=env).stdout.splitlines()
    assert hit.split("\t")[1] == shown
    assert ["words", "table", "public.words"] in [
        line.split("\t") for line in here("sources", env=env).stdout.splitlines()
    ]
    assert "outbox\t0" in here("status", env=env).stdout.splitlines()
    assert all(len(line.split("\t")) == 5 for line in here("audit", env=env).stdout.splitlines())


def test_on_a_narrow_terminal_no_id_is_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("FORCE_COLOR", "1")
    item_id = str(uuid.uuid4())
    rows(("source", "item", "why"), [("context_items", item_id, "a reason of many words " * 9)], whole=["item"])
    shown = capsys.readouterr().out
    assert item_id in shown
    assert "…" not in shown


def test_a_negative_id_is_no_option_and_why_tells_each_request_on_a_line(
    db: Connection, env: Mapping[str, str], worker: Worker, here: Callable[..., Done]
) -> None:
    db.execute("CREATE TABLE numbers (id int PRIMARY KEY, body text)")
    assert here("attach", "numbers", "--table", "numbers", "--text", "body", env=env).returncode == 0
    db.execute("INSERT INTO numbers VALUES (-1, 'text')")
    for request in ("first", "second"):
        requests.record(db, "numbers", [requests.ReindexRequest(request, "-1")], lane=Lane.BULK, sent=True)
    work(db, worker)
    shown = here("why", "numbers", "-1", env=env).stdout
    assert re.findall(r"^  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d  (\w+)  (\w+)$", shown, re.MULTILINE) == [
        ("second", "SUCCESS"), ("first", "SUCCESS"),
    ]  # fmt: skip


def test_what_an_event_trigger_says_is_told(db: Connection, env: Mapping[str, str], here: Callable[..., Done]) -> None:
    db.execute("CREATE TABLE words (id text PRIMARY KEY, body text)")
    db.execute(
        "CREATE FUNCTION frozen() RETURNS event_trigger LANGUAGE plpgsql AS"
        " $$BEGIN RAISE EXCEPTION 'frozen until Monday, ask the DBA'; END$$"
    )
    db.execute(
        "CREATE EVENT TRIGGER frozen ON ddl_command_start WHEN TAG IN ('CREATE FUNCTION') EXECUTE FUNCTION frozen()"
    )
    done = here("attach", "words", "--table", "words", "--text", "body", env=env)
    assert (done.returncode, done.stderr) == (
        1,
        "reindexer: source 'words': the database refuses it: frozen until Monday, ask the DBA\n",
    )


def test_named_vectors_under_our_collections_name_are_told(
    db: Connection, env: Mapping[str, str], index: IndexReader, worker: Worker
) -> None:
    named = {"a": models.VectorParams(size=32, distance=models.Distance.COSINE)}
    index.client.create_collection("context_items__g1", vectors_config=named)
    insert(db, "text")
    work(db, worker)
    (problem,) = db.execute("SELECT problem FROM reindexer.source").fetchone() or ("",)
    assert problem.startswith("Qdrant collection 'context_items__g1' holds named vectors, and ours have none")


def test_shell_completion_knows_the_commands(env: Mapping[str, str]) -> None:
    words = {"_REINDEXER_COMPLETE": "complete_bash", "COMP_WORDS": "reindexer stat", "COMP_CWORD": "1"}
    program = Path(sys.executable).with_name("reindexer")
    done = subprocess.run([str(program)], env={**CLEAN, **words}, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["status"]
