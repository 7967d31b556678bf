"""`migrate` brings the database to what the sources file says, or changes nothing; `attach` can say the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from reindexer.core.profile import Profile
from reindexer.postgres.connect import Connection
from reindexer.sources.store import all_sources, find_source
from reindexer.sources.trigger_check import inspect
from tests.support.commands import Done

SHOP = b"""
    CREATE SCHEMA shop;
    CREATE TABLE shop.products (
        sku text PRIMARY KEY, name text NOT NULL, description text, category text, price int, published boolean
    );
    CREATE TABLE shop."Orders" (id int PRIMARY KEY, "Note" text);
    CREATE VIEW shop.cheap AS SELECT * FROM shop.products;
    CREATE TABLE shop.log (line text);
"""
PRODUCTS = """
[sources.products]
table = "shop.products"
text = ["name", "description"]
payload = ["price", "category"]
where = "published"
template = "{name}:\\n{description}"
chunk_tokens = 400
chunk_overlap = 40
tenant = "category"
profile = "small"
"""
ORDERS = """
[sources.orders]
table = 'shop."Orders"'
text = "Note"
"""
PROFILE = """
[profiles.small]
provider = "hashing"
dimensions = 64
collection.hnsw_config = { m = 8, ef_construct = 100 }
collection.on_disk_payload = true
"""


@dataclass
class Shop:
    """A database with tables, a sources file, and commands."""

    db: Connection
    file: Path
    run: Callable[..., Done]

    def says(self, text: str) -> None:
        """What the file holds from now on."""
        self.file.write_text(text, encoding="utf-8")

    def reindexer(self, *arguments: str, code: int = 0) -> str:
        """Runs a command; returns what it says, of an error its one line."""
        done = self.run(*arguments)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        assert code == 0 or done.stderr.count("\n") == 1, done.stderr
        return done.stdout if code == 0 else done.stderr

    def fills(self) -> list[tuple[str, int]]:
        """How many fills were started for each source but the built-in one."""
        return self.db.execute(
            "SELECT source, count(*) FROM reindexer.run WHERE source <> 'context_items' GROUP BY 1 ORDER BY 1"
        ).fetchall()

    def attached(self) -> set[str]:
        """All sources but the built-in one."""
        return {each.name for each in all_sources(self.db)} - {"context_items"}


@pytest.fixture
def shop(db: Connection, here: Callable[..., Done], env: Mapping[str, str], tmp_path: Path) -> Shop:
    db.execute(SHOP)
    file = tmp_path / "my.toml"
    settings = {**env, "REINDEXER_SOURCES": str(file)}
    return Shop(db, file, lambda *arguments, **more: here(*arguments, env={**settings, **more}))


def test_migrate_attaches_what_the_file_says_and_a_second_one_does_nothing(shop: Shop) -> None:
    shop.says(PRODUCTS + ORDERS + PROFILE)
    told = shop.reindexer("migrate")
    assert "products       attached; a fill is started" in told
    assert "orders         attached; a fill is started" in told
    assert shop.fills() == [("orders", 1), ("products", 1)]
    products = find_source(shop.db, "products")
    assert (products.key_columns, products.template) == (("sku",), "{name}:\n{description}")
    assert (products.condition, products.condition_columns) == ("published", ("published",))
    assert (products.chunk_tokens, products.chunk_overlap, products.tenant_column) == (400, 40, "category")
    parameters = {"hnsw_config": {"m": 8, "ef_construct": 100}, "on_disk_payload": True}
    assert products.profile == Profile("hashing", dimensions=64, collection=parameters)
    told = shop.reindexer("migrate")
    assert told.count("up to date") == 3
    assert shop.fills() == [("orders", 1), ("products", 1)]


def test_what_is_changed_in_the_file_is_changed_by_migrate(shop: Shop) -> None:
    shop.says(PRODUCTS + ORDERS + PROFILE)
    shop.reindexer("migrate")
    shop.says(PRODUCTS.replace("400", "300").replace("where =", "# where =") + ORDERS + PROFILE)
    assert "products       would be changed: where, chunk_tokens\n" in shop.reindexer("migrate", "--dry-run")
    assert find_source(shop.db, "products").condition == "published"
    told = shop.reindexer("migrate")
    assert "products       changed; a fill is started" in told
    assert "orders         up to date" in told
    products = find_source(shop.db, "products")
    assert (products.condition, products.chunk_tokens) == (None, 300)


def test_a_profile_that_changes_changes_the_sources_that_name_it(shop: Shop) -> None:
    shop.says(PRODUCTS + ORDERS + PROFILE)
    shop.reindexer("migrate")
    shop.says(PRODUCTS + ORDERS + PROFILE.replace("64", "128"))
    told = shop.reindexer("migrate")
    assert "products       changed; a fill is started" in told
    assert "orders         up to date" in told


def test_a_source_whose_vectors_would_be_others_stays_as_it_is_and_the_rest_of_the_file_is_applied(shop: Shop) -> None:
    shop.says(PRODUCTS + ORDERS + PROFILE)
    shop.reindexer("migrate")
    shop.db.execute("UPDATE reindexer.generation SET embedder = 'hashing-1:64' WHERE source = 'products'")
    before = find_source(shop.db, "products")
    shop.db.execute("ALTER TABLE shop.products DISABLE TRIGGER USER")
    shop.says(PRODUCTS.replace("400", "300") + ORDERS + "template = '{Note}!'" + PROFILE.replace("64", "128"))
    told = (
        "products       left as it is, because it needs a rebuild (hashing-1:64 made its vectors, the profile says "
        "dimensions 128): see `reindexer plan`\n"
    )
    looked = shop.reindexer("migrate", "--dry-run")
    assert (
        "products       would be rebuilt: hashing-1:64 made its vectors, hashing-1:128 would make them now\n" in looked
    )
    assert "orders         would be changed: template\n" in looked
    done = shop.reindexer("migrate")
    assert told in done
    assert "orders         changed; a fill is started" in done
    assert find_source(shop.db, "products") == before
    assert inspect(shop.db, before).well, "it is looked after as before"
    assert shop.reindexer("rebuild", "products", "--detach")
    rebuilt = find_source(shop.db, "products", 2)
    assert (rebuilt.made_by, rebuilt.chunk_tokens) == ("hashing-1:128", 300)
    assert told in shop.reindexer("migrate")


def test_what_the_file_no_longer_names_stays_and_is_told(shop: Shop) -> None:
    shop.says(PRODUCTS + ORDERS + PROFILE)
    shop.reindexer("migrate")
    shop.says(ORDERS)
    words = f"products       up to date; it is not in {shop.file}: add it, or `reindexer detach products`"
    assert words in shop.reindexer("migrate", "--dry-run")
    assert words in shop.reindexer("migrate")
    assert shop.attached() == {"products", "orders"}
    shop.says("")
    assert "context_items  up to date\n" in shop.reindexer("migrate"), "the built-in source is never missed"


def test_without_a_file_nothing_is_missed(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shop.says(ORDERS)
    shop.reindexer("migrate")
    told = shop.run("migrate", REINDEXER_SOURCES="")
    assert "orders         up to date\n" in told.stdout
    (tmp_path / "reindexer.toml").write_text(PRODUCTS + PROFILE)
    told = shop.run("migrate", REINDEXER_SOURCES="")
    assert "products       attached" in told.stdout
    assert "orders         up to date; it is not in reindexer.toml: add it" in told.stdout


BAD = '[sources.bad]\ntable = "shop.products"\ntext = ["name"]\n'  # three lines

UNFIT: dict[str, tuple[str, str]] = {
    "no such table": (BAD.replace("products", "prod"), "2: source 'bad': there is no table shop.prod; see"),
    "a view": (BAD.replace("products", "cheap"), "2: source 'bad': shop.cheap is a view, and has no changes to follow"),
    "other letters": (BAD.replace("products", "orders"), "2: source 'bad': there is no table shop.orders; is it shop.\"Orders\"?"),
    "no primary key": (BAD.replace("products", "log"), "1: source 'bad': shop.log has no primary key; name columns"),
    "no such text column": (BAD.replace("name", "nme"), "3: source 'bad': shop.products has no column 'nme'; is it 'name'?"),
    "no such payload column": (BAD + "payload = [\n'price',\n'zzz',\n]", "4: source 'bad': shop.products has no column 'zzz'; it has"),
    "no such key column": (BAD + "key = 'skv'", "4: source 'bad': shop.products has no column 'skv'; is it 'sku'?"),
    "a key without an index": (BAD + "key = 'name'", "4: source 'bad': (name) has no valid unique NOT NULL index"),
    "a condition that is none": (BAD + "where = 'price >'", "4: source 'bad': the condition does not work on 'bad': syntax error"),
    "a condition of time": (BAD + "where = 'now() > now()'", "4: source 'bad': the condition must depend on nothing but the row"),
    "the alias of one that the file does not name": (BAD + "alias = 'old'", "4: source 'bad': the alias 'old' is that of the source 'old'"),
    "another alias": (BAD.replace("bad", "old") + "alias = 'new'", "4: source 'old' has the alias 'old', which names its collection"),
    "a mistake that needs no database": (BAD + "txet = 1", "4: sources.bad.txet is not known; did you mean 'text'?"),
}  # fmt: skip


@pytest.mark.parametrize("command", [("migrate",), ("migrate", "--dry-run")], ids=["migrate", "dry run"])
@pytest.mark.parametrize(("text", "words"), UNFIT.values(), ids=UNFIT.keys())
@pytest.mark.first(13)
def test_one_source_that_does_not_fit_is_one_line_and_none_is_attached(
    shop: Shop, command: tuple[str, ...], text: str, words: str
) -> None:
    shop.says("")
    shop.reindexer("attach", "old", "--table", "shop.products", "--text", "name")
    before = (shop.attached(), shop.fills())
    shop.says(text + ORDERS)
    assert shop.reindexer(*command, code=2).startswith(f"reindexer: {shop.file}:{words}")
    assert (shop.attached(), shop.fills()) == before


def test_a_file_that_does_not_fit_keeps_a_fresh_database_as_it_is(shop: Shop, empty_url: str) -> None:
    with psycopg.connect(empty_url, autocommit=True) as fresh:
        schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'reindexer'"
        shop.says(ORDERS)
        done = shop.run("migrate", DATABASE_URL=empty_url)
        assert (done.returncode, fresh.execute(schemas).fetchone()) == (2, (0,))
        fresh.execute(SHOP)
        done = shop.run("migrate", "--dry-run", DATABASE_URL=empty_url)
        assert "orders    fits its table; would be attached" in done.stdout
        assert fresh.execute(schemas).fetchone() == (0,)
        done = shop.run("migrate", DATABASE_URL=empty_url)
        assert done.stdout == "orders  attached; a fill is started\n"


def test_who_does_not_own_a_table_is_told_before_anything_is_changed(shop: Shop, database: str) -> None:
    shop.db.execute(b"""
        DROP ROLE IF EXISTS rx_clerk;
        CREATE ROLE rx_clerk LOGIN;
        GRANT USAGE ON SCHEMA shop, reindexer TO rx_clerk;
        GRANT ALL ON ALL TABLES IN SCHEMA shop, reindexer TO rx_clerk;
        ALTER TABLE shop."Orders" OWNER TO rx_clerk
    """)
    shop.says(ORDERS + PRODUCTS + PROFILE)
    done = shop.run("migrate", DATABASE_URL=make_conninfo(database, user="rx_clerk"))
    attached = shop.attached()
    shop.db.execute(b'ALTER TABLE shop."Orders" OWNER TO CURRENT_USER; DROP OWNED BY rx_clerk; DROP ROLE rx_clerk')
    assert done.returncode == 2
    assert f"{shop.file}:7: source 'products': shop.products belongs to" in done.stderr
    assert attached == set()


def test_a_named_file_that_is_missing_is_an_error(shop: Shop) -> None:
    assert "REINDEXER_SOURCES names a sources file that can't be read: No such file" in shop.reindexer(
        "migrate", code=2
    )


def test_attach_says_the_same_as_the_file(shop: Shop) -> None:
    shop.says(PROFILE)
    shop.reindexer(
        "attach", "products", "--table", "shop.products", "--text", "name,description", "--payload", "price,category",
        "--where", "published", "--template", "{name}:\\n{description}", "--chunk-tokens", "400", "--chunk-overlap",
        "40", "--tenant", "category", "--profile", "small",
    )  # fmt: skip
    shown = shop.reindexer("sources")
    for part in ("chunk tokens", "400", "chunk overlap", "40", "tenant", "category", "hashing", "64", '{"m": 8'):
        assert part in shown
    shop.says(PRODUCTS + PROFILE)
    assert "products       up to date" in shop.reindexer("migrate")
    assert shop.fills() == [("products", 1)]


@pytest.mark.parametrize(("options", "words"), [
    (("--chunk-tokens", "3"), "chunk_tokens is 3; use 16 to 1000000"),
    (("--chunk-overlap", "-1"), "chunk_overlap is -1; use 0 to half of chunk_tokens"),
    (("--tenant", "category"), "the tenant column 'category' is no payload column; name it there too"),
    (("--profile", "smal"), "has no profile 'smal'; did you mean 'small'?"),
    (("--alias", "a/b"), "Qdrant takes no alias 'a/b'"),
])  # fmt: skip
def test_a_wrong_option_of_attach_is_one_line(shop: Shop, options: tuple[str, ...], words: str) -> None:
    shop.says(PROFILE)
    assert words in shop.reindexer("attach", "p", "--table", "shop.products", "--text", "name", *options, code=2)
    assert shop.attached() == set()


def test_a_profile_needs_a_file(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = shop.run("attach", "p", "--table", "t", "--text", "x", "--profile", "small", REINDEXER_SOURCES="")
    assert done.returncode == 2
    assert "--profile small: there is no reindexer.toml here" in done.stderr
