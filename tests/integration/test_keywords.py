"""Keywords: each point holds those of its own text, by the same fenced write as its vector, and no provider is asked."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace

import pytest
from qdrant_client import models

from reindexer.adapters.bm25 import encoder
from reindexer.backfills.pager import walk_page
from reindexer.core.errors import OtherVectors
from reindexer.core.items import point_id
from reindexer.core.keywords import Keywords
from reindexer.core.lanes import Lane
from reindexer.core.source import Source
from reindexer.index import reconcile
from reindexer.index.search import collection_of
from reindexer.postgres.connect import Connection
from reindexer.queue.drain import drain
from reindexer.sources import change
from reindexer.sources.embedding_specs import embedding_spec_of
from reindexer.sources.store import find_source
from reindexer.testing.provider import FakeProvider, error
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.index_reader import IndexReader

LONG = "\n\n".join(f"Paragraph {n} of the manual tells about the part P-{n * 37}. " + "It is long. " * 20
                   for n in range(8))  # fmt: skip


@dataclass
class Manuals:
    """A table of manuals whose source may have keywords."""

    db: Connection
    worker: Worker
    index: IndexReader
    provider: FakeProvider

    def attach(self, **said: object) -> None:
        wanted = change.propose(self.db, "manuals", said, ())
        change.apply(self.db, wanted, who="test")
        self.settle()

    def settle(self) -> None:
        while drain(self.db).changes or walk_page(self.db, lambda name, _: find_source(self.db, name)):
            pass
        for lane in (*Lane, Lane.LIVE):
            self.worker.run_lane(lane, budget_s=10)
        walk_page(self.db, lambda name, _: find_source(self.db, name))

    def write(self, key: str, body: str, label: str = "") -> None:
        self.db.execute(
            "INSERT INTO manuals VALUES (%s, %s, %s) ON CONFLICT (id) DO UPDATE SET body = excluded.body,"
            " label = excluded.label",
            [key, body, label],
        )

    @property
    def source(self) -> Source:
        return find_source(self.db, "manuals")

    def stored(self) -> Mapping[tuple[str, int], Keywords | None]:
        """The keywords of each point, by item and chunk."""
        records, more = self.index.client.scroll("manuals", limit=1000, with_payload=True, with_vectors=True)
        assert more is None
        found = {}
        for record in records:
            facts = (record.payload or {})["_reindexer"]
            vectors = record.vector if isinstance(record.vector, dict) else {}
            sparse = vectors.get("bm25")
            found[facts["item_id"], facts["chunk"]] = (
                Keywords(tuple(sparse.indices), tuple(sparse.values))
                if isinstance(sparse, models.SparseVector)
                else None
            )
        return found

    def settled(self) -> Mapping[tuple[str, int], Keywords | None]:
        """What is stored once more work is done."""
        self.settle()
        return self.stored()

    def wanted(self) -> Mapping[tuple[str, int], Keywords]:
        """The keywords that the rows' texts have, by spans that the points hold."""
        rules = replace(self.source, keywords=True).keyword_rules
        assert rules is not None
        bodies: dict[str, str] = dict(self.db.execute("SELECT id, body FROM manuals").fetchall())
        records, _ = self.index.client.scroll("manuals", limit=1000, with_payload=True)
        facts = [(record.payload or {})["_reindexer"] for record in records]
        return {
            (each["item_id"], each["chunk"]): encoder(rules).document(bodies[each["item_id"]][slice(*each["span"])])
            for each in facts
        }

    def assert_all_right(self) -> None:
        stored, wanted = self.stored(), self.wanted()
        assert stored.keys() == wanted.keys()
        for place, keywords in wanted.items():
            found = stored[place]
            assert found is not None, place
            assert dict(zip(*found, strict=True)) == pytest.approx(dict(zip(*keywords, strict=True))), place

    def differences(self) -> int:
        source = self.source
        sides = reconcile.Sides(
            self.db, self.worker.index, source, collection_of(self.db, source),
            embedding_spec_of(source, self.worker.embedder_of(source)), 5, self.worker.keyword_encoder_of(source),
        )  # fmt: skip
        with closing(reconcile.compare(sides, lambda *_: None, wait_s=0, pause_s=0.05)) as found:
            if found.differences:
                reconcile.repair(sides, found, who="test", max_deletions=None)
            return found.differences


@pytest.fixture
def manuals(db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider) -> Manuals:
    db.execute("CREATE TABLE manuals (id text PRIMARY KEY, body text, label text)")
    made = Manuals(db, worker, IndexReader(index.client, "manuals"), provider)
    made.write("pump", "The pump INV-2291 is running", "old")
    made.write("long", LONG)
    made.write("wordless", "!!!")
    return made


TABLE = {"table": "manuals", "text": ("body",), "payload": ("label",), "chunk_tokens": 60}


def test_each_point_gets_the_keywords_of_its_own_text_and_an_edit_replaces_them(manuals: Manuals) -> None:
    manuals.attach(**TABLE, keywords=True)
    assert len(manuals.stored()) > 8
    manuals.assert_all_right()
    manuals.write("pump", "A valve, INV-2292")
    manuals.write("long", LONG.replace("Paragraph 3", "Section 3"))
    manuals.settle()
    manuals.assert_all_right()
    assert manuals.differences() == 0


def test_a_payload_alone_leaves_keywords_as_they_are(manuals: Manuals) -> None:
    manuals.attach(**TABLE, keywords=True)
    asked = len(manuals.provider.calls)
    manuals.write("pump", "The pump INV-2291 is running", "new")
    manuals.settle()
    manuals.assert_all_right()
    payload = manuals.index.payload("pump")
    assert payload is not None
    assert (payload["label"], len(manuals.provider.calls)) == ("new", asked)


def test_keywords_come_to_a_filled_source_in_place_without_any_request_to_the_provider(manuals: Manuals) -> None:
    manuals.attach(**TABLE)
    before, asked = manuals.source.collection, len(manuals.provider.calls)
    assert set(manuals.stored().values()) == {None}
    manuals.attach(keywords=True)
    manuals.assert_all_right()
    assert (manuals.source.collection, len(manuals.provider.calls)) == (before, asked)
    assert manuals.differences() == 0


def test_keywords_are_taken_away_and_come_back_as_those_of_the_present_texts(manuals: Manuals) -> None:
    manuals.attach(**TABLE, keywords=True)
    manuals.attach(keywords=False)
    manuals.write("pump", "Another text")
    manuals.settle()
    assert manuals.stored()["pump", 0] is None
    assert manuals.differences() == 0
    manuals.attach(keywords=True, language="german")
    manuals.assert_all_right()


def test_while_a_new_text_waits_for_its_vector_the_keywords_stay_those_of_the_old_one(manuals: Manuals) -> None:
    manuals.attach(**TABLE, keywords=True)
    before = manuals.stored()["pump", 0]
    manuals.provider.behave = lambda _: error(503)
    manuals.write("pump", "A valve", "new")
    manuals.settle()
    payload = manuals.index.payload("pump")
    assert payload is not None
    assert payload["label"] == "new"
    assert manuals.stored()["pump", 0] == before
    manuals.provider.behave = lambda _: None
    eventually(lambda: manuals.settled()["pump", 0] != before, within=30)
    manuals.assert_all_right()


def test_keywords_that_are_added_while_a_text_waits_reach_its_kept_chunks_as_well(manuals: Manuals) -> None:
    manuals.attach(**TABLE)
    manuals.provider.behave = lambda _: error(503)
    manuals.write("long", LONG.replace("Paragraph 3", "Section 3"), "new")
    manuals.settle()
    manuals.attach(keywords=True)
    manuals.write("long", LONG.replace("Paragraph 3", "Section 3"), "newer")
    manuals.settle()
    manuals.provider.behave = lambda _: None
    eventually(lambda: None not in manuals.settled().values(), within=30)
    manuals.assert_all_right()
    assert manuals.differences() == 0


def test_a_point_that_lacks_its_keywords_or_has_others_is_found_and_mended(manuals: Manuals) -> None:
    manuals.attach(**TABLE, keywords=True)
    client = manuals.index.client
    client.delete_vectors("manuals", ["bm25"], [point_id("manuals", "pump", 0)])
    other = models.SparseVector(indices=[1], values=[1.0])
    client.update_vectors("manuals", [models.PointVectors(id=point_id("manuals", "long", 2), vector={"bm25": other})])
    assert manuals.differences() == 2
    manuals.settle()
    assert manuals.differences() == 0
    manuals.assert_all_right()


def test_a_point_that_is_gone_when_keywords_are_added_is_made_again(manuals: Manuals) -> None:
    manuals.attach(**TABLE)
    manuals.index.client.delete("manuals", [point_id("manuals", "long", 2)])
    manuals.attach(keywords=True)
    eventually(lambda: ("long", 2) in manuals.settled(), within=20)
    manuals.assert_all_right()


def test_the_rules_of_keywords_are_not_changed_beside_those_that_are_there(manuals: Manuals) -> None:
    manuals.attach(**TABLE, keywords=True)
    with pytest.raises(OtherVectors, match="`reindexer rebuild manuals`"):
        manuals.attach(language="german")


def test_adding_keywords_is_a_change_in_place_that_embeds_nothing(manuals: Manuals) -> None:
    manuals.attach(**TABLE)
    wanted = change.propose(manuals.db, "manuals", {"keywords": True}, ())
    assert {key: str(each) for key, each in wanted.changes.items()} == {"keywords": "not set → true"}
    assert not wanted.moved
