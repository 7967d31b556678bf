"""`reindexer up` over data that an older version, or other settings, made."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reindexer.embedded.children import free_port
from reindexer.testing.waiting import eventually
from tests.support.commands import reindexer
from tests.support.up import fill, running


def test_an_older_data_directory_is_told(directory: Path) -> None:
    (directory / "postgres").mkdir()
    (directory / "postgres" / "PG_VERSION").write_text("12\n", encoding="ascii")
    done = reindexer("up", "--data-dir", str(directory), "--port", str(free_port()))
    assert done.returncode == 2
    assert "was made by PostgreSQL 12, this is PostgreSQL 18" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.long
def test_an_index_of_an_older_version_is_told_in_one_line_and_filled_anew_without_a_write(directory: Path) -> None:
    fill(directory, "kept over another index")
    folder = directory / "qdrant"
    shutil.rmtree(folder)
    (folder / "collection" / "context_items__g1").mkdir(parents=True)
    (folder / "collection" / "context_items__g1" / "storage.sqlite").write_bytes(b"of another kind")
    (folder / "meta.json").write_text("{}")
    with running(directory) as again:
        assert len([line for line in again.log.splitlines() if "an older version's" in line]) == 1, again.log
        eventually(lambda: again.finds("kept over another index"), within=30)
        assert not (folder / "meta.json").exists()


@pytest.mark.long
@pytest.mark.timeout(240)
def test_up_goes_on_by_words_where_its_data_was_made_so(directory: Path) -> None:
    up_by_words(directory)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_up_knows_meaning_once_what_went_by_words_is_rebuilt(directory: Path) -> None:
    up_by_words(directory)
    beside = {"REINDEXER_DATA_DIR": str(directory), "REINDEXER_EMBEDDER": "static"}
    with running(directory) as third:
        done = reindexer("rebuild", "context_items", "--promote-when-ready", env=beside)
        assert (done.returncode, "use generation 2 now" in done.stdout) == (0, True)
        assert third.finds("the invoice is overdue")
    with running(directory) as fourth:
        assert "static, built in: it knows meaning" in fourth.log
        assert "made by" not in fourth.log
        eventually(lambda: fourth.finds("the invoice is overdue"))


def up_by_words(directory: Path) -> None:
    """An older version's default was `hashing`. Vectors of two never meet, and nothing is dropped unasked."""
    fill(directory, "the invoice is overdue", REINDEXER_EMBEDDER="hashing")
    told = "the points of 'context_items' are made by `hashing`, which matches words, and stay so; for"
    with running(directory) as second:
        assert told in second.log
        assert "hashing, built in: it matches words" in second.log
        assert second.insert("a doctor will see you now")
        eventually(lambda: second.finds("a doctor will see you now"))


@pytest.mark.long
def test_up_with_another_model_than_the_data_goes_by_the_data_and_tells_the_step_to_take(directory: Path) -> None:
    fill(directory, "a text", REINDEXER_EMBEDDER="hashing", REINDEXER_EMBEDDING_DIMENSIONS="64")
    with running(directory) as second:
        assert "embedder_settings_ignored" in second.log
        assert "recorded=hashing-1:64 settings=hashing-1:1536" in second.log
        assert "`reindexer rebuild context_items`" in second.log
        assert second.insert("another text")
        eventually(lambda: second.finds("another text"))
