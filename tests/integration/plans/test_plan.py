"""A plan tells what a change does and costs, before it is done."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

import psycopg
import pytest

from reindexer.cli.stdlib_texts import stdlib_texts
from reindexer.sources.store import find_source
from tests.support.planned import PRODUCTS, Planned

TEXTS = """
CREATE TABLE shop.texts (id int PRIMARY KEY, body text, title text);
"""
OF_TEXTS = '[sources.texts]\ntable = "shop.texts"\ntext = ["body"]\n'

ENGLISH = [each.text for each in islice(stdlib_texts(), 620)]
LONG = [" ".join(ENGLISH[n : n + 6]) for n in range(0, 618, 6)]
WORDS = [
    "오늘",
    "아침",
    "물을",
    "한",
    "잔",
    "마시고",
    "도서관에서",
    "옛",
    "지도를",
    "보았다",
    "내일은",
    "비가",
    "온다고",
    "한다",
    "열차가",
    "늦게",
    "도착했습니다",
]
KOREAN = [" ".join(WORDS[(n * 7 + k * k) % len(WORDS)] for k in range(2 + n % 5)) + f" {n}" for n in range(620)]
CORPORA = {
    "docstrings": (ENGLISH, "", "the title"),
    "long texts in chunks": (LONG, "chunk_tokens = 64\nchunk_overlap = 16\n", None),
    "short Korean texts": (KOREAN, "", "제목 하나"),
}


def filled(planned: Planned, texts: list[str], title: str | None) -> None:
    planned.db.execute(TEXTS.encode())
    with planned.db.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO shop.texts VALUES (%s, %s, %s)", [(n, text, title) for n, text in enumerate(texts)]
        )


def everything(planned: Planned) -> None:
    """Listener and worker, until all is embedded."""
    for _ in range(20):
        planned.settle()
        if planned.db.execute("SELECT count(*) FROM reindexer.due").fetchone() == (0,):
            return
    raise AssertionError("something is left to do")


def low_high(told: dict[str, float]) -> tuple[float, float]:
    return told["low"], told["high"]


@pytest.mark.parametrize(("texts", "shape", "title"), CORPORA.values(), ids=CORPORA.keys())
@pytest.mark.first(3)
def test_the_range_holds_what_is_billed_and_narrows_to_what_was_measured(
    planned: Planned, texts: list[str], shape: str, title: str | None
) -> None:
    filled(planned, texts, title)
    planned.says(OF_TEXTS + shape)
    first = planned.source("texts")
    assert (first["action"], first["cost"]["counted_by"], first["cost"]["rows"]) == ("add", "estimate", len(texts))
    planned.apply()
    everything(planned)
    billed = planned.tokens_billed()
    low, high = low_high(first["cost"]["tokens"])
    assert low <= billed <= high
    low, high = low_high(first["cost"]["dollars"])
    assert low <= billed / 1e6 * 10 <= high
    assert first["cost"]["points"]["high"] == first["cost"]["items"]["high"] or shape
    planned.says(OF_TEXTS.replace('["body"]', '["title", "body"]') + shape.replace("64", "48"))
    second = planned.source("texts")
    assert (second["action"], second["cost"]["counted_by"]) == ("change", "measured")
    before = len(planned.provider.inputs)
    planned.apply()
    everything(planned)
    told = planned.provider.inputs[before:]
    billed = sum(len(text) // 4 + 1 for text in told)
    low, high = low_high(second["cost"]["tokens"])
    assert low <= billed <= high, (len(told), told[:3], second["cost"])
    assert (high - low) / 2 / ((high + low) / 2) < 0.1
    assert (low + high) / 2 == pytest.approx(billed, rel=0.05)
    assert second["cost"]["minutes"] is not None


@pytest.mark.long
def test_where_texts_become_others_than_those_that_were_measured_the_range_still_holds(planned: Planned) -> None:
    filled(planned, KOREAN, "an English title of some length before each text")
    planned.says(OF_TEXTS)
    planned.plan()
    planned.apply()
    everything(planned)
    planned.says(OF_TEXTS.replace('["body"]', '["title", "body"]'))
    told, before = planned.source("texts")["cost"], planned.tokens_billed()
    assert told["counted_by"] == "measured"
    planned.apply()
    everything(planned)
    low, high = low_high(told["tokens"])
    assert low <= planned.tokens_billed() - before <= high


def test_of_a_change_that_leaves_texts_as_they_are_nothing_is_embedded(planned: Planned) -> None:
    planned.plan()
    planned.apply()
    planned.settle()
    planned.says(PRODUCTS.replace('"added"', '"added", "published"'))
    told = planned.source()
    assert (told["action"], list(told["changes"])) == ("change", ["payload"])
    assert low_high(told["cost"]["items"]) == low_high(told["cost"]["tokens"]) == (0, 0)
    assert told["cost"]["rows"] == 3
    calls = len(planned.provider.calls)
    planned.apply()
    planned.settle()
    assert len(planned.provider.calls) == calls
    assert planned.is_empty(), planned.run("plan").stdout


def test_only_rows_whose_text_a_change_changes_are_counted(planned: Planned) -> None:
    planned.plan()
    planned.apply()
    planned.settle()
    planned.says(PRODUCTS.replace('"description"', '"description", "internal_note"'))
    told = planned.source()
    assert low_high(told["cost"]["items"]) == (1, 1)
    calls = len(planned.provider.inputs)
    planned.apply()
    planned.settle()
    assert planned.provider.inputs[calls:] == ["Bicycle\ntwo wheels\nfrom Anna"]


def test_rows_that_enter_or_leave_are_told(planned: Planned) -> None:
    planned.plan()
    planned.apply()
    planned.says(PRODUCTS + 'where = "published"\n')
    assert planned.source()["moved"] == "0 would enter the index, 1 would leave it"


VECTORS = {
    "model": ('profile = "p"\n[profiles.p]\nmodel = "newer"\n', "newer"),
    "dimensions": ('profile = "p"\n[profiles.p]\ndimensions = 16\n', ":16 would make them"),
    "provider": ('profile = "p"\n[profiles.p]\nprovider = "hashing"\ndimensions = 32\n', "hashing"),
    "distance": ('profile = "p"\n[profiles.p]\ndistance = "dot"\n', "distance"),
    "document side": ('profile = "p"\n[profiles.p]\ndocument_prefix = "passage: "\n', "document_prefix 'passage: '"),
    "the collection's parameters": ('profile = "p"\n[profiles.p.collection]\non_disk_payload = true\n', "parameters"),
}


@pytest.mark.parametrize(("profile", "why"), VECTORS.values(), ids=VECTORS.keys())
@pytest.mark.first(3)
def test_what_would_mix_vectors_or_needs_another_collection_is_a_rebuild_and_migrate_leaves_it(
    planned: Planned, profile: str, why: str
) -> None:
    planned.plan()
    planned.apply()
    planned.settle()
    planned.says(PRODUCTS + profile)
    told = planned.source()
    assert told["action"] == "rebuild"
    assert why in told["why"][0]
    embedded = 0 if why == "parameters" else 3
    assert (told["cost"]["ledger_rows"], low_high(told["cost"]["items"])) == (3, (embedded, embedded))
    if not embedded:  # what is stored otherwise is taken from there, and so is each later edit
        assert low_high(told["cost"]["standby"]["tokens_per_1000_edits"]) == (0, 0)
    assert told["cost"]["standby"]["hours"] == 24
    before = find_source(planned.db, "products")
    done = planned.run("migrate")
    assert done.returncode == 0
    assert "products       left as it is, because it needs a rebuild (" in done.stdout
    assert find_source(planned.db, "products") == before
    planned.plan()
    assert "generation 2 is being filled" in planned.apply()
    assert planned.is_empty()
    assert planned.source()["why"] == ["generation 2 is being filled"]
    asked_before = len(planned.provider.inputs)
    planned.settle_all()
    asked = [each for each in planned.provider.inputs[asked_before:] if each != "reindexer"]
    assert len(asked) == (0 if why in ("hashing", "parameters") else 3)
    assert planned.source()["why"] == ["generation 2 is ready: reindexer promote products"]
    assert "products       left as it is" in planned.run("migrate").stdout


def test_another_document_side_of_the_same_model_is_paid_for_with_its_prefix_and_another_query_side_is_free(
    planned: Planned,
) -> None:
    planned.plan()
    planned.apply()
    planned.settle()
    sided = PRODUCTS + 'profile = "p"\n[profiles.p]\ndocument_prefix = "some words in front: "\n'
    planned.says(sided)
    told, before = planned.source(), planned.tokens_billed()
    assert low_high(told["cost"]["points"]) == (3, 3)
    assert told["cost"]["standby"]["tokens_per_1000_edits"]["low"] > 0
    planned.apply()
    planned.settle_all()
    texts = planned.provider.inputs[-3:]
    assert all(text.startswith("some words in front: ") for text in texts)
    low, high = low_high(told["cost"]["tokens"])
    assert low <= planned.tokens_billed() - before <= high
    assert planned.run("promote", "products").returncode == 0
    planned.says(sided + 'query_prefix = "query: "\n')
    told, calls = planned.source(), len(planned.provider.calls)
    assert (told["action"], list(told["changes"])) == ("change", ["profile.query_prefix"])
    assert low_high(told["cost"]["tokens"]) == (0, 0)
    planned.apply()
    planned.settle_all()
    assert len(planned.provider.calls) == calls


def test_a_way_back_that_holds_the_vectors_makes_the_lower_end_nothing(planned: Planned) -> None:
    smaller = PRODUCTS + 'profile = "p"\n[profiles.p]\ndimensions = 16\n'
    planned.plan()
    planned.apply()
    planned.settle()
    planned.says(smaller)
    planned.plan()
    planned.apply()
    planned.settle_all()
    assert planned.run("promote", "products").returncode == 0
    planned.says(PRODUCTS.replace('"added"', '"added", "published"'))
    told = planned.source()
    assert told["action"] == "rebuild"
    assert low_high(told["cost"]["items"]) == (0, 3)


def test_settings_of_another_model_are_a_rebuild_of_what_leaves_the_model_open(planned: Planned) -> None:
    planned.plan()
    planned.apply()
    planned.settle()
    planned.settings["REINDEXER_EMBEDDING_MODEL"] = "newer"
    told = planned.source()
    assert (told["action"], told["embedder"]) == ("rebuild", "openai:newer:32")
    assert "openai:newer:32 would make them now" in told["why"][0]


def test_a_source_may_say_that_every_change_of_it_is_a_rebuild(planned: Planned) -> None:
    planned.says(PRODUCTS + 'change = "rebuild"\n')
    assert planned.source()["action"] == "add"
    planned.apply()
    planned.settle()
    assert planned.is_empty()
    planned.says(PRODUCTS + 'change = "rebuild"\ntemplate = "{name}: {description}"\n')
    told = planned.source()
    assert (told["action"], told["why"]) == ("rebuild", ['the sources file says change = "rebuild"'])
    assert "left as it is, because it needs a rebuild" in planned.run("migrate").stdout
    assert find_source(planned.db, "products").template is None
    assert planned.run("rebuild", "products", "--detach").returncode == 0
    assert find_source(planned.db, "products", 2).template == "{name}: {description}"
    assert planned.is_empty()


def test_a_source_that_the_file_does_not_name_stays_unless_that_is_said(planned: Planned) -> None:
    planned.plan()
    planned.apply()
    planned.says("")
    told = planned.source()
    assert (told["action"], told["why"]) == (
        "nothing", [f"it is not in {planned.file}: add it, or `reindexer detach products`"],
    )  # fmt: skip
    assert planned.is_empty()
    assert planned.source("products", "--detach-missing")["action"] == "detach"
    assert "products  detached" in planned.apply()
    assert [each["name"] for each in planned.plan("--detach-missing")["sources"]] == ["context_items"]


def test_without_a_file_nothing_can_be_missing(planned: Planned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(planned.out.parent)
    done = planned.run("plan", "--detach-missing", REINDEXER_SOURCES="")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--detach-missing: there is no sources file here" in done.stderr


def test_another_key_and_another_model_at_once_is_told_to_be_no_rebuild(planned: Planned) -> None:
    planned.db.execute("ALTER TABLE shop.products ADD COLUMN id int GENERATED ALWAYS AS IDENTITY UNIQUE")
    planned.plan()
    planned.apply()
    planned.settle()
    planned.says(PRODUCTS + 'key = "id"\nprofile = "p"\n[profiles.p]\ndimensions = 16\n')
    done = planned.run("plan")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "a rebuild keeps the key" in done.stderr


def test_a_rebuild_by_another_definition_has_to_end_first(planned: Planned) -> None:
    planned.plan()
    planned.apply()
    planned.settle()
    planned.says(PRODUCTS + 'profile = "p"\n[profiles.p]\ndimensions = 16\n')
    planned.plan()
    planned.apply()
    planned.says(PRODUCTS + 'profile = "p"\n[profiles.p]\ndimensions = 8\n')
    told = planned.source()
    assert told["action"] == "nothing"
    assert "generation 2 is being filled by another definition" in told["problem"]


def test_what_is_not_known_here_is_told_and_stops_no_plan(planned: Planned) -> None:
    planned.plan()
    planned.apply()
    planned.settle()
    planned.says(PRODUCTS + 'template = "{name}: {description}"\n')
    done = planned.run(
        "plan", "--json", OPENAI_API_KEY="", QDRANT_URL="http://127.0.0.1:1", REINDEXER_PRICE_PER_MILLION_TOKENS=""
    )
    told = json.loads(done.stdout)
    (products,) = [each for each in told["sources"] if each["name"] == "products"]
    assert (products["action"], products["cost"]["dollars"]) == ("change", None)
    assert products["embedder"] == "openai:text-embedding-3-small:32"
    assert "collections and aliases were not looked at" in told["notes"][0]
    assert "the embedder is not known here" in products["why"][-1]


def test_a_tokenizer_counts_exactly(planned: Planned, monkeypatch: pytest.MonkeyPatch) -> None:
    from reindexer.adapters.embedders import token_counter

    def counter(model: str) -> token_counter.TokenCounter:
        return token_counter.TokenCounter("words", lambda text: len(text.split()))

    monkeypatch.setattr(token_counter, "token_counter", counter)
    told = planned.source()["cost"]
    assert (told["counted_by"], low_high(told["tokens"])) == ("tokenizer", (7, 7))


def test_a_large_table_is_sampled_and_the_range_is_wider(planned: Planned) -> None:
    planned.db.execute(TEXTS.encode())
    planned.db.execute(
        "INSERT INTO shop.texts SELECT n, repeat('word ', 1 + n % 40), '' FROM generate_series(1, 25000) AS n"
    )
    planned.db.execute("ANALYZE shop.texts")
    planned.says(OF_TEXTS)
    told = planned.source("texts")["cost"]
    assert (told["is_estimate"], told["rows"], told["due_rows"]) == (True, 25000, 22000)
    low, high = low_high(told["tokens"])
    really = sum((5 * (1 + n % 40) - 1) // 4 + 1 for n in range(1, 25001))
    assert low <= really <= high


def test_a_database_without_a_schema_gets_it_by_apply(planned: Planned, empty_database: str) -> None:
    planned.settings["DATABASE_URL"] = empty_database
    with psycopg.connect(empty_database, autocommit=True) as fresh:
        fresh.execute("CREATE SCHEMA shop; CREATE TABLE shop.products (sku text PRIMARY KEY, name text)")
        planned.says('[sources.products]\ntable = "shop.products"\ntext = "name"\n')
        told = planned.plan()
        assert (told["found_revision"], told["empty"]) == (None, False)
        assert fresh.execute("SELECT FROM pg_namespace WHERE nspname = 'reindexer'").fetchall() == []
        assert "(schema)  would be made" in planned.run("plan").stdout
        assert "products  attached; a fill is started" in planned.apply()
        assert planned.apply() == "products  is so already\n"
        assert planned.is_empty()


def test_of_an_older_schema_migrate_alone_can_tell(planned: Planned) -> None:
    planned.db.execute("UPDATE reindexer.alembic_version SET version_num = '0005'")
    done = planned.run("plan")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "run `reindexer migrate` first" in done.stderr
    planned.db.execute("UPDATE reindexer.alembic_version SET version_num = '9999'")
    done = planned.run("plan")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_the_collection_of_another_database_is_adopted_by_hand_alone(planned: Planned) -> None:
    planned.plan()
    planned.apply()
    planned.settle()
    planned.settings["REINDEXER_INSTANCE"] = "another"
    told = planned.source()
    assert told["action"] == "adopt"
    assert "reindexer adopt products" in told["problem"]
    assert "not everything could be done: products" in planned.apply(code=1)


def test_the_words_of_a_plan(planned: Planned) -> None:
    told = planned.run("plan", "--out", str(planned.out)).stdout
    assert "products       would be attached\n  items     3 looked at, 3 embedded (3 texts)\n" in told
    assert "  locks     shop.products: writers wait for a moment" in told
    assert told.endswith(f"to do exactly this: reindexer apply {planned.out}\n")
    planned.apply()
    assert planned.run("plan").stdout == "context_items  up to date\nproducts       up to date\nnothing to do\n"
    assert planned.run("migrate", "--dry-run").stdout == planned.run("plan").stdout


def test_a_plan_holds_no_secret(planned: Planned) -> None:
    planned.plan()
    text = planned.out.read_text(encoding="utf-8")
    assert not [value for name, value in planned.env.items() if name.endswith(("_KEY", "_URL")) and value in text]


def test_where_a_plan_can_not_be_written_it_is_one_line(planned: Planned) -> None:
    done = planned.run("plan", "--out", str(planned.out.parent / "no" / "plan.json"))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def facts(planned: Planned) -> Any:
    """What a plan must leave as it is."""
    tables = ("source", "generation", "run", "due", "outbox", "audit", "ledger")
    return [planned.db.execute(f"SELECT * FROM reindexer.{each} ORDER BY 1".encode()).fetchall() for each in tables]


def test_a_plan_changes_nothing(planned: Planned) -> None:
    planned.plan()
    planned.apply()
    planned.settle()
    planned.says(PRODUCTS + 'profile = "p"\n[profiles.p]\ndimensions = 16\n')
    before, calls = facts(planned), len(planned.provider.calls)
    planned.plan()
    planned.plan("--detach-missing")
    planned.run("migrate", "--dry-run")
    assert (facts(planned), len(planned.provider.calls)) == (before, calls)
