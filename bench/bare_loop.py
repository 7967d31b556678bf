"""The comparator of backfills: read, embed, write, without any guarantee; what it loses is lost."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import openai
import psycopg
from qdrant_client import QdrantClient, models

from bench.provider import DIMENSIONS
from bench.stage import Bench, Unsound
from reindexer.core.items import point_id

BATCH = 256
THREADS = 8


def bare_loop(bench: Bench, client: QdrantClient, rows: int) -> float:
    """Copy `rows` rows of the table into a fresh collection of the client. Returns rows per second."""
    name = "context_items_bare"
    client.create_collection(name, models.VectorParams(size=DIMENSIONS, distance=models.Distance.COSINE))
    provider = openai.OpenAI(api_key="x", base_url=bench.stage.provider.url, max_retries=0)

    def work(batch: list[tuple[str, str, str]]) -> None:
        texts = [f"{title}\n{content}" for _, title, content in batch]
        vectors = [each.embedding for each in provider.embeddings.create(input=texts, model="bench").data]
        payloads = [{"title": title} for _, title, _ in batch]
        ids: list[models.ExtendedPointId] = [point_id("bare", item_id, 0) for item_id, _, _ in batch]
        client.upsert(name, models.Batch(ids=ids, vectors=vectors, payloads=payloads), wait=True)

    began = time.monotonic()
    with psycopg.connect(bench.url) as connection, ThreadPoolExecutor(THREADS) as pool:
        found = iter(connection.execute("SELECT id::text, title, content FROM context_items LIMIT %s", [rows]))
        batches = iter(lambda: list(islice(found, BATCH)), [])
        list(pool.map(work, batches))
    took = time.monotonic() - began
    if client.count(name, exact=True).count != rows:
        raise Unsound("the bare loop lost rows")
    client.delete_collection(name)
    return rows / took
