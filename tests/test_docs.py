"""The documentation is true: what exists is told, what is told exists, and its commands are run as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Mapping
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import typer
from psycopg.conninfo import make_conninfo

import reindexer
from api.main import app as api
from reindexer import api_keys
from reindexer.backfills.pager import walk_page
from reindexer.cli import app as cli
from reindexer.embedded.children import Children, free_port
from reindexer.logs import FORMER_EVENTS
from reindexer.monitoring import history
from reindexer.monitoring.metrics import FORMER_NAMES as FORMER_METRICS
from reindexer.postgres.connect import Connection, connect
from reindexer.queue.dead_letters import heal
from reindexer.queue.drain import drain
from reindexer.queue.maintenance import forget
from reindexer.settings import FOR_TESTS, FORMER_NAMES
from reindexer.sources.store import find_source
from reindexer.testing.waiting import eventually
from tests.support.docs import (
    DOCUMENTS,
    Block,
    Reader,
    anchors,
    blocks,
    program,
    sections,
    settings_and_defaults,
    table_rows,
    without_blocks,
)
from tests.support.events import listen
from tests.support.forks import forked_python
from tests.support.index_reader import IndexReader
from tests.support.processes import ROOT, Processes
from tests.support.provider_kinds import KINDS
from tests.support.receiver import Receiver
from tests.support.rooms import room

README, DOCS = ROOT / "README.md", ROOT / "docs"
FOR_CONTRIBUTORS = (ROOT / "CONTRIBUTING.md", *sorted((ROOT / ".github").rglob("*.md")))

ALL_BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]
SKIPPED = [block for block in ALL_BLOCKS if block.mark == "skip"]

BESIDE_PROCESSES = ("api.md", "generations.md", "events.md", "runbook.md", "sources.md", "cli.md", "operations.md")

OWN_NAMES = {"REINDEXER_TEST_DATABASE_URL", "REINDEXER_TEST_REDIS_URL", "REINDEXER_TEST_QDRANT_URL",
             "REINDEXER_TEST_QDRANT_GRPC_PORT", "REINDEXER_TEST_STACK", "REINDEXER_TEST_RABBITMQ_URL",
             "REINDEXER_TEST_RABBITMQ_QUORUM_URL"}  # fmt: skip
"""Of the tests, not of the program."""


def test_every_setting_is_documented_with_its_default_and_none_that_does_not_exist() -> None:
    rows = table_rows((DOCS / "configuration.md").read_text(encoding="utf-8"))
    documented = {name: default.split(" (")[0] for name, default, *_ in rows}
    assert documented == settings_and_defaults()
    assert all(meaning for _, _, meaning in rows)


def test_the_short_table_of_the_readme_agrees_with_the_settings() -> None:
    rows = table_rows(sections(README, 2)["Settings"])
    known = settings_and_defaults()
    assert len(rows) > 5
    assert [(name, default.split(" (")[0]) for name, default, *_ in rows] == [(row[0], known[row[0]]) for row in rows]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_no_document_names_a_setting_that_does_not_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = set(re.findall(r"\b(?:REINDEXER|QDRANT|CELERY|OPENAI|DATABASE)_[A-Z_]*[A-Z]\b", text))
    former = FORMER_NAMES.keys() | FOR_TESTS if document == ROOT / "CHANGELOG.md" else set()
    assert named <= settings_and_defaults().keys() | OWN_NAMES | former


def test_the_providers_that_were_tried_are_those_of_which_there_is_a_fake() -> None:
    lines = [line for line in sections(DOCS / "providers.md", 2)["Tried"].splitlines() if line.startswith("| ")]
    assert [line.split("|")[1].strip() for line in lines] == ["server", "---", *KINDS]


def test_every_command_and_option_is_documented_and_none_that_does_not_exist() -> None:
    program = typer.main.get_command(cli)
    assert isinstance(program, typer.core.TyperGroup)
    documented = {title.removeprefix("reindexer "): body for title, body in sections(DOCS / "cli.md", 2).items()
                  if title.startswith("reindexer ")}  # fmt: skip
    assert documented.keys() == {name for name, command in program.commands.items() if not command.hidden}
    for name, command in program.commands.items():
        real = {option for each in command.params if each.param_type_name == "option" and not getattr(each, "hidden", False)
                for option in (*each.opts, *each.secondary_opts)}  # fmt: skip
        assert {row[0].split()[0] for row in table_rows(documented[name])} == real, name
    everywhere = {option for each in program.params for option in each.opts}
    assert {
        row[0].split()[0] for row in table_rows(sections(DOCS / "cli.md", 2)["Options of the program"])
    } == everywhere


def test_every_route_is_documented_with_an_example_and_none_that_does_not_exist() -> None:
    real = {f"{method.upper()} {path}" for path, methods in api.openapi()["paths"].items() for method in methods}
    document = DOCS / "api.md"
    assert {title for title in sections(document, 3) if re.match(r"[A-Z]+ /", title)} == real
    examples = "".join(block.text for block in blocks(document) if block.language == "sh")
    for route in real:
        method, path = route.split()
        pattern = re.sub(r"\\\{[^}]*\\\}", r"[^/\\s\"]+", re.escape(path))
        calls = [
            call for call in re.split(r"\n(?=\S)", examples) if re.search(rf"localhost:8000{pattern}(?![\w/-])", call)
        ]
        verb = {
            "GET": r"^(?!.*(-X|-d ))",
            "POST": r"-d |-X POST",
            "PATCH": "-X PATCH",
            "PUT": "-X PUT",
            "DELETE": "-X DELETE",
        }[method]
        assert any(re.search(verb, call, re.DOTALL) for call in calls), f"no example of {route}"


def test_every_test_that_a_document_names_exists() -> None:
    named = {name for document in DOCUMENTS for name in re.findall(r"\btest_\w+", without_blocks(document))}
    ours = "\n".join(file.read_text("utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    exist = {
        *re.findall(r"^def (test_\w+)", ours, re.MULTILINE),
        *(f.stem for f in (ROOT / "tests").rglob("test_*.py")),
    }
    assert len(named) > 50
    assert named <= exist, sorted(named - exist)


def test_the_templates_ask_for_commands_that_exist() -> None:
    commands = {*typer.main.get_group(cli).commands, "--version"}
    for document in FOR_CONTRIBUTORS[1:]:
        named = set(re.findall(r"`reindexer ([a-z-]+)", document.read_text(encoding="utf-8")))
        assert {"--version", "status"} <= named <= commands, document.name


def test_every_path_in_the_table_of_changes_exists() -> None:
    """Below `reindexer/` or the root."""
    table = sections(ROOT / "CONTRIBUTING.md", 2)["Where a change goes"]
    rows = [line for line in table.splitlines() if line.startswith("|")]
    paths = {word for row in rows for word in re.findall(r"`([^`]+)`", row) if "/" in word or "." in word}
    assert len(paths) > 30
    assert {path for path in paths if not [*(ROOT / "reindexer").glob(path), *ROOT.glob(path)]} == set()


def test_the_map_names_every_room() -> None:
    folder, told = ROOT / "reindexer", reindexer.__doc__ or ""
    packages = {path.parent.name for path in folder.glob("*/__init__.py")}
    rooms = packages | {path.stem for path in folder.glob("*.py")} - {"__init__", "__main__"}
    assert {room for room in rooms if not re.search(rf"\b{room}\b", told)} == set()


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for document in (*DOCUMENTS, *FOR_CONTRIBUTORS):
        text = document.read_text(encoding="utf-8")
        named = set(re.findall(r"`make ([a-z-]+)", text)) | set(re.findall(r"^make ([a-z-]+)", text, re.MULTILINE))
        assert named <= targets, document.name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", without_blocks(document)):
        if "://" in target:
            continue
        found = (document.parent / target).resolve() if target else document
        assert found.exists(), f"{document.name} links to {target}"
        assert not anchor or anchor in anchors(found), f"{document.name} links to {target}#{anchor}"


def test_the_first_screen_of_the_readme_shows_what_it_is_that_it_works_and_five_promises_in_a_line_each() -> None:
    screen = README.read_text(encoding="utf-8").split("\n## ")[0].splitlines()
    assert len(screen) <= 45
    shown = [block for block in ALL_BLOCKS if block.document == README and block.line <= len(screen)]
    assert [(block.language, block.mark) for block in shown] == [("text", ""), ("sh", "skip"), ("text", "demo")]
    assert [block.commands for block in shown if block.language == "sh"] == [["make demo"]]
    promises = [re.match(r"- \*\*([^*.]+)", line) for line in screen if line.startswith("- ")]
    kept = re.findall(r"^\d\. \*\*([^*.]+)", (DOCS / "guarantees.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(promises) == 5
    assert {promise[1] for promise in promises if promise} <= set(kept)
    ends = [after for line, after in pairwise(screen) if line.startswith("- ")]
    assert all(not after or after.startswith("- ") for after in ends), "a promise takes one line"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_no_document_names_a_path_of_one_machine(document: Path) -> None:
    assert not re.findall(r"/(?:work|root|home)/\S*", document.read_text(encoding="utf-8"))


def test_every_decision_record_has_its_parts_and_its_line_in_the_list() -> None:
    listed = (DOCS / "adr" / "README.md").read_text(encoding="utf-8")
    records = sorted((DOCS / "adr").glob("[0-9]*.md"))[1:]  # the first is the template
    assert [int(record.name[:4]) for record in records] == list(range(1, len(records) + 1))
    for number, record in enumerate(records, start=1):
        text = record.read_text(encoding="utf-8")
        title = re.match(rf"# {number}\. (.+)\n\nStatus: (?:proposed|accepted|superseded by )", text)
        assert title, record.name
        assert f"- [{number}]({record.name}) {title[1]}\n" in listed
        parts = list(sections(record, 2))
        assert [part for part in parts if part != "Measurements"] == ["Context", "Decision", "Consequences"]
        assert "Measurements" not in parts or parts[2] == "Measurements"
        assert [line for line in text.splitlines() if len(line) > 120 and not line.startswith("|")] == [], record.name
        named = re.findall(r"`((?:reindexer|api|migrations|tests)/[\w/.]+)`", text)
        assert [path for path in named if not (ROOT / path).exists()] == [], record.name


def test_every_block_of_commands_says_how_it_is_tested() -> None:
    assert [str(block) for block in ALL_BLOCKS if block.language == "sh" and not block.mark] == []
    assert {block.language for block in ALL_BLOCKS} <= {"sh", "sql", "text", "json", "ini", "python", "yaml", "toml"}
    assert [str(block) for block in SKIPPED if len(block.about) < 10] == []


@pytest.mark.parametrize("block", SKIPPED, ids=str)
def test_a_block_that_is_not_run_has_a_reason(block: Block) -> None:
    pytest.skip(f"{block}: {block.about}")


@pytest.mark.timeout(240)
def test_what_the_readme_says_puts_it_beside_an_existing_database_and_broker(
    env: Mapping[str, str], index: IndexReader, tmp_path: Path
) -> None:
    with Children(tmp_path / "logs") as children:
        Reader(children, env, free_port(), preset=False).follow(README)
        children.stop_together()


class OfUp(dict[str, str]):
    """What a document exports that starts `up` over a folder: the `psql` line is what `up` printed by then."""

    def __missing__(self, name: str) -> str:
        assert name == "DB"
        data = Path(self["REINDEXER_DATA_DIR"])
        state: dict[str, str] = json.loads((data / "up.json").read_text(encoding="utf-8"))
        return state["database_url"]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", ["quickstart.md", pytest.param("evaluate.md", marks=pytest.mark.long)])
def test_what_starts_everything_by_itself_works_without_any_server_or_setting(name: str) -> None:
    with room() as directory, Children(directory / "logs") as children:
        given = OfUp(REINDEXER_DATA_DIR=str(directory / "data"))
        Reader(children, given, free_port(), preset=False).follow(DOCS / name)


def test_the_table_of_licences_names_what_is_installed_under_the_licence_that_it_declares(tmp_path: Path) -> None:
    (command,) = [
        block for block in blocks(DOCS / "evaluate.md") if block.language == "sh" and "licence(" in block.text
    ]
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", command.text], env=env, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    declared = dict(line.split("\t") for line in done.stdout.splitlines())
    assert "Apache-2.0" in declared.pop("reindexer")
    table = sections(DOCS / "evaluate.md", 2)["Licences"]
    rows = [re.split(r" *\| *", line)[1:3] for line in table.splitlines() if line.startswith("| ")][2:]
    told = {package: family for family, packages in rows for package in re.findall(r"[\w-]+", packages)}
    locked = set(re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))
    assert declared.keys() <= told.keys() <= locked
    words = {"MIT": "MIT", "BSD": "BSD", "Apache-2.0": "Apache", "MPL-2.0": "MPL", "LGPL-3.0": "LGPL-3.0", "PSF-2.0": "PSF",
             "ISC": "ISC", "several": " AND | OR |; "}  # fmt: skip
    assert {
        name: told[name] for name, it in declared.items() if not re.search(words[told[name].partition(",")[0]], it)
    } == {}


@pytest.mark.timeout(240)
@pytest.mark.first(4)
@pytest.mark.parametrize("name", BESIDE_PROCESSES)
def test_the_commands_of_the_other_documents_run_beside_running_processes(
    env: Mapping[str, str], processes: Processes, name: str
) -> None:
    processes.listener()
    processes.worker()
    _, url = processes.api()
    port = int(url.rpartition(":")[2])
    Reader(processes.children, env, port, preset=True).follow(DOCS / name)


@pytest.mark.timeout(240)
def test_the_python_document_is_one_program_that_runs_beside_running_processes(
    env: Mapping[str, str], db: Connection, processes: Processes, tmp_path: Path
) -> None:
    document = DOCS / "python.md"
    for block in blocks(document):
        if (block.mark, block.language) == ("python", "sql"):
            db.execute(block.text.encode())
    processes.listener()
    processes.worker()
    (tmp_path / "program.py").write_text(program(document), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "program.py"], env={**os.environ, **env}, cwd=tmp_path, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    for told in ("rows: 0 would enter the index, 1 would leave it", "notes: no row with this key"):
        assert told in done.stdout
    assert db.execute("SELECT count(*) FROM notes").fetchone() == (2,)


def test_the_python_document_tells_every_public_name_and_every_method() -> None:
    text = (DOCS / "python.md").read_text(encoding="utf-8")
    methods = [name for name in vars(reindexer.Client) if not name.startswith("_")]
    errors = [name for name in reindexer.__all__ if isinstance(getattr(reindexer, name), type(ValueError))
              and issubclass(getattr(reindexer, name), Exception)]  # fmt: skip
    assert [name for name in (*methods, *errors) if not re.search(rf"\b{name}\b", text)] == []
    told = {
        name for row in table_rows(sections(DOCS / "python.md", 2)["Errors"]) for name in re.findall(r"\w+", row[0])
    }
    assert told.issuperset(errors)


def test_no_document_holds_commands_that_nobody_runs() -> None:
    names = ("quickstart.md", "evaluate.md", *BESIDE_PROCESSES)
    by_recipes = {
        DOCS / name for name in ("applications.md", "beside.md", "clients.md", "traces.md")
    }  # in tests/recipes
    followed = {README, *(DOCS / name for name in names)} | by_recipes
    assert [
        str(b) for b in ALL_BLOCKS if b.mark in ("run", "run until", "start", "file") and b.document not in followed
    ] == []
    assert {b.document for b in ALL_BLOCKS if b.mark == "python"} == {DOCS / "python.md"}
    assert {b.document for b in ALL_BLOCKS if b.mark == "recipe"} == {DOCS / "clients.md"}


def test_the_rights_that_the_operations_document_grants_are_enough(
    env: Mapping[str, str], database: str, processes: Processes
) -> None:
    (granted,) = [block for block in ALL_BLOCKS if block.mark == "roles"]
    prefix = f"rx{uuid.uuid4().hex[:8]}_"
    urls = {
        role: make_conninfo(database, user=prefix + role, password="change-me")
        for role in ("listener", "worker", "api", "app")
    }
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(granted.text.replace("reindexer_", prefix).encode())
        try:
            processes.listener(DATABASE_URL=urls["listener"])
            processes.worker(DATABASE_URL=urls["worker"])
            _, url = processes.api(DATABASE_URL=urls["api"])
            headers = {"X-API-Key": env["REINDEXER_ADMIN_API_KEY"]}
            with (
                httpx.Client(base_url=url, headers=headers, timeout=10) as client,
                closing(Receiver()) as receiver,
                connect(database, application_name="test") as owner,
            ):
                listen(owner, receiver)
                an_application_writes_and_sees_its_items(urls["app"], client, receiver)
                assert ok(client.get("/admin/events"))["receivers"][0]["problem"] is None
                an_administrator_uses_every_route(client)
                key = api_keys.create(owner, "operator", who="test", role="operate").key
                ok(client.get("/admin/status", headers={"X-API-Key": key}))
            timers_and_walks_may_do_their_work(urls["listener"])
            commands_may_compare_repair_and_tell(urls["api"], env)
            with psycopg.connect(urls["app"]) as app, pytest.raises(psycopg.errors.InsufficientPrivilege):
                app.execute("SELECT FROM reindexer.outbox")
        finally:
            processes.children.stop_together()
            for role in urls:
                admin.execute(f"DROP OWNED BY {prefix}{role}; DROP ROLE {prefix}{role}".encode())


def an_application_writes_and_sees_its_items(url: str, client: httpx.Client, receiver: Receiver) -> None:
    with psycopg.connect(url, autocommit=True) as app:
        row = app.execute(
            "INSERT INTO context_items (content) VALUES ('Tea takes three minutes') RETURNING id"
        ).fetchone()
        assert row
        eventually(
            lambda: app.execute("SELECT FROM reindexer.item_status WHERE status = 'COMPLETED'").fetchall(), within=15
        )
        assert [hit["item_id"] for hit in ok(client.post("/search", json={"query": "tea"}))["hits"]] == [str(row[0])]
        # Not before the first has arrived: of one that still waits to be sent the receiver would only hear of the deletion.
        eventually(lambda: receiver.types() == ["item.searchable"], within=15)
        app.execute("DELETE FROM context_items")
        eventually(lambda: not app.execute("SELECT FROM reindexer.item_status").fetchall(), within=15)
        eventually(lambda: receiver.types() == ["item.searchable", "item.deleted"], within=15)


def an_administrator_uses_every_route(client: httpx.Client) -> None:
    item = ok(client.post("/context-items", json={"content": "Coffee"}))["id"]
    ok(client.get("/context-items"))
    ok(client.get(f"/context-items/{item}"))
    ok(client.patch(f"/context-items/{item}", json={"content": "Strong coffee"}))
    ok(client.get(f"/admin/items/context_items/{item}"))
    (task,) = ok(client.post("/admin/bulk/regenerate-embeddings", json={"context_ids": [item]}))["task_ids"]
    eventually(lambda: ok(client.get(f"/admin/tasks/{task}"))["state"] == "SUCCESS", within=15)
    ok(client.post("/admin/pause", json={}))
    run = ok(client.post("/admin/backfills", json={"source": "context_items", "where": "true", "force": True}))["id"]
    ok(client.get("/admin/backfills"))
    ok(client.get(f"/admin/backfills/{run}"))
    for act in ("pause", "resume", "cancel"):
        ok(client.post(f"/admin/backfills/{run}/{act}"))
    ok(client.post("/admin/resume", json={}))
    ok(client.get("/admin/status"))
    ok(client.get("/admin/history"))
    ok(client.get("/admin/dead-letters"))
    ok(client.post("/admin/dead-letters/replay", json={}))
    ok(client.get("/readyz"))
    assert "\nreindexer_up 1.0\n" in client.get("/metrics").text
    assert client.delete(f"/context-items/{item}").status_code == 204
    ok(client.post(f"/admin/items/context_items/{item}/forget"))


def commands_may_compare_repair_and_tell(url: str, env: Mapping[str, str]) -> None:
    for command in (["reconcile", "context_items", "--repair", "--wait", "5"], ["audit", "--json"]):
        done = subprocess.run(
            [*forked_python(), "reindexer", *command], env={**os.environ, **env, "DATABASE_URL": url}, cwd=ROOT,
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert "repair" in done.stdout


def timers_and_walks_may_do_their_work(url: str) -> None:
    with connect(url, application_name="test") as connection:
        connection.execute("INSERT INTO reindexer.run (source, kind) VALUES ('context_items', 'whole_source')")
        heal(connection)
        forget(connection)
        history.record(connection)
        history.forget(connection)
        drain(connection)
        while walk_page(connection, lambda name, _: find_source(connection, name)):
            pass


def ok(answer: httpx.Response) -> Any:
    assert answer.is_success, answer.text
    return answer.json()


def events_of_the_log() -> set[str]:
    written = "\n".join(
        path.read_text(encoding="utf-8") for folder in ("reindexer", "api") for path in (ROOT / folder).rglob("*.py")
    )
    calls = re.findall(r"(?:log|\))\.(?:info|warning|error)\(\s*(\"[^,)]*)", written)
    return {event for first in calls for event in re.findall(r"\"([a-z_]+)\"", first)}


def test_operations_tells_every_event_of_the_log() -> None:
    events = events_of_the_log()
    assert len(events) > 30
    told = sections(DOCS / "operations.md", 2)["Logs"]
    assert {event for event in events if f"`{event}`" not in told} == set()


def test_an_event_of_the_log_is_named_by_what_happened_to_what() -> None:
    """`unexpected_error` is what people search for."""
    events = events_of_the_log() - {"unexpected_error"}
    irregular = ("lost", "died", "split", "unavailable", "invalid", "reread", "broken", "kept")
    assert {event for event in events if not event.endswith(("ed", *irregular)) or "_" not in event} <= {
        "reconnected",
        "settled",
    }
    assert FORMER_EVENTS.keys() <= events
    assert not events & set(FORMER_EVENTS.values())
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    settings = {new: old for old, new in FORMER_NAMES.items() if new not in FOR_TESTS}
    for today, former in {**FORMER_EVENTS, **settings, **FORMER_METRICS}.items():
        assert f"| `{former}` | `{today}` |" in changelog
