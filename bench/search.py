"""Search: the time of POST /search; comparator: a bare query to the same Qdrant with a given vector."""

from __future__ import annotations

import time
from itertools import cycle
from statistics import median

import httpx
import openai
from qdrant_client import QdrantClient

from bench.backfill import backfill
from bench.figures import Figures
from bench.provider import vectors
from bench.stage import Stage, Unsound

ROWS = 10_000
LIMIT = 10
WARM_UP = 20


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """One query after the other, ours and the bare one in turns; all texts differ; a provider of 0 ms."""
    rows, times = (2_000, 100) if quick else (ROWS, 500)
    with stage.fresh() as bench, httpx.Client(timeout=30, headers={"X-API-Key": "bench"}) as ours:
        bench.fill(rows)
        backfill(bench, within_s=300)
        _, url = bench.processes.api()
        bare, provider = stage.qdrant(), openai.OpenAI(api_key="x", base_url=stage.provider.url, max_retries=0)
        at_hand = cycle(vectors().tolist())
        searched, queried, embedded = list[float](), list[float](), list[float]()
        for n in range(WARM_UP + times):
            searched.append(_search_ms(ours, url, f"what is number {n}"))
            queried.append(_query_ms(bare, next(at_hand)))
            began = time.perf_counter()
            provider.embeddings.create(input=[f"what else is number {n}"], model="bench")
            embedded.append(1000 * (time.perf_counter() - began))
        bare.close()
    found, beside, request = (median(each[WARM_UP:]) for each in (searched, queried, embedded))
    note = f"bare query {beside:.1f} ms, request to the provider alone {request:.1f} ms; {rows:,} points"
    figures.add("search_api_p50_ms", found, note)
    figures.add("search_api_ratio", found / beside, "POST /search ÷ the bare query")


def _search_ms(client: httpx.Client, url: str, text: str) -> float:
    began = time.perf_counter()
    answer = client.post(f"{url}/search", json={"source": "context_items", "query": text, "limit": LIMIT})
    took = time.perf_counter() - began
    if answer.status_code != 200 or len(answer.json()["hits"]) != LIMIT:
        raise Unsound(f"a search is answered by {answer.status_code}")
    return 1000 * took


def _query_ms(client: QdrantClient, vector: list[float]) -> float:
    began = time.perf_counter()
    found = client.query_points("context_items", query=vector, limit=LIMIT, with_payload=True).points
    took = time.perf_counter() - began
    if len(found) != LIMIT:
        raise Unsound("a bare query does not find ten points")
    return 1000 * took
