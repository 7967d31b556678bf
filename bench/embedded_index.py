"""The embedded Qdrant: a search, memory, and the longest wait of a request while it flushes and compacts."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import httpx
import numpy as np
import psutil
from pydantic_core import to_json

from bench.figures import Figures
from bench.provider import DIMENSIONS
from bench.stage import Stage, Unsound, until
from reindexer.adapters.qdrant.index import QdrantIndex
from reindexer.core.items import point_id
from reindexer.core.owner import Owner
from reindexer.core.search_terms import SearchTerms
from reindexer.embedded.children import Children, free_port
from reindexer.ports import Collection, Vector
from reindexer.testing.servers import start_qdrant_at

SEARCHED, HELD = 100_000, 200_000
SEARCHES = 30
BATCH = 500
WRITTEN_AT_ONCE = 64
"""As in the program, see `reindexer.index.write`."""
WRITE_EVERY_S = 0.1
STREAM_S = 20.0
COLLECTION = Collection("bench", "bench__g1", "bench")
PROBE_S = 0.02
JSON = {"Content-Type": "application/json"}


class Filled:
    """One collection of a server, made as the program makes it, with random vectors."""

    def __init__(self, url: str) -> None:
        self.index = QdrantIndex(url, api_key=None, grpc_port=None, timeout_s=60)
        self.index.prepare(COLLECTION, DIMENSIONS, Owner("bench", "bench"))
        self._points_url = f"{url}/collections/{COLLECTION.name}/points"
        self._http = httpx.Client(timeout=60)
        self.points = 0
        self._random = np.random.default_rng(7)
        self._texts = [to_json(self.vector().tolist()) for _ in range(1_000)]

    def fill(self, until: int) -> None:
        """Add points until there are `until`."""
        while self.points < until:
            numbers = range(self.points, min(until, self.points + BATCH))
            self._request("PUT", "?wait=true", self._upsert(numbers))
            self.points = numbers.stop

    def _upsert(self, numbers: range) -> bytes:
        """The request's body. Vectors are converted to text once: that takes longer than to write them."""
        ids = to_json([point_id(COLLECTION.source, str(n), 0) for n in numbers])
        vectors = b",".join(self._texts[n % len(self._texts)] for n in numbers)
        return b'{"batch":{"ids":%b,"vectors":[%b],"payloads":%b}}' % (
            ids, vectors, to_json([_payload(n) for n in numbers]),
        )  # fmt: skip

    @contextmanager
    def being_written(self, numbers: range) -> Iterator[None]:
        """Writes these points again and again in the background, as a backfill does that waits for its embedder."""
        starts = range(numbers.start, numbers.stop, WRITTEN_AT_ONCE)
        bodies = [self._upsert(range(at, min(numbers.stop, at + WRITTEN_AT_ONCE))) for at in starts]
        ended = threading.Event()

        def write() -> None:
            with httpx.Client(timeout=60) as http:
                for body in cycle(bodies):
                    if ended.wait(WRITE_EVERY_S):
                        return
                    http.put(f"{self._points_url}?wait=true", content=body, headers=JSON).raise_for_status()

        with ThreadPoolExecutor(1) as writer:
            writing = writer.submit(write)
            try:
                yield
            finally:
                ended.set()
            writing.result()

    def vector(self) -> Vector:
        """A random vector with few digits, because it is sent as text."""
        return np.round(self._random.standard_normal(DIMENSIONS), 3).astype(np.float32)

    def search_ms(self) -> float:
        """The median of some searches, as the program sends them, in ms."""
        took = []
        for _ in range(SEARCHES):
            vector, began = self.vector(), time.perf_counter()
            if len(self.index.search(COLLECTION, vector, SearchTerms(10))) != 10:
                raise Unsound("a search does not find ten items")
            took.append(1000 * (time.perf_counter() - began))
        return statistics.median(took)

    def delete(self, numbers: range) -> None:
        """Delete these points."""
        ids = [point_id(COLLECTION.source, str(n), 0) for n in numbers]
        for start in range(0, len(ids), 1000):
            self._request("POST", "/delete?wait=true", to_json({"points": ids[start : start + 1000]}))

    @contextmanager
    def asked(self) -> Iterator[list[float]]:
        """The time of each of many small requests in the background, one after the other, in ms."""
        took, ended = list[float](), threading.Event()
        probe = to_json({"ids": [point_id(COLLECTION.source, str(self.points - 1), 0)]})

        def ask() -> None:
            with httpx.Client(timeout=60) as http:
                while not ended.wait(PROBE_S):
                    began = time.perf_counter()
                    http.post(self._points_url, content=probe, headers=JSON).raise_for_status()
                    took.append(1000 * (time.perf_counter() - began))

        with ThreadPoolExecutor(1) as asker:
            asking = asker.submit(ask)
            try:
                yield took
            finally:
                ended.set()
            asking.result()

    def _request(self, verb: str, path: str, body: bytes) -> None:
        answer = self._http.request(verb, self._points_url + path, content=body, headers=JSON)
        if not answer.is_success:
            raise Unsound(f"Qdrant answers {answer.status_code}")


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """Measures on a separate server and folder."""
    searched, held = (2_000, 6_000) if quick else (SEARCHED, HELD)
    folder = stage.directory / "index"
    with Children(stage.directory / "index-logs") as children:
        port = free_port()
        child = start_qdrant_at(children, port, folder)
        filled = Filled(f"http://127.0.0.1:{port}")
        filled.fill(searched)
        figures.add(
            "search_p50_ms", filled.search_ms(),
            f"embedded Qdrant, {searched:,} points of {DIMENSIONS}; numpy alone {_numpy_ms(searched):,.1f}",
        )  # fmt: skip
        filled.fill(held)
        process = psutil.Process(child.process.pid)
        figures.add("embedded_index_mb", anonymous_mb(process), f"anonymous memory, {held:,} points of {DIMENSIONS}")
        figures.add("search_p50_ms_200k", filled.search_ms(), f"{held:,} points")
        with filled.asked() as quiet:
            time.sleep(5.0)
        took, seconds = _while_it_keeps_up(filled, held, folder / "collections.json", 2.0 if quick else STREAM_S)
        p50, p99 = np.percentile(took, [50, 99])
        figures.add(
            "compacting_slowest_ms", max(took),
            f"of {len(took)} small requests in {seconds:,.0f} s of writes of {WRITTEN_AT_ONCE} points, flushes, "
            f"and a copy of {held - _gone(held):,} of {held:,} points; p50 {p50:,.0f}, p99 {p99:,.0f}, "
            f"{sum(each > 100 for each in took)} over 100 ms; slowest without {max(quiet):,.0f}",
        )  # fmt: skip


def _while_it_keeps_up(filled: Filled, held: int, names: Path, stream_s: float) -> tuple[list[float], float]:
    """How long small requests take beside a stream of writes, while it flushes and then compacts; and for how long."""
    before, began = names.read_text(), time.monotonic()
    with filled.being_written(range(held * 9 // 10, held)), filled.asked() as took:
        time.sleep(stream_s)
        filled.delete(range(_gone(held)))
        until(lambda: names.read_text() != before, 600, "it does not compact")
        time.sleep(2.0)  # a flush follows
    return took, time.monotonic() - began


def _gone(held: int) -> int:
    return held * 6 // 10


def anonymous_mb(process: psutil.Process) -> float:
    """Memory that can't be given back when other processes need it, in MB."""
    told = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    return int(told.split("RssAnon:")[1].split()[0]) / 1024


def _payload(number: int) -> dict[str, object]:
    facts = {
        "source": COLLECTION.source, "item_id": str(number), "chunk": 0, "version": 1_800_000_000_000_000,
        "fingerprint": f"{number:032x}", "span": None,
    }  # fmt: skip
    return {"title": f"item {number}", "n": number % 100, "_reindexer": facts}


def _numpy_ms(points: int) -> float:
    """One product of this many vectors with one, and the ten best: the least work of a search."""
    vectors = np.random.default_rng(1).standard_normal((points, DIMENSIONS), dtype=np.float32)
    took = []
    for n in range(5):
        began = time.perf_counter()
        scores = vectors @ vectors[n]
        np.argpartition(scores, -10)
        took.append(1000 * (time.perf_counter() - began))
    return statistics.median(took)
