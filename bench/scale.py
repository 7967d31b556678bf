"""Scale: seconds a row of a backfill of 300,000 rows ÷ of one of 10,000.

Local mode copies some bytes of every point that it holds for each new one, so that its upserts grow with its size,
which is not what is asked here. The sink is therefore 40 collections of local mode, each with its share of the points.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, cast

from qdrant_client import QdrantClient, models

from bench.backfill import THREADS, InMemory, as_in_a_worker, in_memory_client
from bench.bare_loop import bare_loop
from bench.figures import Figures
from bench.stage import Bench, Stage, Unsound
from reindexer.flow.drain import drain
from reindexer.postgres.connect import connect
from reindexer.settings import Settings
from reindexer.wiring import worker as make_worker

SMALL, LARGE = 10_000, 300_000
TIMES = 3
PARTS = 40
WITHIN_S = 900


class Parts:
    """Local mode in this process, its points spread by their ids; what it counts up tells when each was written."""

    def __init__(self) -> None:
        self._parts = [in_memory_client() for _ in range(PARTS)]
        self.written: list[tuple[float, int]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            answers = [getattr(part, name)(*arguments, **options) for part in self._parts]
            return answers[0]

        return call

    def upsert(self, name: str, points: Sequence[models.PointStruct] | models.Batch, **options: Any) -> None:
        """Each point into its part."""
        if isinstance(points, models.Batch):
            columns = zip(points.ids, cast("list[Any]", points.vectors), points.payloads or [], strict=True)
            points = [models.PointStruct(id=i, vector=v, payload=p) for i, v, p in columns]
        split: dict[int, list[models.PointStruct]] = defaultdict(list)
        for point in points:
            split[_part_of(point.id)].append(point)
        for part, its in split.items():
            self._parts[part].upsert(name, its, **options)
        self.written.append((time.monotonic(), len(points)))

    def retrieve(self, name: str, ids: Sequence[models.ExtendedPointId], **options: Any) -> list[models.Record]:
        """From the parts that hold them."""
        split: dict[int, list[models.ExtendedPointId]] = defaultdict(list)
        for each in ids:
            split[_part_of(each)].append(each)
        return [record for part, its in split.items() for record in self._parts[part].retrieve(name, its, **options)]

    def count(self, name: str, **options: Any) -> models.CountResult:
        """Of all parts."""
        return models.CountResult(count=sum(part.count(name, **options).count for part in self._parts))

    def edges(self) -> tuple[float, float]:
        """Points a second: of the first `SMALL` that were written, and of the last."""
        return _rate(self.written), _rate(self.written[::-1])


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """Ours and the bare loop, at both sizes; one process, 8 threads, a provider of 0 ms. Not in quick."""
    if quick:
        return
    small = [_seconds_a_row(stage, SMALL) for _ in range(TIMES)]
    ours, bare, (first, last) = _seconds_a_row(stage, LARGE)
    ours_small, bare_small = (statistics.median(times) for times in list(zip(*small, strict=True))[:2])
    note = f"{1 / ours:,.0f} rows/s at {LARGE:,}, {1 / ours_small:,.0f} at {SMALL:,}"
    figures.add(
        "scale_ratio", ours / ours_small, f"{note}; of the first {SMALL:,} {first:,.0f}, of the last {last:,.0f}"
    )
    figures.add(
        "scale_ratio_bare", bare / bare_small, f"the bare loop: {1 / bare:,.0f} and {1 / bare_small:,.0f} rows/s"
    )


def _seconds_a_row(stage: Stage, rows: int) -> tuple[float, float, tuple[float, float]]:
    """Ours, the bare loop's, and the rates at both ends of ours."""
    with stage.fresh() as bench:
        bench.fill(rows)
        bare = 1 / bare_loop(bench, cast("QdrantClient", Parts()), rows)
        sink = Parts()
        return _ours(bench, cast("QdrantClient", sink), rows), bare, sink.edges()


def _ours(bench: Bench, client: QdrantClient, rows: int) -> float:
    """Seconds a row from due to settled, without the first batch, which makes the collections."""
    index = InMemory()
    index.client = client
    os.environ.update(bench.env)
    worker = make_worker(Settings.load(), None)
    worker.index = index
    with connect(bench.url, application_name="bench") as connection:
        while drain(connection).changes:
            pass
    first, began = worker.run_lane("bulk", budget_s=0), time.monotonic()
    with as_in_a_worker(), closing(worker), ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda _: worker.run_lane("bulk", budget_s=WITHIN_S), range(THREADS)))
        took = time.monotonic() - began
    bench.require_all_indexed(client)
    return took / (rows - first)


def _part_of(point: models.ExtendedPointId) -> int:
    return int(str(point)[-8:], 16) % PARTS


def _rate(written: Sequence[tuple[float, int]]) -> float:
    points = 0
    for at, count in written:
        points += count
        if points >= SMALL:
            return points / abs(at - written[0][0])
    raise Unsound(f"{points} points were written, fewer than {SMALL:,}")
