"""Headers of chunks: embedded in front of each, and part of neither its span nor its text."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace

import pytest

from reindexer import Client, Settings
from reindexer.core.source import CONTEXT_ITEMS, Source
from reindexer.postgres.connect import Connection
from reindexer.postgres.locks import changing_triggers
from reindexer.sources.attach import attach
from reindexer.sources.embedding_specs import embedding_spec_of
from reindexer.sources.estimate import estimate
from reindexer.testing.provider import FakeProvider, vector_of
from reindexer.wiring import worker as make_worker
from reindexer.worker.worker import Worker
from tests.support.commands import Done
from tests.support.flow import insert
from tests.support.generations import NAME, settle
from tests.support.index_reader import IndexReader
from tests.support.reconciling import differences

HEADED = replace(CONTEXT_ITEMS, template="{content}", chunk_header="{title} › {headings}", chunk_tokens=24)
WINTER = "Bees in winter form a cluster and shiver to keep warm. They eat the honey of the summer."
HEAT = "The queen is in the middle, where it is warmest of all. The others take turns outside."
TEXT = f"# Wintering\n\n{WINTER}\n\n## Heat\n\n{HEAT}"


def attached(db: Connection, worker: Worker, source: Source) -> None:
    with changing_triggers(db):
        attach(db, source)
    settle(db, worker)


def points(index: IndexReader, item_id: str) -> list[Mapping[str, object]]:
    found: list[Mapping[str, object]] = []
    while (payload := index.payload(item_id, len(found))) is not None:
        found.append(payload["_reindexer"])
    return found


def test_each_chunk_is_embedded_under_its_title_and_headings_and_spans_are_of_the_text(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    item_id, other = insert(db, TEXT, "Bees"), insert(db, "a short one", "Note")
    attached(db, worker, HEADED)
    pieces = [TEXT[slice(*each["span"])] for each in points(index, item_id)]  # type: ignore[misc]
    assert " ".join(" ".join(pieces).split()) == " ".join(TEXT.split())
    headers = {text.split("\n", 1)[0] for text in provider.inputs}
    assert headers >= {"Bees", "Bees › Wintering", "Bees › Wintering › Heat", "Note"}
    assert all(text.split("\n", 1)[1] in (*pieces, "a short one") for text in provider.inputs)
    assert index.holds(other, vector_of("Note\na short one"))
    assert differences(db, worker) == {}


def test_a_title_embeds_the_chunks_of_its_item_and_no_others(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    item_id = insert(db, TEXT, "Bees")
    insert(db, TEXT, "Wasps")
    attached(db, worker, HEADED)
    chunks = len(points(index, item_id))
    provider.calls.clear()
    db.execute("UPDATE context_items SET title = 'Honey bees' WHERE id = %s", [item_id])
    settle(db, worker)
    assert len(provider.inputs) == chunks > 2
    assert all(text.startswith("Honey bees") for text in provider.inputs)
    assert differences(db, worker) == {}


def test_a_heading_embeds_the_chunks_below_it(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    item_id = insert(db, TEXT, "Bees")
    attached(db, worker, HEADED)
    provider.calls.clear()
    db.execute("UPDATE context_items SET content = %s WHERE id = %s", [TEXT.replace("## Heat", "## Warmth"), item_id])
    settle(db, worker)
    assert provider.inputs
    assert all("Warmth" in text for text in provider.inputs)
    assert differences(db, worker) == {}


def test_a_header_that_is_added_in_place_is_counted_and_embeds_what_it_changes(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    insert(db, TEXT, "Bees")
    insert(db, "a text without a title")
    attached(db, worker, replace(HEADED, chunk_header=None, template=None))
    provider.calls.clear()
    headed = replace(HEADED, template=None)
    told = estimate(db, headed, embedding_spec_of(headed, worker.embedder_of(headed)), len)
    attached(db, worker, headed)
    assert (told.changed, told.changed_tokens) == (1, sum(map(len, provider.inputs)))
    assert differences(db, worker) == {}


def test_a_hit_has_its_text_where_a_short_input_cuts_its_header(
    db: Connection, settings: Settings, index: IndexReader
) -> None:
    short = settings.model_copy(update={"embedding_max_input_tokens": 100})
    item_id = insert(db, "a text", "A title that is longer than a quarter of an input " * 4)
    insert(db, "another", "Short")
    with closing(make_worker(short, None)) as worker, Client(short) as client:
        attached(db, worker, HEADED)
        assert {hit.text for hit in client.search(NAME, "x", text=True).hits} == {"a text", "another"}
        assert [hit.text for hit in client.similar(NAME, item_id, text=True).hits] == ["another"]


@pytest.mark.parametrize("again", [True, False])
def test_the_command_takes_a_header_and_takes_it_away(
    db: Connection, index: IndexReader, here: object, env: Mapping[str, str], again: bool
) -> None:
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, title text, body text)")
    said = ("--table", "notes", "--text", "title,body", "--chunk-header", "{title}", "--template", "{body}")
    done: Done = here("attach", "notes", *said, env=env)  # type: ignore[operator]
    assert done.returncode == 0, done.stderr
    more = ("--unset", "chunk_header") if again else ("--chunk-header", "{headings}")
    refused: Done = here("attach", "notes", *more, env=env)  # type: ignore[operator]
    assert refused.returncode == 2
    assert "the template does not use the text column 'title'" in refused.stderr
