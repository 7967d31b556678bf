"""The Django application: its command, its check, and marks, with the real Django."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path

from reindexer.core.source import Source
from reindexer.django import Mark, marked
from reindexer.embedded.children import Children
from reindexer.postgres.connect import Connection
from reindexer.queue import marks
from reindexer.queue.drain import drain
from reindexer.sources.attach import attach
from reindexer.testing.waiting import eventually
from tests.support.django_project import configured, create_tables, manage
from tests.support.processes import ROOT

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PRODUCTS = Source("products", "public", "django_shop_product", ("id",), ("name",))


@pytest.fixture(autouse=True)
def _django(database: str) -> Iterator[None]:
    with configured(database):
        create_tables()
        yield


def product() -> Any:
    """The model: it can be imported once Django is set up."""
    from tests.support.django_shop.models import Product

    return Product


def state(db: Connection, mark: Mark) -> str:
    assert mark.token is not None
    return marks.states(db, [mark.token])[mark.token]


def warned() -> list[tuple[str, str]]:
    """Ids of what the check of databases finds, with the model and the words."""
    return [(each.id, str(each)) for each in run_checks(databases=["default"]) if each.id.startswith("reindexer.")]


def test_the_check_finds_nothing_while_all_is_well_and_nothing_is_attached(db: Connection) -> None:
    assert warned() == []
    attach(db, PRODUCTS)
    assert warned() == []


@pytest.mark.parametrize(
    ("broken_by", "ids", "words"),
    [
        ("DROP TRIGGER reindexer_products_insert ON django_shop_product", ["W001"], "public.django_shop_product are missing"),
        ("ALTER TABLE django_shop_product DISABLE TRIGGER USER", ["W001"], "public.django_shop_product are disabled"),
        ("DROP FUNCTION reindexer.products_update CASCADE", ["W001"], "are missing"),
        ("UPDATE reindexer.source SET definition_hash = 'older'", ["W001"], "run `reindexer migrate`"),
        ("ALTER TABLE django_shop_product RENAME COLUMN name TO title", ["W001", "W002"], "does not exist"),
    ],
)  # fmt: skip
def test_the_check_warns_of_a_model_whose_changes_pass_unseen(
    db: Connection, broken_by: str, ids: list[str], words: str
) -> None:
    attach(db, PRODUCTS)
    db.execute(broken_by.encode())
    found = warned()
    assert [each for each, _ in found] == [f"reindexer.{number}" for number in ids]
    assert words in "".join(text for _, text in found)
    assert all("django_shop.Product" in text and "'products'" in text for _, text in found)


def test_the_check_says_nothing_of_tables_that_no_model_has_nor_without_databases(db: Connection) -> None:
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
    attach(db, Source("notes", "public", "notes", ("id",), ("body",)))
    attach(db, PRODUCTS)
    db.execute("ALTER TABLE notes DISABLE TRIGGER USER")
    assert warned() == []
    db.execute("ALTER TABLE django_shop_product DISABLE TRIGGER USER")
    assert [each for each in run_checks() if each.id.startswith("reindexer.")] == []


def test_the_check_knows_a_table_that_a_migration_renamed(db: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    attach(db, PRODUCTS)
    db.execute("ALTER TABLE django_shop_product RENAME TO goods")
    monkeypatch.setattr(product()._meta, "db_table", "goods")
    assert "(it is called goods now)" in "".join(text for _, text in warned())


def test_what_can_not_be_checked_is_a_warning_too(db: Connection) -> None:
    db.execute("UPDATE reindexer.alembic_version SET version_num = '9999'")
    assert [each for each, _ in warned()] == ["reindexer.W003"]
    db.execute("DROP SCHEMA reindexer CASCADE")
    assert warned() == []


def test_the_command_becomes_the_program_on_djangos_database_and_hears_its_signals(
    env: Mapping[str, str], database: str, db: Connection, tmp_path: Path
) -> None:
    program = [sys.executable, str(manage(tmp_path, database)), "reindexer", "listen"]
    elsewhere = {**os.environ, **env, "DATABASE_URL": "postgresql://127.0.0.1:1/nothing", "PYTHONPATH": str(ROOT)}
    with Children(tmp_path / "logs") as children:
        child = children.start("listener", program, env=elsewhere)
        listens = "SELECT FROM reindexer.process WHERE role = 'listener'"
        eventually(lambda: db.execute(listens.encode()).fetchall(), within=20)
        child.process.send_signal(signal.SIGTERM)
        eventually(lambda: not child.running(), within=10)
        assert child.process.returncode == 0


@pytest.mark.long
def test_call_command_returns_the_output_and_raises_what_went_wrong(db: Connection) -> None:
    attach(db, PRODUCTS)
    out = io.StringIO()
    call_command("reindexer", "sources", "--json", stdout=out, stderr=io.StringIO())
    assert "products" in json.loads(out.getvalue())
    with pytest.raises(CommandError, match="reindexer: there is no source 'goods'; attached: ") as raised:
        call_command("reindexer", "why", "goods", "1")
    assert raised.value.returncode == 2


def test_what_a_transaction_wrote_can_be_waited_for(db: Connection) -> None:
    attach(db, PRODUCTS)
    with transaction.atomic():
        with marked(traceparent=TRACE) as mark:
            product().objects.create(name="Fjord")
            with transaction.atomic():
                product().objects.create(name="of a savepoint")
        product().objects.create(name="after the block")
        assert mark.token is None
    assert state(db, mark) == "waiting"
    written = db.execute("SELECT DISTINCT xact::text FROM reindexer.outbox").fetchall()
    assert written == [(str(mark.token).partition("-")[0],)]
    assert db.execute("SELECT count(*), min(traceparent) FROM reindexer.mark").fetchone() == (1, TRACE)
    assert drain(db).changes == 3


def test_a_transaction_that_is_rolled_back_has_no_token(db: Connection) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        with marked() as mark:
            product().objects.create(name="never")
        raise ZeroDivisionError
    with transaction.atomic():
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            with marked() as of_savepoint:
                product().objects.create(name="never")
            raise ZeroDivisionError
        with pytest.raises(ZeroDivisionError), marked() as raised:
            raise ZeroDivisionError
        product().objects.create(name="in the end")
    assert (mark.token, of_savepoint.token, raised.token) == (None, None, None)


def test_a_mark_within_a_savepoint_is_that_of_the_whole_transaction(db: Connection) -> None:
    attach(db, PRODUCTS)
    with transaction.atomic():
        product().objects.create(name="before")
        with transaction.atomic(), marked() as mark:
            product().objects.create(name="of a savepoint")
        assert mark.token is None
    drain(db)
    assert state(db, mark) == "waiting"
    assert len(marks.left(db, str(mark.token))) == 2


def test_a_transaction_that_only_reads_or_is_to_be_rolled_back_is_not_marked(db: Connection) -> None:
    with transaction.atomic(), marked() as mark:
        assert list(product().objects.all()) == []
    with transaction.atomic(), marked() as doomed:
        product().objects.create(name="never")
        transaction.set_rollback(True)
    assert (mark.token, doomed.token) == (None, None)
    db.execute("DROP SCHEMA reindexer CASCADE")
    with transaction.atomic(), marked() as unfollowed:
        product().objects.create(name="in a database of tests")
    assert unfollowed.token is None


def test_outside_of_a_transaction_it_says_what_to_do(db: Connection) -> None:
    told = r"write `with transaction\.atomic\(\)` around it"
    with pytest.raises(transaction.TransactionManagementError, match=told), marked():
        pytest.fail("the block is not entered")


def test_a_view_of_an_atomic_request_sends_its_mark_with_the_response(
    db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach(db, PRODUCTS)
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)

    def save(request: HttpRequest) -> HttpResponse:
        response = HttpResponse("saved")
        with marked() as mark:
            product().objects.create(name=request.GET["name"])
        mark.on_token(lambda token: response.headers.__setitem__("Reindexer-Mark", token))
        assert mark.token is None
        return response

    monkeypatch.setattr(settings, "ROOT_URLCONF", (path("save", save),), raising=False)
    sent = Client().get("/save", {"name": "Fjord"}, headers={"host": "localhost"})
    assert marks.states(db, [sent.headers["Reindexer-Mark"]]) == {sent.headers["Reindexer-Mark"]: "waiting"}
