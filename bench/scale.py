"""Scale: seconds a row of a backfill of 300,000 rows ÷ of one of 10,000.

Local mode copies some bytes of every point that it holds for each new one, so that its upserts grow with its size,
which is not what is asked here. The sink is therefore 40 collections of local mode, each with its share of the points.

The large run takes minutes, in which a machine that others use too becomes slower and quicker by a fifth. So it is
halted now and then for a small one, and each stretch of it is compared with the small ones before and after it. Each
run has a process of its own: who has freed a gigabyte is not as quick as before.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
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
PARTS = 40
STRETCH_S = 25.0


class Parts:
    """Local mode in this process, its points spread by their ids."""

    def __init__(self) -> None:
        self._parts = [in_memory_client() for _ in range(PARTS)]

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

    def retrieve(self, name: str, ids: Sequence[models.ExtendedPointId], **options: Any) -> list[models.Record]:
        """From the parts that hold them."""
        split: dict[int, list[models.ExtendedPointId]] = defaultdict(list)
        for each in ids:
            split[_part_of(each)].append(each)
        return [record for part, its in split.items() for record in self._parts[part].retrieve(name, its, **options)]

    def count(self, name: str, **options: Any) -> models.CountResult:
        """Of all parts."""
        return models.CountResult(count=sum(part.count(name, **options).count for part in self._parts))


@dataclass(frozen=True, slots=True)
class Stretch:
    """Of a run, which may be all of it."""

    rows: int
    seconds: float

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds


Way = Callable[[Bench, QdrantClient, int], Iterator[Stretch]]
"""How so many rows that are there come into the client."""


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """Ours and the bare loop, at both sizes; one process, 8 threads, a provider of 0 ms. Not in quick."""
    if quick:
        return
    for name, way in (("scale_ratio", _ours), ("scale_ratio_bare", _bare)):
        small, large = list(_run(stage, SMALL, way)), list[Stretch]()
        for stretch in _run(stage, LARGE, way):
            large.append(stretch)
            small += _run(stage, SMALL, way)
        as_small_s = [
            stretch.rows * (1 / before.rate + 1 / after.rate) / 2
            for stretch, (before, after) in zip(large, pairwise(small), strict=True)
        ]
        rates = [
            sum(each.rows for each in runs) / sum(each.seconds for each in runs)
            for runs in (large, small, large[:1], small[:2], large[-1:], small[-2:])
        ]
        figures.add(
            name,
            sum(stretch.seconds for stretch in large) / sum(as_small_s),
            f"{rates[0]:,.0f} rows/s at {LARGE:,}, {rates[1]:,.0f} at {SMALL:,}; at the beginning {rates[2]:,.0f} and"
            f" {rates[3]:,.0f}, at the end {rates[4]:,.0f} and {rates[5]:,.0f}",
        )


def _run(stage: Stage, rows: int, way: Way) -> Iterator[Stretch]:
    """In a fork of this process, which waits after each stretch until the next one is asked for."""
    forking = multiprocessing.get_context("fork")
    ours, its = forking.Pipe()

    def run() -> None:
        ours.close()
        with stage.fresh() as bench:
            bench.fill(rows)
            client = cast("QdrantClient", Parts())
            for stretch in way(bench, client, rows):
                its.send(stretch)
                its.recv()
        its.send(None)

    child = forking.Process(target=run)
    child.start()
    its.close()
    try:
        while (stretch := ours.recv()) is not None:
            yield stretch
            ours.send(None)
    except EOFError:
        raise Unsound("a run in a process of its own failed, as it told above") from None
    finally:
        ours.close()
        child.join()


def _bare(bench: Bench, client: QdrantClient, rows: int) -> Iterator[Stretch]:
    yield Stretch(rows, rows / bare_loop(bench, client, rows))


def _ours(bench: Bench, client: QdrantClient, rows: int) -> Iterator[Stretch]:
    """From due to settled, without the first batch, which makes the collections."""
    index = InMemory()
    index.client = client
    os.environ.update(bench.env)
    worker = make_worker(Settings.load(), None)
    worker.index = index
    with connect(bench.url, application_name="bench") as connection:
        while drain(connection).changes:
            pass
    done = worker.run_lane("bulk", budget_s=0)
    with as_in_a_worker(), closing(worker), ThreadPoolExecutor(THREADS) as pool:
        while done < rows:
            began = time.monotonic()
            more = sum(pool.map(lambda _: worker.run_lane("bulk", budget_s=STRETCH_S), range(THREADS)))
            if not more:
                raise Unsound(f"{rows - done} rows can't be claimed")
            yield Stretch(more, time.monotonic() - began)
            done += more
    bench.require_all_indexed(client)


def _part_of(point: models.ExtendedPointId) -> int:
    return int(str(point)[-8:], 16) % PARTS
