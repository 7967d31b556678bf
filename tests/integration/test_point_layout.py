"""What other programs rely on: points as docs/clients.md describes them. Literals here, and nothing of ours is asked.

A failure means a change for everybody who reads the index: it belongs into the changelog, under "Changed".
"""

from __future__ import annotations

import json
import re
import time
import uuid
from typing import Any

import pytest
from qdrant_client import QdrantClient, models

from reindexer import Client, Settings
from reindexer.postgres.connect import Connection
from reindexer.testing.provider import DIMENSIONS
from reindexer.worker.worker import Worker
from tests.support.docs import blocks, recipes, sections, table_rows
from tests.support.generations import settle
from tests.support.index_reader import IndexReader
from tests.support.processes import ROOT

DOCUMENT = ROOT / "docs" / "clients.md"
NAMESPACE = uuid.UUID("6f1d8a1e-3f0b-5c55-9a52-7d1c0b1f6f0e")
TEXT = "Tee für „zwei“ in Ōsaka.\n\nDas Wasser muss kochen, und dann wartet man drei Minuten, bevor man ihn trinkt."


@pytest.fixture
def qdrant(db: Connection, settings: Settings, worker: Worker, index: IndexReader) -> QdrantClient:
    """Holds one item in two chunks, with everything that a point can have, under an alias."""
    db.execute("CREATE TABLE pages (id text PRIMARY KEY, title text, body text, views int, tags text[], added date)")
    db.execute("INSERT INTO pages VALUES ('ä/1', 'Tee', %s, 7, '{a,b}', '2026-01-31')", [TEXT])
    with Client(settings) as client:
        client.attach(
            "pages", table="pages", text="body", payload=["title", "views", "tags", "added"], chunk_tokens=24,
            keywords=True, store_text="text", alias="wiki",
        )  # fmt: skip
    settle(db, worker)
    return index.client


def facts_of(record: models.Record) -> dict[str, Any]:
    facts: dict[str, Any] = (record.payload or {})["_reindexer"]
    return facts


def points(qdrant: QdrantClient, collection: str = "wiki") -> list[models.Record]:
    records, _ = qdrant.scroll(collection, limit=100, with_payload=True, with_vectors=True)
    return sorted(records, key=lambda record: int(facts_of(record)["chunk"]))


def test_a_point_is_laid_out_as_other_programs_expect(qdrant: QdrantClient) -> None:
    now_us = time.time() * 1e6
    records = points(qdrant)
    assert len(records) == 2
    for number, record in enumerate(records):
        assert record.id == str(uuid.uuid5(NAMESPACE, f'["pages", "ä/1", {number}]'))
        payload = dict(record.payload or {})
        facts = payload.pop("_reindexer")
        span = facts["span"]
        text = TEXT[span[0] : span[1]]
        assert payload == {"title": "Tee", "views": 7, "tags": ["a", "b"], "added": "2026-01-31", "text": text}
        version, fingerprint = facts.pop("version"), facts.pop("fingerprint")
        assert facts == {"source": "pages", "item_id": "ä/1", "chunk": number, "span": span}
        assert type(version) is int
        assert abs(version - now_us) < 120e6
        assert re.fullmatch("[0-9a-f]{32}", fingerprint)
        vectors = record.vector
        assert isinstance(vectors, dict)
        assert vectors.keys() == {"", "bm25"}
        assert isinstance(vectors["bm25"], models.SparseVector)


def test_collection_alias_and_metadata_are_named_as_other_programs_expect(
    qdrant: QdrantClient, db: Connection, settings: Settings, worker: Worker
) -> None:
    assert [(each.alias_name, each.collection_name) for each in qdrant.get_aliases().aliases] == [("wiki", "wiki__g1")]
    config = qdrant.get_collection("wiki__g1").config
    vectors = config.params.vectors
    assert isinstance(vectors, models.VectorParams)
    assert (vectors.size, vectors.distance) == (DIMENSIONS, models.Distance.COSINE)
    modifiers = {name: each.modifier for name, each in (config.params.sparse_vectors or {}).items()}
    assert modifiers == {"bm25": models.Modifier.IDF}
    metadata = config.metadata or {}
    assert metadata.keys() == {"reindexer_embedder", "reindexer_instance", "reindexer_collection_id"}
    assert metadata["reindexer_embedder"] == f"openai:text-embedding-3-small:{DIMENSIONS}"
    with Client(settings) as client:
        client.rebuild("pages")
        settle(db, worker)
        client.promote("pages", wait_s=5)
    assert [(each.alias_name, each.collection_name) for each in qdrant.get_aliases().aliases] == [("wiki", "wiki__g2")]
    shared: dict[str, Any] = {}
    exec(recipes(DOCUMENT)["pages.py"].program, shared)
    assert shared["collection_and_model"](qdrant, "wiki") == ("wiki__g2", "text-embedding-3-small", DIMENSIONS)
    assert [each.id for each in points(qdrant, "wiki__g2")] == [each.id for each in points(qdrant, "wiki__g1")]


def test_without_keywords_and_stored_text_a_point_has_one_vector_and_its_columns(
    db: Connection, settings: Settings, worker: Worker, index: IndexReader
) -> None:
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
    db.execute("INSERT INTO notes VALUES (1, 'tea')")
    with Client(settings) as client:
        client.attach("notes", table="notes", text="body")
    settle(db, worker)
    (record,) = points(index.client, "notes")
    assert (record.payload or {}).keys() == {"_reindexer"}
    assert isinstance(record.vector, list)


def test_the_document_describes_these_parts() -> None:
    rows = table_rows(sections(DOCUMENT, 2)["What a point holds"])
    told = [name for name, *_ in rows]
    facts = ["source", "item_id", "chunk", "version", "fingerprint", "span"]
    assert [name for name in told if name in facts] == facts
    metadata = table_rows(sections(DOCUMENT, 3)["Collections"])
    assert {name for name, *_ in metadata} == {"reindexer_embedder", "reindexer_instance", "reindexer_collection_id"}
    (example,) = [json.loads(block.text) for block in blocks(DOCUMENT) if block.language == "json"]
    assert list(example["_reindexer"]) == facts
    assert str(NAMESPACE) in DOCUMENT.read_text(encoding="utf-8")


def test_the_rule_of_ids_in_the_document_is_the_one_of_the_points(qdrant: QdrantClient) -> None:
    (rule,) = [block.text for block in blocks(DOCUMENT) if "def point_id" in block.text]
    told: dict[str, Any] = {}
    exec(rule, told)
    assert [told["point_id"]("pages", "ä/1", number) for number in range(2)] == [each.id for each in points(qdrant)]
