"""A source's definition in the database: one document, carried over from columns, and left alone by older versions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from psycopg.types.json import Jsonb

from reindexer import registry
from reindexer.core.errors import NewerDefinition
from reindexer.core.lanes import Lane
from reindexer.core.profile import Profile
from reindexer.core.redefinition import described
from reindexer.core.source import CONTEXT_ITEMS, SAID, Source
from reindexer.listener.trigger_monitor import Watch
from reindexer.migrate import alembic_config, migrate
from reindexer.postgres.connect import Connection, connect
from reindexer.queue.drain import drain
from reindexer.sources.attach import attach
from reindexer.sources.store import all_sources, find_source
from reindexer.worker.worker import Worker
from tests.support.commands import Done
from tests.support.flow import insert

TABLE = """
    CREATE TABLE odd (a int, "B c" text, body text, tenant text, shown boolean, PRIMARY KEY (a, "B c"))
"""

FILE = """
[sources.odd]
table = "public.odd"
key = ["a", "B c"]
text = ["body", "tenant"]
payload = ["tenant", "shown"]
template = "{tenant}:\\n{body}"
where = "shown"
alias = "Odd ones"
chunk_tokens = 400
chunk_overlap = 40
chunker = "another"
chunk_header = "{tenant}"
store_text = "chunk"
tenant = "tenant"
keywords = true
language = "german"
stop_words = ["gmbh"]
stemmer = false
profile = "all"
[profiles.all]
provider = "hashing"
model = "m"
dimensions = 64
base_url = "http://localhost:9/v1"
api_key_env = "A_KEY"
distance = "dot"
collection.hnsw_config = { m = 8, ef_construct = 100 }
"""

NEWER = Jsonb({"sentences": True})


def test_all_that_the_file_says_of_a_source_is_in_the_database_and_comes_back(
    db: Connection, here: Callable[..., Done], env: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.CHUNKERS.built_in, "another", "reindexer.core.text.chunks:spans")
    db.execute(TABLE)
    file = tmp_path / "my.toml"
    file.write_text(FILE, encoding="utf-8")
    assert here("migrate", env={**env, "REINDEXER_SOURCES": str(file)}).returncode == 0
    source = find_source(db, "odd")
    assert set(described(source)) >= {"table", *SAID} - {"profile"}
    assert described(source) == {
        "table": "public.odd", "key": ["a", "B c"], "text": ["body", "tenant"], "payload": ["tenant", "shown"],
        "template": "{tenant}:\n{body}", "where": "shown", "alias": "Odd ones", "chunk_tokens": 400,
        "chunk_overlap": 40, "chunker": "another", "chunk_header": "{tenant}", "store_text": "chunk",
        "tenant": "tenant", "keywords": True, "language": "german", "stop_words": ["gmbh"], "stemmer": False,
        "profile.provider": "hashing", "profile.model": "m",
        "profile.dimensions": 64, "profile.base_url": "http://localhost:9/v1", "profile.api_key_env": "A_KEY",
        "profile.distance": "dot", "profile.collection": {"hnsw_config": {"m": 8, "ef_construct": 100}},
    }  # fmt: skip
    assert here("migrate", env={**env, "REINDEXER_SOURCES": str(file)}).stdout.count("up to date") == 2


SOURCES = [
    Source("plain", "public", "odd", ("a", "B c"), ("body",)),
    Source(
        "odd", "public", "odd", ("a", "B c"), ("body", "tenant"), ("tenant", "shown"), "Odd ones", "{tenant}: {body}",
        "shown", ("shown",), 400, 40, "tenant", Profile("hashing", dimensions=64, collection={"hnsw_config": {"m": 8}}),
        "shown", ("1255/16385",),
    ),
]  # fmt: skip


def test_the_migration_carries_every_definition_over_both_ways(empty_url: str) -> None:
    migrate(empty_url)
    with connect(empty_url, application_name="test") as db:
        for source in SOURCES:
            db.execute(
                "INSERT INTO reindexer.source (name, alias, definition, definition_hash) VALUES (%s, %s, %s, '')",
                [source.name, source.alias, Jsonb(source.as_document())],
            )
        before = db.execute("SELECT name, definition FROM reindexer.source ORDER BY name").fetchall()
        command.downgrade(alembic_config(empty_url), "0005")
        old = db.execute(
            "SELECT key_columns, payload_columns, chunk_overlap, profile FROM reindexer.source ORDER BY name"
        )
        assert old.fetchall() == [
            (["a", "B c"], ["tenant", "shown"], 40, SOURCES[1].profile.as_json()), (["a", "B c"], [], 0, {}),
        ]  # fmt: skip
        command.upgrade(alembic_config(empty_url), "head")
        assert db.execute("SELECT name, definition FROM reindexer.source ORDER BY name").fetchall() == before
        assert all_sources(db) == [SOURCES[1], SOURCES[0]]
        assert find_source(db, "odd").condition_objects == SOURCES[1].condition_objects


@pytest.fixture
def newer(db: Connection) -> Connection:
    """The source `context_items`, as a newer version of the program has defined it; and `notes` beside it."""
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
    attach(db, Source("notes", "public", "notes", ("id",), ("body",)))
    db.execute("UPDATE reindexer.generation SET definition = definition || %s WHERE source = 'context_items'", [NEWER])
    return db


def test_a_source_that_a_newer_version_defined_is_neither_worked_on_nor_changed_and_the_others_go_on(
    newer: Connection, worker: Worker, database: str
) -> None:
    insert(newer, "text")
    newer.execute("INSERT INTO notes VALUES (1, 'text')")
    drain(newer)
    for _ in range(5):
        worker.run_lane(Lane.LIVE, budget_s=0)
    waits = "source 'context_items' is defined by a newer version of the program: this one does not know 'sentences'"
    problem = newer.execute("SELECT problem FROM reindexer.source WHERE name = 'context_items'").fetchone()
    assert waits in str(problem)
    done = newer.execute("SELECT source, outcome FROM reindexer.ledger").fetchall()
    assert done == [("notes", "COMPLETED")]
    assert newer.execute("SELECT attempts, not_before <= now() FROM reindexer.due").fetchall() == [(0, True)]
    with pytest.raises(NewerDefinition):
        attach(newer, CONTEXT_ITEMS)
    with pytest.raises(NewerDefinition):
        migrate(database)
    Watch(lambda: newer, 1.0).look(newer)
    stored: dict[str, Any] = dict(newer.execute("SELECT name, definition FROM reindexer.source").fetchall())
    assert stored["context_items"]["sentences"] is True


def test_whoever_lists_sources_leaves_out_what_a_newer_version_defined(newer: Connection) -> None:
    listed: list[str] = []
    with suppress(NewerDefinition):
        listed = [source.name for source in all_sources(newer)]
    assert listed == ["notes"]


def test_a_process_of_the_version_before_reads_the_columns_that_it_knows(db: Connection) -> None:
    """An API of that version answers searches until it is restarted."""
    db.execute(TABLE)
    source = replace(SOURCES[1], condition="tenant <> ''", condition_columns=("tenant",), resolved_condition=None)
    attach(db, source)
    newer = {
        "chunker", "chunk_header", "store_text", "keywords", "language", "stop_words", "stemmer", "made_by",
        "recorded_by_others", "followed_by_others", "related", "servers",
    }  # fmt: skip
    columns = [each.name for each in fields(Source) if each.name not in {"read_by", "alias"} | newer]
    row = db.execute("SELECT to_jsonb(source) FROM reindexer.source WHERE name = %s", [source.name]).fetchone()
    assert row is not None
    attached = find_source(db, source.name)
    assert {name: row[0][name] for name in columns} == {
        name: value.as_json() if isinstance(value, Profile) else list(value) if isinstance(value, tuple) else value
        for name in columns
        for value in [getattr(attached, name)]
    }


def test_an_older_schema_than_the_document_can_be_looked_at(
    db: Connection, database: str, here: Callable[..., Done], env: Mapping[str, str]
) -> None:
    command.downgrade(alembic_config(database), "0005")
    with pytest.raises(psycopg.errors.UndefinedColumn):
        db.execute("SELECT definition FROM reindexer.source")
    told = here("migrate", "--dry-run", env=env)
    assert (told.returncode, "context_items  would be brought to this version" in told.stdout) == (0, True)
    assert here("migrate", env=env).returncode == 0
    assert all_sources(db) == [CONTEXT_ITEMS]
