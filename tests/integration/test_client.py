"""The Python API, method by method, beside real Postgres and Qdrant: it does what the commands do."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import FrozenInstanceError

import psycopg
import pytest

import reindexer
from reindexer import Client, Settings
from reindexer.postgres.connect import Connection
from reindexer.testing.provider import FakeProvider, error, vector_of
from reindexer.worker.worker import Worker
from tests.support.index_reader import IndexReader
from tests.support.reconciling import finish_work
from tests.support.shop import Shop

HEAVY = ("celery", "kombu", "redis", "qdrant_client", "sqlalchemy", "alembic", "openai", "fastapi", "numpy", "psycopg")


@pytest.fixture
def client(settings: Settings, index: IndexReader) -> Iterator[Client]:
    with Client(settings) as client:
        yield client


def attach(client: Client, **more: object) -> reindexer.Attached:
    given: dict[str, object] = {
        "table": "shop.products", "text": ["name", "description"], "payload": ("price", "in_stock", "tags", "added"),
    }  # fmt: skip
    return client.attach("products", **(given | more))  # type: ignore[arg-type]


def python(code: str, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_imports_no_library_and_a_client_no_celery_nor_qdrant() -> None:
    found = "sorted({name.partition('.')[0] for name in sys.modules}.intersection(%r))"
    assert python(f"import sys, reindexer; print({found % (HEAVY,)})") == "[]"
    of_a_client = ("celery", "kombu", "qdrant_client", "sqlalchemy", "fastapi", "openai")
    code = "import sys, reindexer; [getattr(reindexer, name) for name in reindexer.__all__]; "
    assert python(f"{code}print({found % (of_a_client,)})") == "[]"


def test_an_unknown_name_is_no_attribute_and_modules_are_imported_as_ever() -> None:
    with pytest.raises(AttributeError, match="module 'reindexer' has no attribute 'Clint'"):
        reindexer.Clint  # noqa: B018
    assert set(reindexer.__all__) <= set(dir(reindexer))
    assert python("from reindexer import wiring, Client; print(wiring.__name__)") == "reindexer.wiring"


def test_a_client_reads_the_environment_and_says_in_one_line_what_is_missing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    with Client() as client:
        assert client.sources()[0].name == "context_items"
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("REINDEXER_DATA_DIR", str(tmp_path))
    with pytest.raises(reindexer.UsageError, match="DATABASE_URL is not set"):
        Client()


def test_attach_changes_what_is_given_and_moves_no_rows_unless_that_is_allowed(client: Client, shop: Shop) -> None:
    assert attach(client) == reindexer.Attached("products", changed=True)
    assert not attach(client).changed, "up to date"
    shop.settle()
    assert shop.indexed().keys() == {"b1", "t1", "x1"}
    with pytest.raises(reindexer.RowsWouldMove, match="0 would enter the index, 1 would leave it; nothing was changed"):
        client.attach("products", where="published")
    assert client.sources()[-1].condition is None
    changed = client.attach("products", where="published", rows_may_move=True)
    assert (changed.changed, changed.redefined) == (True, True)
    shop.settle()
    assert shop.indexed().keys() == {"b1", "t1"}
    (products,) = [each for each in client.sources() if each.name == "products"]
    assert (products.text_columns, products.condition) == (("name", "description"), "published")
    client.attach("products", unset=["where"], rows_may_move=True)
    shop.settle()
    assert shop.indexed().keys() == {"b1", "t1", "x1"}
    who = {each["who"].partition(" ")[0] for each in json.loads(shop.reindexer("audit", "--json"))["audit"] if each["action"] == "attach"}  # fmt: skip
    assert who == {"python"}


def test_a_definition_that_does_not_fit_names_what_to_change(client: Client, shop: Shop) -> None:
    with pytest.raises(reindexer.UsageError, match="there is no source 'other' yet"):
        client.attach("other", text="name")
    with pytest.raises(reindexer.DefinitionError, match="is it 'description'") as raised:
        attach(client, text="descript_on")
    assert raised.value.key == "text"


def test_detach_leaves_the_table_and_the_collection_goes_only_if_that_is_said(client: Client, shop: Shop) -> None:
    attach(client)
    shop.settle()
    assert client.detach("products", drop_collection=False) == reindexer.Detached("products", 3, "products__g1", False)
    assert shop.index.client.collection_exists("products__g1")
    attach(client)
    shop.settle()
    assert client.detach("products", drop_collection=True).dropped
    assert not shop.index.client.collection_exists("products__g1")
    assert shop.db.execute("SELECT count(*) FROM shop.products").fetchone() == (3,)
    with pytest.raises(reindexer.UsageError, match="there is no source 'products'; attached: context_items"):
        client.detach("products", drop_collection=True)


def test_search_finds_by_text_and_filter_and_says_what_may_be_missing(client: Client, shop: Shop) -> None:
    attach(client)
    early = client.search("products", "Bicycle")
    assert (list(early.hits), early.behind) == ([], "a fill of 'products' is not through yet: see `reindexer status`")
    shop.settle()
    found = client.search("products", "Bicycle\ntwo wheels", limit=2)
    assert (found.hits[0].item_id, found.behind, len(found.hits)) == ("b1", None, 2)
    assert found.hits[0].score == pytest.approx(1, abs=0.01)
    assert found.hits[0].payload["tags"] == ["sport", "city"]
    dear = client.search("products", "Bicycle", filter={"price": {"gte": 400}})
    assert [hit.item_id for hit in dear.hits] == ["t1"]
    for wrong, words in (({"colour": 1}, "no payload column"), ({"price": {"about": 1}}, "is not known")):
        with pytest.raises(reindexer.UsageError, match=words):
            client.search("products", "Bicycle", filter=wrong)
    with pytest.raises(reindexer.UsageError, match="empty"):
        client.search("products", " ")
    with pytest.raises(reindexer.UsageError, match="limit is 101; use 1 to 100"):
        client.search("products", "x", limit=101)
    with pytest.raises(FrozenInstanceError):
        found.behind = "x"  # type: ignore[misc]


def test_regenerate_gives_a_task_id_for_each_distinct_key_which_tells_what_became_of_it(
    client: Client, db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    row = db.execute("INSERT INTO context_items (content) VALUES ('text') RETURNING id").fetchone()
    assert row
    finish_work(db, worker)
    before = len(provider.inputs)
    absent = uuid.uuid4()
    task_ids = client.regenerate("context_items", [row[0], str(row[0]).upper(), absent])
    assert len(task_ids) == 2
    waiting = client.task(task_ids[0])
    assert waiting is not None
    assert (waiting.state, waiting.item_id, waiting.is_final) == ("PENDING", str(row[0]), False)
    finish_work(db, worker)
    states = [client.task(task_id) for task_id in task_ids]
    assert [(state.state, state.error) for state in states if state] == [
        ("SUCCESS", None), ("FAILURE", "context_items: no row with this key"),
    ]  # fmt: skip
    assert provider.inputs[before:] == ["text"], "anew, although the text is unchanged"
    assert client.regenerate("context_items", []) == []
    assert client.task("never handed out") is None


def test_a_key_that_can_not_be_the_sources_queues_nothing(client: Client, db: Connection, settings: Settings) -> None:
    fine = str(uuid.uuid4())
    with pytest.raises(reindexer.UsageError, match=r"ids.1 is not a key of the source \(uuid\)"):
        client.regenerate("context_items", [fine, "secret-text"])
    with pytest.raises(reindexer.UsageError, match="there is no source 'nothing'"):
        client.regenerate("nothing", [fine])
    small = Client(settings.model_copy(update={"bulk_max_ids": 1}))
    with small, pytest.raises(reindexer.UsageError, match="more than 1 id; nothing was queued"):
        small.regenerate("context_items", [fine, str(uuid.uuid4())])
    assert db.execute("SELECT count(*) FROM reindexer.request").fetchone() == (0,)
    assert db.execute("SELECT count(*) FROM reindexer.due").fetchone() == (0,)


def test_regenerate_takes_the_parts_of_a_composite_key(client: Client, db: Connection, worker: Worker) -> None:
    db.execute("CREATE TABLE parts (id uuid, n int, body text, PRIMARY KEY (id, n))")
    one = uuid.uuid4()
    db.execute("INSERT INTO parts VALUES (%s, 1, 'text')", [one])
    client.attach("parts", table="parts", text="body")
    (task_id,) = client.regenerate("parts", [(one, 1), [str(one), "1"]])
    finish_work(db, worker)
    task = client.task(task_id)
    assert task is not None
    assert (task.state, task.item_id) == ("SUCCESS", f'["{one}", "1"]')


def test_regenerate_now_indexes_an_item_of_any_source_without_listener_or_worker(
    client: Client, shop: Shop, provider: FakeProvider
) -> None:
    attach(client)
    client.regenerate_now("products", "b1")
    assert shop.index.holds("b1", vector_of("Bicycle\ntwo wheels"))
    with pytest.raises(reindexer.ItemFailed, match="no row with this key"):
        client.regenerate_now("products", "b2")
    with pytest.raises(reindexer.UsageError, match="there is no source 'nothing'"):
        client.regenerate_now("nothing", "b1")
    provider.behave = lambda call: error(500)
    with pytest.raises(reindexer.TransientError, match="still RETRY after 0 s: "):
        client.regenerate_now("products", "x1", timeout_s=0)
    provider.behave = lambda call: error(401)
    with pytest.raises(reindexer.SourceError, match="it is done when that is mended"):
        client.regenerate_now("products", "t1")


def test_status_and_why_tell_what_the_commands_tell(client: Client, db: Connection, worker: Worker, shop: Shop) -> None:
    row = db.execute("INSERT INTO context_items (content) VALUES ('text') RETURNING id::text").fetchone()
    assert row
    assert (client.status().outbox, client.status().listener) == (1, "absent")
    before = client.why("context_items", row[0])
    assert before is not None
    assert (before.indexed, before.waits_for) == (None, "the listener: its change is in the outbox")
    finish_work(db, worker)
    now = client.status()
    assert (now.outbox, now.pending, now.sources["context_items"].completed) == (0, 0, 1)
    after = client.why("context_items", row[0].upper())
    assert after is not None
    assert (after.status, after.wanted == after.indexed, after.item_id) == ("COMPLETED", True, row[0])
    told = json.loads(shop.reindexer("why", "context_items", row[0], "--json"))
    assert (told["wanted"], told["chunks"]) == (after.wanted, after.chunks)
    assert client.why("context_items", str(uuid.uuid4())) is None


def test_a_backfill_is_started_followed_and_cancelled(client: Client, db: Connection) -> None:
    db.execute("INSERT INTO context_items (content) SELECT 'text ' || n FROM generate_series(1, 3) n")
    run = client.backfill("context_items", where="content <> 'text 1'", force=True)
    assert (run.state, run.total, run.is_open) == ("running", 2, True)
    with pytest.raises(reindexer.RunConflict, match="is open already"):
        client.backfill("context_items")
    assert client.pause_run(run.id).state == "paused"
    assert client.resume_run(run.id).state == "running"
    assert client.cancel_run(run.id).state == "cancelled"
    assert not client.run(run.id).is_open
    with pytest.raises(reindexer.RunConflict, match="has ended"):
        client.pause_run(run.id)
    with pytest.raises(reindexer.NoSuchRun, match="there is no backfill 4711"):
        client.run(4711)
    with pytest.raises(reindexer.UsageError):
        client.backfill("context_items", where="content = ")


def test_dead_letters_are_told_page_by_page_and_replayed(
    client: Client, db: Connection, worker: Worker, provider: FakeProvider, index: IndexReader
) -> None:
    provider.behave = lambda call: error(400, "invalid_input") if "bad" in "".join(call.inputs) else None
    ids = [
        str(item_id)
        for (item_id,) in db.execute(
            "INSERT INTO context_items (content) SELECT 'bad ' || n FROM generate_series(1, 3) n RETURNING id"
        ).fetchall()
    ]
    finish_work(db, worker)
    first = client.dead_letters("context_items", limit=2)
    rest = client.dead_letters("context_items", after=first[-1])
    assert [each.item_id for each in (*first, *rest)] == sorted(ids)
    assert all(each.heals_at is None and "400" in str(each.error) for each in first)
    assert client.dead_letters(error="no such words") == []
    assert [each.item_id for each in client.dead_letters("context_items", item_id=ids[0].upper())] == [ids[0]]
    provider.behave = lambda call: None
    assert client.replay_dead_letters("context_items", item_id=ids[0]) == 1
    assert client.replay_dead_letters(limit=1) == 1
    finish_work(db, worker)
    assert index.count() == 2
    with pytest.raises(reindexer.UsageError, match="there is no source"):
        client.dead_letters("nothing")


def test_whatever_is_raised_is_an_error_of_the_tree(client: Client, settings: Settings, db: Connection) -> None:
    assert all(
        issubclass(each, reindexer.ReindexerError)
        for name in reindexer.__all__
        if isinstance(each := getattr(reindexer, name), type) and issubclass(each, Exception)
    )
    client.sources()
    db.execute("ALTER TABLE reindexer.ledger RENAME TO away")
    with pytest.raises(reindexer.ReindexerError, match=r'Postgres: relation "reindexer.ledger" does not exist'):
        client.status()
    db.execute("ALTER TABLE reindexer.away RENAME TO ledger")
    nowhere = settings.model_copy(update={"qdrant_url": "http://127.0.0.1:9"})
    with Client(nowhere) as lost, pytest.raises(reindexer.DependencyUnavailable, match="Qdrant at"):
        lost.search("context_items", "text")
    db.execute("UPDATE reindexer.alembic_version SET version_num = '0001'")
    with Client(settings) as other, pytest.raises(reindexer.UsageError, match="schema revision 0001"):
        other.sources()


def test_a_client_closes_its_connections_and_opens_new_ones_when_it_is_used_again(
    settings: Settings, db: Connection, index: IndexReader
) -> None:
    def connections() -> int:
        row = db.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'reindexer client'").fetchone()
        return int(row[0]) if row else 0

    with Client(settings) as client:
        client.sources()
        assert connections() == 1
    for _ in range(100):
        if not connections():
            break
    assert connections() == 0
    assert client.sources()
    client.close()


def test_an_application_uses_a_client_beside_its_own_transaction(client: Client, settings: Settings) -> None:
    with psycopg.connect(settings.require_database_url()) as application:
        application.execute("INSERT INTO context_items (content) VALUES ('not committed')")
        assert client.status().outbox == 0
    assert client.status().outbox == 1
