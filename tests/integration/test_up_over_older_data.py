"""`reindexer up` over data that an older version, or other settings, made."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reindexer.embedded.children import free_port
from reindexer.testing.waiting import eventually
from tests.support.commands import reindexer
from tests.support.up import start


def test_an_older_data_directory_is_told(directory: Path) -> None:
    (directory / "postgres").mkdir()
    (directory / "postgres" / "PG_VERSION").write_text("12\n", encoding="ascii")
    done = reindexer("up", "--data-dir", str(directory), "--port", str(free_port()))
    assert done.returncode == 2
    assert "was made by PostgreSQL 12, this is PostgreSQL 18" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_index_of_an_older_version_is_told_in_one_line_and_filled_anew_without_a_write(directory: Path) -> None:
    up = start(directory)
    up.wait_until_up()
    assert up.insert("kept over another index")
    eventually(lambda: up.finds("kept over another index"), within=30)
    up.process.terminate()
    up.process.wait(30)
    folder = directory / "qdrant"
    shutil.rmtree(folder)
    (folder / "collection" / "context_items__g1").mkdir(parents=True)
    (folder / "collection" / "context_items__g1" / "storage.sqlite").write_bytes(b"of another kind")
    (folder / "meta.json").write_text("{}")
    again = start(directory)
    again.wait_until_up()
    assert len([line for line in again.log.splitlines() if "an older version's" in line]) == 1, again.log
    eventually(lambda: again.finds("kept over another index"), within=30)
    assert not (folder / "meta.json").exists()
    again.process.terminate()
    again.process.wait(30)


@pytest.mark.timeout(240)
def test_up_goes_on_by_words_where_its_data_was_made_so(directory: Path) -> None:
    up_by_words(directory)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_up_knows_meaning_once_what_went_by_words_is_attached_anew(directory: Path) -> None:
    up_by_words(directory)
    beside = {"REINDEXER_DATA_DIR": str(directory)}
    again = ("--table", "public.context_items", "--text", "title,content", "--payload", "title,metadata")
    third = start(directory, REINDEXER_EMBEDDER="static")
    third.wait_until_up()
    assert reindexer("detach", "context_items", "--drop-collection", env=beside).returncode == 0
    assert reindexer("attach", "context_items", *again, env=beside).returncode == 0
    eventually(lambda: third.finds("the invoice is overdue"))
    third.process.terminate()
    third.process.wait(40)
    fourth = start(directory)
    fourth.wait_until_up()
    assert "static, built in: it knows meaning" in fourth.log
    assert "made by" not in fourth.log
    eventually(lambda: fourth.finds("the invoice is overdue"))
    fourth.process.terminate()
    fourth.process.wait(40)


def up_by_words(directory: Path) -> None:
    """An older version's default was `hashing`. Vectors of two never meet, and nothing is dropped unasked."""
    first = start(directory, REINDEXER_EMBEDDER="hashing")
    first.wait_until_up()
    first.insert("the invoice is overdue")
    eventually(lambda: first.finds("the invoice is overdue"))
    first.process.terminate()
    first.process.wait(40)
    second = start(directory)
    second.wait_until_up()
    assert "the points of 'context_items' are made by `hashing`, which matches words, and stay so; for" in second.log
    assert "hashing, built in: it matches words" in second.log
    second.insert("a doctor will see you now")
    eventually(lambda: second.finds("a doctor will see you now"))
    second.process.terminate()
    second.process.wait(40)


def test_up_with_another_model_than_the_data_is_up_and_tells_the_steps_to_take(directory: Path) -> None:
    first = start(directory, REINDEXER_EMBEDDER="hashing", REINDEXER_EMBEDDING_DIMENSIONS="64")
    first.wait_until_up()
    first.insert("a text")
    eventually(lambda: first.finds("a text"))
    first.process.terminate()
    first.process.wait(40)
    second = start(directory)
    second.wait_until_up()
    assert "made by hashing-1:64, the settings here say hashing-1:1536" in second.log
    assert "`reindexer detach context_items --drop-collection`, then attach it" in second.log
    second.process.terminate()
    second.process.wait(40)
