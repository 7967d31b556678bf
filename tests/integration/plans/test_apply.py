"""Apply does what a plan says, and nothing else; it may be killed anywhere, and repeated."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import psycopg
import pytest
from qdrant_client import models

from reindexer.generations.rows import generations
from reindexer.generations.upkeep import tidy_index
from reindexer.postgres.connect import Connection
from reindexer.sources.store import all_sources, find_source
from reindexer.sources.trigger_check import inspect
from reindexer.testing.waiting import eventually
from tests.support.commands import CLEAN
from tests.support.planned import PRODUCTS, Planned
from tests.support.processes import ROOT

SMALLER = 'profile = "p"\n[profiles.p]\ndimensions = 16\n'


@pytest.fixture
def indexed(planned: Planned) -> Planned:
    """The products are attached and indexed."""
    planned.plan()
    planned.apply()
    planned.settle()
    return planned


# What moved since


def redefine(planned: Planned) -> None:
    planned.shop.reindexer("attach", "products", "--template", "{name}: {description}")


def rebuild(planned: Planned) -> None:
    assert planned.run("rebuild", "products", "--detach").returncode == 0


def other_embedder(planned: Planned) -> None:
    planned.db.execute("UPDATE reindexer.generation SET embedder = 'openai:x:32' WHERE source = 'products'")


def detach(planned: Planned) -> None:
    planned.shop.reindexer("detach", "products", "--keep-collection")


MOVES = {each.__name__: each for each in (redefine, rebuild, other_embedder, detach)}


@pytest.mark.parametrize("moves", MOVES.values(), ids=MOVES.keys())
def test_a_plan_is_refused_if_the_world_moved_since(indexed: Planned, moves: Any) -> None:
    indexed.says(PRODUCTS + 'where = "published"\n' + "[sources.more]\ntable = 'shop.products'\ntext = 'name'\n")
    indexed.plan()
    moves(indexed)
    told = indexed.apply(code=1)
    assert "the database is no longer as the plan found it (products); nothing was changed; plan again" in told
    assert "more" not in {each.name for each in all_sources(indexed.db)}


def test_what_moved_since_in_sources_that_the_plan_leaves_alone_is_no_reason(indexed: Planned) -> None:
    indexed.says(PRODUCTS + "[sources.more]\ntable = 'shop.products'\ntext = 'name'\n")
    indexed.plan()
    redefine(indexed)
    assert indexed.apply() == "more  attached; a fill is started\n"
    assert find_source(indexed.db, "products").template is not None


def test_a_plan_of_another_database_is_refused(planned: Planned, empty_database: str) -> None:
    planned.plan()
    done = planned.run("apply", str(planned.out), DATABASE_URL=empty_database)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "this plan was made of another database" in done.stderr
    with psycopg.connect(empty_database) as other:
        assert other.execute("SELECT FROM pg_namespace WHERE nspname = 'reindexer'").fetchall() == []


def test_the_settings_have_to_make_the_vectors_that_the_plan_says(indexed: Planned) -> None:
    indexed.settings["REINDEXER_EMBEDDING_MODEL"] = "newer"
    indexed.plan()
    indexed.settings["REINDEXER_EMBEDDING_MODEL"] = "newest"
    calls = len(indexed.provider.calls)
    assert "not everything could be done: products" in indexed.apply(code=1)
    assert [each.number for each in generations(indexed.db, "products")] == [1]
    assert len(indexed.provider.calls) == calls


# Money


def test_a_plan_above_the_price_is_refused(planned: Planned) -> None:
    most = planned.plan()["dollars"]["high"]
    assert f"this plan may cost ${most:.4f}, which is more than --max-usd 0.0001" in planned.apply(
        "--max-usd", "0.0001", code=2
    )
    assert {each.name for each in all_sources(planned.db)} == {"context_items"}
    assert "attached" in planned.apply("--max-usd", str(most))


def test_a_plan_of_unknown_price_is_above_every_price(planned: Planned) -> None:
    planned.settings["REINDEXER_PRICE_PER_MILLION_TOKENS"] = ""
    planned.plan()
    assert "the price of this plan is not known" in planned.apply("--max-usd", "1000000", code=2)


# Wrong input


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "can't be read: No such file or directory; make it: reindexer plan --out"),
        ("", "is no plan; make one"),
        ("\0\1", "is no plan; make one"),
        ("[]", "is no plan; make one"),
        ("{}", "is no plan; make one"),
        ('{"hash": "x"}', "was written by another version of the program"),
        ('{"hash": "x", "form": 1}', "was changed after it was written"),
    ],
)
def test_what_is_no_plan_is_one_line(planned: Planned, text: str | None, words: str) -> None:
    if text is not None:
        planned.out.write_text(text, encoding="utf-8")
    assert words in planned.apply(code=2)


def test_a_plan_that_somebody_edited_is_refused(planned: Planned) -> None:
    told = planned.plan()
    told["dollars"]["high"] = 0
    planned.out.write_text(json.dumps(told), encoding="utf-8")
    assert "was changed after it was written" in planned.apply(code=2)


# Drift


def drop_collection(planned: Planned) -> None:
    planned.shop.index.client.delete_collection("products__g1")


def drop_payload_index(planned: Planned) -> None:
    planned.shop.index.client.delete_payload_index("products__g1", "price")


def move_alias(planned: Planned) -> None:
    client = planned.shop.index.client
    client.create_collection("products__g9", models.VectorParams(size=4, distance=models.Distance.DOT))
    client.update_collection_aliases([
        models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name="products")),
        models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name="products__g9", alias_name="products")),
    ])  # fmt: skip


def drop_alias(planned: Planned) -> None:
    operation = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name="products"))
    planned.shop.index.client.update_collection_aliases([operation])


def disable_trigger(planned: Planned) -> None:
    planned.db.execute("ALTER TABLE shop.products DISABLE TRIGGER reindexer_products_update")


def drop_trigger(planned: Planned) -> None:
    planned.db.execute("DROP TRIGGER reindexer_products_delete ON shop.products")


def other_function(planned: Planned) -> None:
    planned.db.execute("ALTER FUNCTION reindexer.products_update() SET work_mem = '8MB'")


DRIFTS = {
    "collection": (drop_collection, "collection", "the collection products__g1 is gone"),
    "payload index": (drop_payload_index, "payload_index", "products__g1 has no index over price"),
    "alias moved": (move_alias, "alias", "the alias products names products__g9, not products__g1"),
    "alias dropped": (drop_alias, "alias", "the alias products is gone, not products__g1"),
    "trigger disabled": (disable_trigger, "triggers", "triggers on shop.products are disabled"),
    "trigger dropped": (drop_trigger, "triggers", "triggers on shop.products are missing"),
    "function": (other_function, "triggers", "trigger functions are not what they should be"),
}


@pytest.mark.parametrize(("change", "kind", "told"), DRIFTS.values(), ids=DRIFTS.keys())
@pytest.mark.first(4)
def test_what_was_changed_by_hand_is_found_and_mended(indexed: Planned, change: Any, kind: str, told: str) -> None:
    change(indexed)
    found = indexed.source()
    assert found["action"] == "nothing"
    assert [(each["kind"], each["told"]) for each in found["drift"]] == [(kind, told)]
    assert (found["cost"] is not None) == (kind == "collection")
    assert found["locks"] == (["shop.products"] if kind == "triggers" else [])
    assert f"products  mended: {told}" in indexed.apply()
    assert indexed.is_empty()
    indexed.settle()
    assert inspect(indexed.db, find_source(indexed.db, "products")).well
    assert indexed.shop.indexed().keys() == {"b1", "t1", "x1"}
    if kind == "collection":
        assert found["cost"]["items"] == {"low": 3, "high": 3}


def test_a_lost_collection_beside_a_rebuild_costs_both(indexed: Planned) -> None:
    drop_collection(indexed)
    indexed.says(PRODUCTS + SMALLER)
    told = indexed.source()
    assert (told["action"], [each["kind"] for each in told["drift"]]) == ("rebuild", ["collection"])
    assert told["cost"]["items"] == {"low": 6, "high": 6}
    before = len(indexed.provider.inputs)
    indexed.apply()
    indexed.settle_all()
    assert len([each for each in indexed.provider.inputs[before:] if each != "reindexer"]) == 6


def test_only_what_the_plan_lists_is_mended(indexed: Planned) -> None:
    disable_trigger(indexed)
    indexed.plan()
    drop_alias(indexed)
    indexed.apply()
    assert [each["kind"] for each in indexed.source()["drift"]] == ["alias"]


def test_after_apply_a_new_payload_column_has_its_index(indexed: Planned) -> None:
    indexed.says(PRODUCTS.replace('"added"', '"added", "published"'))
    indexed.plan()
    indexed.apply()
    schema = indexed.shop.index.client.get_collection("products__g1").payload_schema
    assert "published" in schema
    assert indexed.is_empty()


# Killed

TABLES = "CREATE TABLE shop.{} (id int PRIMARY KEY, body text, title text); INSERT INTO shop.{} VALUES (1, 'one', 'a')"
SOURCE = '[sources.{}]\ntable = "shop.{}"\ntext = ["body"]\n'
BEFORE = ("change_it", "leave_it", "rebuild_it")


@pytest.fixture
def four(planned: Planned) -> Planned:
    """A plan of one step of each kind: a source to change, one to mend, one to rebuild, one to add, one to detach."""
    for name in (*BEFORE, "add_it", "detach_it"):
        planned.db.execute(TABLES.format(name, name).encode())
    planned.says("".join(SOURCE.format(name, name) for name in (*BEFORE, "detach_it")))
    planned.plan()
    planned.apply()
    planned.settle()
    planned.says(
        SOURCE.format("add_it", "add_it")
        + SOURCE.format("change_it", "change_it").replace('"body"', '"body", "title"')
        + SOURCE.format("leave_it", "leave_it")
        + SOURCE.format("rebuild_it", "rebuild_it")
        + SMALLER
    )
    planned.db.execute("ALTER TABLE shop.leave_it DISABLE TRIGGER ALL")
    told = {each["name"]: each["action"] for each in planned.plan("--detach-missing")["sources"]}
    assert told == {
        "context_items": "nothing", "add_it": "add", "change_it": "change", "leave_it": "nothing",
        "rebuild_it": "rebuild", "detach_it": "detach",
    }  # fmt: skip
    return planned


def end_state(db: Connection) -> Any:
    """What an apply leaves, whatever way it took."""
    sources = {each.name: each for each in all_sources(db)}
    return {
        "sources": {name: each.as_document() for name, each in sources.items()},
        "well": {name: inspect(db, each).well for name, each in sources.items()},
        "generations": {
            name: [(each.number, each.state, each.embedder) for each in generations(db, name)] for name in sources
        },
        "rebuilds": db.execute("SELECT source, generation FROM reindexer.run WHERE kind = 'rebuild'").fetchall(),
        "detached": db.execute("SELECT source FROM reindexer.detached").fetchall(),
        "triggers": db.execute(
            "SELECT tgrelid::regclass::text, tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2"
        ).fetchall(),
    }


WANTED = {
    "sources": {"context_items", "add_it", "change_it", "leave_it", "rebuild_it"},
    "rebuilds": [("rebuild_it", 2)],
    "detached": [("detach_it",)],
}


def require_end(planned: Planned) -> None:
    found = end_state(planned.db)
    assert found["sources"].keys() == WANTED["sources"]
    assert set(found["well"].values()) == {True}
    assert (found["rebuilds"], found["detached"]) == (WANTED["rebuilds"], WANTED["detached"])
    states = [(number, state) for number, state, _ in found["generations"]["rebuild_it"]]
    assert states == [(1, "active"), (2, "filling")]
    assert found["sources"]["change_it"]["text_columns"] == ["body", "title"]
    assert planned.is_empty()


def started(planned: Planned) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "reindexer", "apply", str(planned.out)],
        env={**CLEAN, **planned.env}, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.timeout(120)
@pytest.mark.parametrize("steps", [3, *(pytest.param(each, marks=pytest.mark.long) for each in (0, 1, 2, 4, 5))])
def test_killed_after_any_step_and_repeated_it_ends_the_same(four: Planned, steps: int) -> None:
    with started(four) as applying:
        assert applying.stdout is not None
        for _ in range(steps):
            assert applying.stdout.readline()
        applying.send_signal(signal.SIGKILL)
    four.apply()
    require_end(four)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "table",
    ["add_it", *(pytest.param(each, marks=pytest.mark.long) for each in ("change_it", "leave_it", "detach_it"))],
)
@pytest.mark.long
def test_killed_within_a_step_and_repeated_it_ends_the_same(four: Planned, database: str, table: str) -> None:
    """It waits for the table's lock in the middle of the step."""
    with psycopg.connect(database) as writer:
        writer.execute(f"LOCK TABLE shop.{table} IN ROW EXCLUSIVE MODE".encode())
        with started(four) as applying:
            waiting = "SELECT FROM pg_locks WHERE NOT granted AND relation = %s::regclass"
            eventually(lambda: four.db.execute(waiting, [f"shop.{table}"]).fetchall(), within=60)
            applying.send_signal(signal.SIGKILL)
    eventually(lambda: not four.db.execute(
        "SELECT FROM pg_stat_activity WHERE application_name = 'reindexer command' AND pid <> pg_backend_pid()"
        " AND datname = current_database()").fetchall(), within=30)  # fmt: skip
    four.apply()
    require_end(four)


@pytest.mark.timeout(120)
@pytest.mark.long
def test_killed_between_a_generation_and_its_fill_and_repeated_it_is_filled(four: Planned, database: str) -> None:
    """The new generation reads a column more, so its fill waits for those who write."""
    text = four.file.read_text(encoding="utf-8")
    four.says(
        text.replace(
            'table = "shop.rebuild_it"\ntext = ["body"]', 'table = "shop.rebuild_it"\ntext = ["body", "title"]'
        )
    )
    four.plan("--detach-missing")
    with psycopg.connect(database) as writer:
        writer.execute("LOCK TABLE shop.rebuild_it IN ROW EXCLUSIVE MODE")
        with started(four) as applying:
            made = "SELECT FROM reindexer.generation WHERE source = 'rebuild_it' AND number = 2"
            eventually(lambda: four.db.execute(made).fetchall(), within=60)
            applying.send_signal(signal.SIGKILL)
    assert four.db.execute("SELECT FROM reindexer.run WHERE kind = 'rebuild'").fetchall() == []
    four.apply()
    require_end(four)


@pytest.mark.long
def test_a_repeated_apply_does_nothing_also_when_the_rebuild_is_promoted(four: Planned) -> None:
    four.apply()
    require_end(four)
    saved = four.out.read_text(encoding="utf-8")
    four.plan("--detach-missing")
    assert "there was nothing to do" in four.apply()
    four.out.write_text(saved, encoding="utf-8")
    before = end_state(four.db)
    four.apply()
    assert end_state(four.db) == before


def test_the_whole_way_to_another_model(indexed: Planned) -> None:
    indexed.says(PRODUCTS + SMALLER)
    saved = indexed.plan()
    indexed.apply()
    text = indexed.out.read_text(encoding="utf-8")
    assert json.loads(text)["hash"] == saved["hash"]
    for _ in range(10):
        indexed.settle_all()
        if generations(indexed.db, "products")[-1].state == "ready":
            break
    assert indexed.source()["why"] == ["generation 2 is ready: reindexer promote products"]
    assert indexed.run("promote", "products").returncode == 0
    tidy_index(indexed.shop.worker.postgres, indexed.shop.worker.index)
    assert indexed.is_empty()
    indexed.out.write_text(text, encoding="utf-8")
    assert indexed.apply() == "products  is so already\n"
    assert [each.state for each in generations(indexed.db, "products")] == ["standby", "active"]
