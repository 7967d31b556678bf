"""`attach` run again changes what is given of a definition, and nothing else; it tells the difference and asks first."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from reindexer.sources.store import all_sources, find_source
from reindexer.testing.waiting import eventually
from tests.support.shop import ATTACH, Shop

FULL = (*ATTACH, "--where", "published", "--template", "{name}:\\n{description}", "--chunk-tokens", "400",
        "--chunk-overlap", "40", "--tenant", "sku", "--payload", "sku")  # fmt: skip


def definition(shop: Shop) -> dict[str, Any]:
    source = json.loads(shop.reindexer("sources", "--json"))["products"]
    return {key: value for key, value in source.items() if value not in (None, [], 0)}


def test_what_is_not_given_stays_as_it_was(shop: Shop) -> None:
    shop.reindexer(*FULL)
    shop.settle()
    assert shop.indexed().keys() == {"b1", "t1"}, "x1 is not published"
    before = definition(shop)
    told = shop.reindexer("attach", "products", "--chunk-tokens", "300")
    assert "chunk_tokens  400 → 300\n" in told
    assert "rows          none would enter the index or leave it\n" in told
    assert "changed; a fill is started" in told
    assert definition(shop) == before | {"chunk_tokens": 300}
    shop.settle()
    assert shop.indexed().keys() == {"b1", "t1"}
    assert "up to date" in shop.reindexer("attach", "products")
    assert "up to date" in shop.reindexer(
        "attach", "products", "--table", "shop.products", "--text", "name,description"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("--unset", "where"), "1 would enter the index, 0 would leave it"),
        (("--where", "NOT published"), "1 would enter the index, 2 would leave it"),
        (("--text", "description", "--unset", "template"), "0 would enter the index, 1 would leave it"),
        (("--key", "name"), "2 would enter the index, 2 would leave it"),
        (("--where", "published AND 1 / (price - 450) < 1"), "some may enter the index or leave it: they can't be counted"),
    ],
    ids=["no condition", "another condition", "another text", "another key", "a condition that fails on a row"],
)  # fmt: skip
@pytest.mark.first(2)
def test_where_rows_would_enter_or_leave_the_index_nothing_is_changed_unless_it_is_meant(
    shop: Shop, change: tuple[str, ...], words: str
) -> None:
    shop.db.execute("CREATE UNIQUE INDEX ON shop.products (name)")
    shop.reindexer(*FULL)
    shop.settle()
    before, indexed = definition(shop), shop.indexed()
    shown = shop.reindexer("attach", "products", *change, "--dry-run")
    assert words in shown
    refused = shop.reindexer("attach", "products", *change, code=1)
    assert words in refused
    assert "nothing was changed; if that is meant, say --yes" in refused
    assert definition(shop) == before
    shop.settle()
    assert shop.indexed() == indexed
    assert "changed; a fill is started" in shop.reindexer("attach", "products", *change, "--yes")
    assert definition(shop) != before


def test_a_dry_run_tells_the_difference_and_does_nothing(shop: Shop) -> None:
    new = json.loads(shop.reindexer(*ATTACH, "--dry-run", "--json"))["products"]
    assert new["new"] is True
    assert new["changes"]["table"] == {"before": None, "after": "shop.products"}
    assert "products" not in {each.name for each in all_sources(shop.db)}
    shop.reindexer(*FULL)
    assert "nothing would be changed" in shop.reindexer("attach", "products", "--dry-run")
    told = json.loads(shop.reindexer("attach", "products", "--unset", "where", "--dry-run", "--json"))["products"]
    assert told == {
        "new": False,
        "changes": {"where": {"before": "published", "after": None}},
        "rows": {"enter": 1, "leave": 0, "unknown": None},
    }
    assert find_source(shop.db, "products").condition == "published"


EMPTY: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "where": (("where",), ("condition", "condition_columns")),
    "payload and tenant": (("payload", "tenant"), ("payload_columns", "tenant_column")),
    "template": (("template",), ("template",)),
    "chunk overlap": (("chunk_overlap",), ("chunk_overlap",)),
    "chunks": (("chunk-tokens", "chunk-overlap"), ("chunk_tokens", "chunk_overlap")),
    "tenant": (("tenant",), ("tenant_column",)),
}


@pytest.mark.parametrize(("unset", "gone"), EMPTY.values(), ids=EMPTY.keys())
@pytest.mark.first(3)
def test_each_optional_key_can_be_taken_away(shop: Shop, unset: tuple[str, ...], gone: tuple[str, ...]) -> None:
    shop.reindexer(*FULL)
    before = definition(shop)
    shop.reindexer("attach", "products", "--yes", *(each for key in unset for each in ("--unset", key)))
    assert definition(shop) == {key: value for key, value in before.items() if key not in gone}


def test_a_profile_can_be_taken_away_or_a_part_of_it(
    shop: Shop, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reindexer.toml").write_text("[profiles.small]\nprovider = 'hashing'\nmodel = 'm'\ndimensions = 64\n")
    shop.reindexer(*ATTACH, "--profile", "small")
    assert "profile.model  m → not set" in shop.reindexer("attach", "products", "--unset", "profile.model")
    assert find_source(shop.db, "products").profile.as_json() == {"provider": "hashing", "dimensions": 64}
    shop.reindexer("attach", "products", "--unset", "profile")
    assert find_source(shop.db, "products").profile.as_json() == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--table", "shop.goods"), "follows shop.products, and another table is another source"),
        (("--unset", "text"), "--unset text: a source can't be without it"),
        (("--unset", "alias"), "it names the collection and can't be changed"),
        (("--unset", "wehre"), "--unset wehre: there is no such key; did you mean where?"),
        (("--unset", "where", "--where", "published"), "--unset where: it is given as well; say one of both"),
        (("--unset", "payload"), "the tenant column 'sku' is no payload column"),
        (("--payload", ""), "--payload names nothing; to take away what was given before, say --unset payload"),
        (
            ("--stop-words", ""),
            "--stop-words names nothing; to take away what was given before, say --unset stop-words",
        ),
        (("--where", ""), "the condition is empty"),
    ],
)
@pytest.mark.first(5)
def test_what_can_not_be_changed_is_one_line_and_nothing_is_changed(
    shop: Shop, options: tuple[str, ...], words: str
) -> None:
    shop.db.execute("CREATE TABLE shop.goods (sku text PRIMARY KEY, name text, description text)")
    shop.reindexer(*FULL)
    before = definition(shop)
    assert words in shop.reindexer("attach", "products", "--yes", *options, code=2)
    assert definition(shop) == before


def test_the_sources_file_can_not_take_another_table_either(
    shop: Shop, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.db.execute("CREATE TABLE shop.goods (sku text PRIMARY KEY, name text)")
    shop.reindexer(*ATTACH)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reindexer.toml").write_text("[sources.products]\ntable = 'shop.goods'\ntext = ['name']\n")
    words = "reindexer.toml:2: source 'products' follows shop.products, and another table is another source"
    assert words in shop.reindexer("migrate", code=2)


def test_a_table_that_was_renamed_is_the_same_table(shop: Shop) -> None:
    shop.reindexer(*ATTACH)
    shop.settle()
    shop.db.execute("ALTER TABLE shop.products RENAME TO goods")
    told = shop.reindexer("attach", "products", "--table", "shop.goods")
    assert "table  shop.products → shop.goods" in told
    shop.db.execute("UPDATE shop.goods SET price = 5 WHERE sku = 'b1'")
    shop.settle()
    assert shop.indexed()["b1"]["price"] == 5


def test_a_source_that_is_new_needs_a_table_and_a_text(shop: Shop) -> None:
    words = "there is no source 'products' yet; to attach it, say --table and --text"
    assert words in shop.reindexer("attach", "products", "--where", "published", code=2)
    assert words in shop.reindexer("attach", "products", "--table", "shop.products", code=2)


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("y", 0)])
@pytest.mark.first(1)
def test_on_a_terminal_it_asks(shop: Shop, env: Mapping[str, str], answer: str, code: int) -> None:
    shop.reindexer(*FULL)
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "reindexer", "attach", "products", "--unset", "where"]
    with subprocess.Popen(
        command, env={**os.environ, **env}, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        os.write(controller, f"{answer}\n".encode())
        out, err = running.communicate(timeout=30)
    os.close(controller)
    os.close(terminal)
    assert running.returncode == code, err
    assert out.index("where  published → not set") < out.index("Go on? [y/N]")
    assert "1 would enter the index" in out
    eventually(lambda: (find_source(shop.db, "products").condition is None) == (answer == "y"))
