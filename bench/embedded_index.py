"""The embedded Qdrant: a search, its memory, and the longest that a request waits while it compacts."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import psutil
from pydantic_core import to_json

from bench.figures import Figures
from bench.provider import DIMENSIONS
from bench.stage import Stage, Unsound
from reindexer.adapters.qdrant_index import QdrantIndex
from reindexer.core.items import point_id
from reindexer.core.owner import Owner
from reindexer.embedded.children import Children, free_port
from reindexer.ports import Collection, Vector
from tests.support.servers import start_qdrant_at

SEARCHED, HELD = 100_000, 200_000
SEARCHES = 30
BATCH = 500
COLLECTION = Collection("bench", "bench__g1", "bench")
PROBE_S = 0.02


class Filled:
    """One collection of a server, as the program makes it, with points of random vectors."""

    def __init__(self, url: str) -> None:
        self.index = QdrantIndex(url, api_key=None, grpc_port=None, timeout_s=60)
        self.index.prepare(COLLECTION, DIMENSIONS, Owner("bench", "bench"))
        self._points_url = f"{url}/collections/{COLLECTION.name}/points"
        self._http = httpx.Client(timeout=60)
        self.points = 0
        self._random = np.random.default_rng(7)

    def fill(self, until: int) -> None:
        """So many points in all, as the program writes them."""
        while self.points < until:
            numbers = range(self.points, min(until, self.points + BATCH))
            batch = {
                "ids": [point_id(COLLECTION.source, str(n), 0) for n in numbers],
                "vectors": [self.vector().tolist() for _ in numbers],
                "payloads": [_payload(n) for n in numbers],
            }
            self._post("PUT", "?wait=true", {"batch": batch})
            self.points = numbers.stop

    def vector(self) -> Vector:
        """A random one, of few digits, for it travels as text."""
        return np.round(self._random.standard_normal(DIMENSIONS), 3).astype(np.float32)

    def search_ms(self) -> float:
        """The median of some searches, as the program asks for them."""
        took = []
        for _ in range(SEARCHES):
            vector, began = self.vector(), time.perf_counter()
            if len(self.index.search(COLLECTION, vector, 10)) != 10:
                raise Unsound("a search does not find ten items")
            took.append(1000 * (time.perf_counter() - began))
        return statistics.median(took)

    def delete(self, numbers: range) -> None:
        """Some of the points."""
        ids = [point_id(COLLECTION.source, str(n), 0) for n in numbers]
        for start in range(0, len(ids), 1000):
            self._post("POST", "/delete?wait=true", {"points": ids[start : start + 1000]})

    def longest_ms(self, while_: Callable[[], bool]) -> tuple[float, int]:
        """How long the slowest of many small requests took, sent one after the other as long as that holds."""
        slowest, count = 0.0, 0
        probe = {"ids": [point_id(COLLECTION.source, str(self.points - 1), 0)]}
        while while_():
            began = time.perf_counter()
            self._post("POST", "", probe)
            slowest, count = max(slowest, time.perf_counter() - began), count + 1
            time.sleep(PROBE_S)
        return 1000 * slowest, count

    def _post(self, verb: str, path: str, body: object) -> None:
        answer = self._http.request(
            verb, self._points_url + path, content=to_json(body), headers={"Content-Type": "application/json"}
        )
        if not answer.is_success:
            raise Unsound(f"Qdrant answers {answer.status_code}")


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """On a server and a folder of its own."""
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
        before, names = (folder / "collections.json").read_text(), folder / "collections.json"
        gone = held * 6 // 10
        quiet, _ = filled.longest_ms(_for(5.0))
        filled.delete(range(gone))
        deadline = time.monotonic() + 600

        def compacts() -> bool:
            if time.monotonic() > deadline:
                raise Unsound("it does not compact")
            return names.read_text() == before

        slowest, count = filled.longest_ms(compacts)
        figures.add(
            "compacting_slowest_ms", slowest,
            f"of {count} small requests while {held - gone:,} of {held:,} points are copied; {quiet:,.0f} before",
        )  # fmt: skip


def anonymous_mb(process: psutil.Process) -> float:
    """What can't be given back when others need memory."""
    told = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    return int(told.split("RssAnon:")[1].split()[0]) / 1024


def _payload(number: int) -> dict[str, object]:
    facts = {
        "source": COLLECTION.source, "item_id": str(number), "chunk": 0, "version": 1_800_000_000_000_000,
        "fingerprint": f"{number:032x}", "span": None,
    }  # fmt: skip
    return {"title": f"item {number}", "n": number % 100, "_reindexer": facts}


def _numpy_ms(points: int) -> float:
    """One product of so many vectors with one, and the ten best: what a search has to do at least."""
    vectors = np.random.default_rng(1).standard_normal((points, DIMENSIONS), dtype=np.float32)
    took = []
    for n in range(5):
        began = time.perf_counter()
        scores = vectors @ vectors[n]
        np.argpartition(scores, -10)
        took.append(1000 * (time.perf_counter() - began))
    return statistics.median(took)


def _for(seconds: float) -> Callable[[], bool]:
    until = threading.Event()
    timer = threading.Timer(seconds, until.set)
    timer.start()
    return lambda: not until.is_set()
