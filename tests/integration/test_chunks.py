"""Long texts: several points an item, of which an edit embeds few; found by the item, told by their place."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from reindexer.backfills.pager import walk_page
from reindexer.core.lanes import Lane
from reindexer.core.search_terms import SearchTerms
from reindexer.core.source import Source
from reindexer.index import reconcile
from reindexer.index.search import collection_of, search
from reindexer.monitoring.status import item
from reindexer.postgres.connect import Connection
from reindexer.postgres.locks import changing_triggers
from reindexer.queue import requests
from reindexer.queue.claim import claim_batch
from reindexer.queue.drain import drain
from reindexer.sources.attach import attach
from reindexer.sources.embedding_specs import embedding_spec_of
from reindexer.sources.store import find_source
from reindexer.testing.provider import FakeProvider, error, vector_of
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.flow import idle
from tests.support.index_reader import IndexReader
from tests.support.long_texts import delete, document, edit, insert, move, paragraph
from tests.support.processes import Processes

WIKI = Source("wiki", "public", "pages", ("slug",), ("body",), ("title",), chunk_tokens=120)
PARAGRAPHS = 100


@dataclass
class Wiki:
    """A table of long texts, and what its points are."""

    db: Connection
    worker: Worker
    index: IndexReader
    provider: FakeProvider

    def attach(self, source: Source = WIKI) -> None:
        with changing_triggers(self.db):
            attach(self.db, source)
        self.settle()

    def settle(self) -> None:
        while drain(self.db).changes or walk_page(self.db, lambda name, _: find_source(self.db, name)):
            pass
        for lane in (*Lane, Lane.LIVE):
            self.worker.run_lane(lane, budget_s=20)
        walk_page(self.db, lambda name, _: find_source(self.db, name))
        assert self.db.execute("SELECT waits_for FROM reindexer.due").fetchall() == []

    def write(self, paragraphs: list[str], slug: str = "home") -> None:
        self.db.execute(
            "INSERT INTO pages (slug, body) VALUES (%s, %s) ON CONFLICT (slug) DO UPDATE SET body = excluded.body",
            [slug, "\n\n".join(paragraphs)],
        )

    def points(self, slug: str = "home") -> list[tuple[str, int]]:
        """Text of each point by its span, and its token, in order; each has the provider's vector of that text."""
        (body,) = self.db.execute("SELECT body FROM pages WHERE slug = %s", [slug]).fetchone() or ("",)
        records, more = self.index.client.scroll("wiki", limit=10_000, with_payload=True, with_vectors=True)
        assert more is None
        facts = {r.payload["_reindexer"]["chunk"]: (r, r.payload["_reindexer"]) for r in records if r.payload
                 and r.payload["_reindexer"]["item_id"] == slug}  # fmt: skip
        assert sorted(facts) == list(range(len(facts)))
        found = []
        for number in range(len(facts)):
            record, fact = facts[number]
            text = body[fact["span"][0] : fact["span"][1]]
            assert np.allclose(np.asarray(record.vector), vector_of(text), atol=1e-5)
            found.append((text, fact["version"]))
        return found

    def sides(self) -> reconcile.Sides:
        source = find_source(self.db, "wiki")
        spec = embedding_spec_of(source, self.worker.embedder_of(source))
        return reconcile.Sides(self.db, self.worker.index, source, collection_of(self.db, source), spec, 5)

    def differences(self) -> tuple[int, int, int]:
        """Missing, stale, orphaned."""
        with closing(reconcile.compare(self.sides(), lambda *_: None, wait_s=0, pause_s=0.05)) as found:
            return found.missing, found.stale, found.orphaned


def words(texts: Iterable[str]) -> list[str]:
    """All words of several texts, in order."""
    return " ".join(texts).split()


@pytest.fixture
def wiki(db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider) -> Wiki:
    db.execute("CREATE TABLE pages (slug text PRIMARY KEY, title text, body text)")
    return Wiki(db, worker, IndexReader(index.client, "wiki"), provider)


@pytest.fixture
def page() -> list[str]:
    return document(random.Random(7), PARAGRAPHS)


def test_a_long_text_becomes_several_points_that_hold_all_of_it_and_a_short_one_one(
    wiki: Wiki, page: list[str]
) -> None:
    wiki.write(page)
    wiki.write(["short"], "about")
    wiki.attach()
    texts = [text for text, _ in wiki.points()]
    assert len(texts) > 40
    assert words(texts) == words(page)
    assert [text for text, _ in wiki.points("about")] == ["short"]
    assert wiki.differences() == (0, 0, 0)
    source = find_source(wiki.db, "wiki")
    known = item(wiki.db, source, "home", embedding_spec_of(source, wiki.worker.embedder_of(source)))
    assert known is not None
    assert (known.chunks, known.wanted) == (len(texts), known.indexed)


@pytest.mark.parametrize("change", [edit, insert, delete, move])
@pytest.mark.first(2)
def test_a_changed_paragraph_of_a_hundred_costs_one_request_of_at_most_three_inputs(
    wiki: Wiki, page: list[str], change: Callable[[random.Random, list[str]], None]
) -> None:
    wiki.write(page)
    wiki.attach()
    for seed in range(5):
        wiki.provider.calls.clear()
        change(random.Random(seed), page)
        wiki.write(page)
        wiki.settle()
        assert len(wiki.provider.calls) <= 1
        assert len(wiki.provider.inputs) <= 3
        assert words(text for text, _ in wiki.points()) == words(page)
    assert wiki.differences() == (0, 0, 0)


def test_a_text_that_shrinks_leaves_no_surplus_points(wiki: Wiki, page: list[str]) -> None:
    wiki.write(page)
    wiki.attach()
    wiki.write(page[:10])
    wiki.settle()
    assert "\n\n".join(text for text, _ in wiki.points()) == "\n\n".join(page[:10])
    wiki.write(["only this"])
    wiki.settle()
    assert [text for text, _ in wiki.points()] == ["only this"]
    wiki.write([])
    wiki.settle()
    assert wiki.points() == []
    wiki.write(page)
    wiki.db.execute("DELETE FROM pages")
    wiki.settle()
    assert wiki.index.client.count("wiki").count == 0


def test_another_payload_reaches_every_chunk_without_a_request(wiki: Wiki, page: list[str]) -> None:
    wiki.write(page)
    wiki.attach()
    wiki.provider.calls.clear()
    wiki.db.execute("UPDATE pages SET title = 'Home'")
    wiki.settle()
    assert wiki.provider.calls == []
    chunks = len(wiki.points())
    assert [(wiki.index.payload("home", n) or {})["title"] for n in range(chunks)] == ["Home"] * chunks
    assert wiki.differences() == (0, 0, 0)


def test_text_and_payload_changed_together_reach_every_chunk(wiki: Wiki, page: list[str]) -> None:
    wiki.write(page)
    wiki.attach()
    wiki.provider.calls.clear()
    page[40] = paragraph(random.Random(1), 30)
    wiki.db.execute("UPDATE pages SET title = 'Home', body = %s", ["\n\n".join(page)])
    wiki.settle()
    assert len(wiki.provider.inputs) <= 3
    assert {(wiki.index.payload("home", n) or {})["title"] for n in range(len(wiki.points()))} == {"Home"}


def test_every_point_of_an_edited_item_has_the_new_token_so_that_no_late_write_reaches_any(
    wiki: Wiki, page: list[str]
) -> None:
    wiki.write(page)
    wiki.attach()
    before = {token for _, token in wiki.points()}
    page[70] = paragraph(random.Random(1), 30)
    wiki.write(page)
    wiki.provider.calls.clear()
    wiki.settle()
    after = {token for _, token in wiki.points()}
    assert len(after) == 1
    assert len(set(wiki.provider.inputs)) < 10, "who is refused for an old token embeds all anew"
    assert min(after) > max(before)


def test_a_doubtful_item_and_a_request_embed_every_chunk_again(wiki: Wiki, page: list[str]) -> None:
    wiki.write(page)
    wiki.attach()
    chunks = len(wiki.points())
    wiki.write([*page, "more"])
    drain(wiki.db)
    assert claim_batch(wiki.db, Lane.LIVE, 10, 0.01) is not None  # and its worker dies
    eventually(lambda: wiki.db.execute("SELECT 1 FROM reindexer.due WHERE lease_until < clock_timestamp()").fetchone())
    wiki.provider.calls.clear()
    wiki.settle()
    assert len(set(wiki.provider.inputs)) >= chunks
    wiki.provider.calls.clear()
    requests.record(wiki.db, "wiki", [requests.ReindexRequest(str(uuid.uuid4()), "home")], lane=Lane.BULK, sent=True)
    wiki.settle()
    assert len(set(wiki.provider.inputs)) >= chunks
    assert len(wiki.points()) >= chunks


def test_of_a_refused_chunk_the_item_fails_alone_and_keeps_its_old_points(wiki: Wiki, page: list[str]) -> None:
    wiki.write(page)
    wiki.attach()
    wiki.provider.behave = lambda call: error(400) if any("refused" in text for text in call.inputs) else None
    wiki.write([*page[:50], "This is refused. " * 10, *page[50:]])
    wiki.write(page[:20], "other")
    wiki.settle()
    assert dict(wiki.db.execute("SELECT item_id, outcome FROM reindexer.ledger").fetchall()) == {
        "home": "FAILED", "other": "COMPLETED",
    }  # fmt: skip
    assert len(wiki.points("other")) > 10


def test_search_finds_each_item_once_by_its_nearest_chunk_and_tells_the_place(wiki: Wiki, page: list[str]) -> None:
    wiki.write(page)
    wiki.write(list(reversed(page))[:40], "mirror")
    wiki.attach()
    text, _ = wiki.points("home")[3]
    source = find_source(wiki.db, "wiki")
    hits = search(
        wiki.worker.embedder_of(source),
        wiki.worker.index,
        collection_of(wiki.db, source),
        text,
        SearchTerms(10),
        timeout_s=5,
    )
    assert [hit.item_id for hit in hits] == ["home", "mirror"]
    assert hits[0].chunk == 3
    assert hits[0].score > 0.999
    start, end = hits[0].span or (0, 0)
    assert "\n\n".join(page)[start:end] == text


def test_another_chunk_size_makes_items_due_and_what_comes_out_the_same_is_not_embedded(
    wiki: Wiki, page: list[str]
) -> None:
    wiki.write(page)
    wiki.write(["short"], "about")
    wiki.attach()
    few = len(wiki.points())
    wiki.provider.calls.clear()
    wiki.attach(replace(WIKI, chunk_tokens=40))
    assert len(wiki.points()) > few
    assert "short" not in wiki.provider.inputs
    assert wiki.differences() == (0, 0, 0)


def test_reconcile_finds_missing_and_stale_chunks_and_surplus_ones_and_mends_them(wiki: Wiki, page: list[str]) -> None:
    wiki.write(page)
    wiki.write(page[:50], "two")
    wiki.write(page[:30], "three")
    wiki.attach()
    client = wiki.index.client
    ids = {(r.payload["_reindexer"]["item_id"], r.payload["_reindexer"]["chunk"]): r.id
           for r in client.scroll("wiki", limit=10_000)[0] if r.payload}  # fmt: skip
    client.delete("wiki", [ids["home", 5]])
    client.set_payload("wiki", {"fingerprint": "another"}, [ids["two", 3]], key="_reindexer")
    wiki.db.execute("ALTER TABLE pages DISABLE TRIGGER USER")
    wiki.write(page[:10], "three")
    wiki.db.execute("ALTER TABLE pages ENABLE TRIGGER USER")
    with closing(reconcile.compare(wiki.sides(), lambda *_: None, wait_s=0, pause_s=0.05)) as found:
        assert (found.missing, found.stale) == (1, 1)
        assert found.orphaned > 5
        reconcile.repair(wiki.sides(), found, who="test", max_deletions=None)
    wiki.settle()
    assert wiki.differences() == (0, 0, 0)
    for slug, paragraphs in (("home", page), ("two", page[:50]), ("three", page[:10])):
        assert words(text for text, _ in wiki.points(slug)) == words(paragraphs)


def test_a_payload_edit_does_not_hide_that_qdrant_holds_another_text(wiki: Wiki) -> None:
    """Qdrant was restored from an older snapshot: the ledger says "text as it is now", the point holds an older one."""
    wiki.write(["new text"])
    wiki.attach()
    (record,), _ = wiki.index.client.scroll("wiki", with_payload=True)
    older = vector_of("old text").tolist()
    payload = {**(record.payload or {})}
    payload["_reindexer"] = {**payload["_reindexer"], "fingerprint": "print of old text"}
    wiki.index.client.upsert("wiki", [{"id": record.id, "vector": older, "payload": payload}])  # type: ignore[list-item]
    wiki.db.execute("UPDATE pages SET title = 'edited'")
    wiki.settle()
    assert [text for text, _ in wiki.points()] == ["new text"]
    assert (wiki.index.payload("home") or {})["title"] == "edited"


def test_texts_that_are_equal_are_embedded_once_in_a_claim(wiki: Wiki) -> None:
    wiki.attach()
    wiki.provider.calls.clear()
    for n in range(20):
        wiki.write(["the same text"], f"page {n}")
    wiki.settle()
    assert wiki.provider.inputs == ["the same text"]
    assert wiki.index.client.count("wiki").count == 20


@pytest.mark.long
def test_two_megabytes_in_two_thousand_chunks_take_less_than_a_hundred_megabytes(
    db: Connection, processes: Processes
) -> None:
    embedder = {"REINDEXER_EMBEDDER": "hashing", "REINDEXER_EMBEDDING_DIMENSIONS": "1536"}
    db.execute("CREATE TABLE pages (slug text PRIMARY KEY, title text, body text)")
    with changing_triggers(db):
        attach(db, replace(WIKI, chunk_tokens=400))
    processes.listener(**embedder)
    worker = processes.worker(pool="solo", concurrency=1, **embedder)
    db.execute("INSERT INTO pages VALUES ('about', '', 'short')")
    eventually(lambda: idle(db), within=60)
    before_mb = _peak_mb(worker.process.pid)
    text = "\n\n".join(document(random.Random(1), 10_000))
    db.execute("INSERT INTO pages VALUES ('home', '', %s)", [text])
    eventually(lambda: idle(db), within=120)
    db.execute("UPDATE pages SET body = 'A new first paragraph. ' || body WHERE slug = 'home'")
    eventually(lambda: idle(db), within=120)
    (chunks,) = db.execute("SELECT chunks FROM reindexer.ledger WHERE item_id = 'home'").fetchone() or (0,)
    assert (len(text) > 1_900_000, chunks > 2_000) == (True, True)
    assert _peak_mb(worker.process.pid) < before_mb + 100


def _peak_mb(pid: int) -> int:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines())
    return int(status["VmHWM"].split()[0]) // 1024
