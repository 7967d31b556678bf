"""Freshness: the time from an edit's commit until an independent client can read its new point in Qdrant."""

from __future__ import annotations

import gc
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import openai
from qdrant_client import QdrantClient, models

from bench.figures import Figures
from bench.stage import Bench, Stage, Unsound
from reindexer.core.items import point_id

ROWS = 1_000
POLL_S = 0.001
NOT_BEFORE_S = 0.012
"""How long after its commit nobody looks for an edit: each look takes CPU that the edit needs."""
WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Round:
    """In seconds: one request and one upsert in a bare loop, before and after; and each edit."""

    alone: float
    edits: Sequence[float]


class Watch:
    """Looks for edits in Qdrant, in its own thread, with one request at a time for all open ones."""

    def __init__(self, client: QdrantClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._open: dict[str, tuple[str, float]] = {}
        self._ended = threading.Event()
        self.seconds: list[float] = []
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def expect(self, item_id: str, title: str, committed: float) -> None:
        """Expect the item's point to get this title. `committed`: the time of the commit (monotonic)."""
        with self._lock:
            self._open[point_id("context_items", item_id, 0)] = (title, committed)

    def close(self) -> int:
        """Wait for open edits. Returns how many never arrived."""
        until = time.monotonic() + WITHIN_S
        while self._open and time.monotonic() < until:
            time.sleep(0.01)
        self._ended.set()
        self._thread.join()
        return len(self._open)

    def _look(self) -> None:
        while not self._ended.is_set():
            with self._lock:
                old_enough = time.monotonic() - NOT_BEFORE_S
                asked = [point for point, (_, committed) in self._open.items() if committed <= old_enough]
            if not asked:
                time.sleep(POLL_S)
                continue
            found = self._client.retrieve("context_items", asked, with_payload=["title"])
            now = time.monotonic()
            with self._lock:
                for record in found:
                    title, committed = self._open.get(str(record.id), ("", 0.0))
                    if (record.payload or {}).get("title") == title:
                        del self._open[str(record.id)]
                        self.seconds.append(now - committed)
            time.sleep(POLL_S)


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """Measures all figures of freshness, with one prefork worker of two processes."""
    with stage.fresh() as bench:
        bench.fill(ROWS)
        bench.processes.listener()
        bench.processes.worker(pool="prefork", concurrency=2)
        while bench.waits():
            time.sleep(0.1)
        bench.require_all_indexed()
        seconds, times = (5, 1) if quick else (30, 3)
        for name, rate, latency_ms in (("idle", 1, 0), ("10", 10, 0), ("100", 100, 0), ("200", 10, 200)):
            stage.provider.set_latency(latency_ms)
            rounds = [_round(bench, rate, seconds) for _ in range(times)]
            alone_ms = 1000 * median(each.alone for each in rounds)
            note = f"{rate} edits/s, provider {latency_ms} ms; request and upsert alone {alone_ms:.1f} ms; prefork 2"
            for share, of in ((0.5, "p50"), (0.99, "p99")):
                found = median(percentile(each.edits, share) for each in rounds)
                figures.add(f"fresh_{name}_{of}_ms", 1000 * found, note)
            ratio = median(percentile(each.edits, 0.5) / each.alone for each in rounds)
            figures.add(f"fresh_{name}_ratio", ratio, "p50 ÷ request and upsert alone, before and after each round")
        stage.provider.set_latency(0)


def _round(bench: Bench, rate: int, seconds: float) -> Round:
    before, found = _alone(bench, 20), edits(bench, rate, seconds)
    time.sleep(1.0)  # the last edits settle: nothing of ours runs beside what is measured alone
    after = _alone(bench, 20)
    return Round((median(before) + median(after)) / 2, found)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def edits(bench: Bench, rate: int, seconds: float, goes_on: Callable[[], bool] = lambda: True) -> list[float]:
    """Seconds until each edit was found, at `rate` edits per second, for `seconds` or until `goes_on` is false."""
    ids = [str(row[0]) for row in bench.db.execute("SELECT id FROM context_items ORDER BY id")]
    random.Random(1).shuffle(ids)
    client = bench.stage.qdrant()
    watch, tag = Watch(client), uuid.uuid4().hex[:8]
    with _without_collections():
        began = time.monotonic()
        for n in range(int(rate * seconds)):
            time.sleep(max(0.0, began + n / rate - time.monotonic()))
            if not goes_on():
                break
            item_id, title = ids[n % len(ids)], f"edit {tag} {n}"
            bench.db.execute("UPDATE context_items SET title = %s WHERE id = %s", [title, item_id])
            watch.expect(item_id, title, time.monotonic())
        lost = watch.close()
    client.close()
    if lost:
        raise Unsound(f"{lost} edits were not found within {WITHIN_S:.0f} s")
    return watch.seconds


@contextmanager
def _without_collections() -> Iterator[None]:
    """Switches off garbage collection in this process, which holds all texts: one takes 0.2 s without a measurement."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _alone(bench: Bench, times: int) -> list[float]:
    """The provider's request and the upsert, in a bare loop."""
    provider = openai.OpenAI(api_key="x", base_url=bench.stage.provider.url, max_retries=0)
    qdrant = bench.stage.qdrant()
    point, seconds = point_id("context_items", "nobody", 0), list[float]()
    for n in range(times):
        began = time.monotonic()
        vector = provider.embeddings.create(input=[f"text {n}"], model="bench").data[0].embedding
        qdrant.upsert("context_items__g1", [models.PointStruct(id=point, vector=vector, payload={})], wait=True)
        seconds.append(time.monotonic() - began)
    qdrant.delete("context_items__g1", [point])
    qdrant.close()
    return seconds
