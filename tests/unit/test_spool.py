from __future__ import annotations

import tracemalloc
from contextlib import closing

import pytest

from reindexer.index.spool import IN_MEMORY_BYTES, Spool, Suspect


def test_suspects_come_back_in_order_and_more_than_once() -> None:
    wanted = [Suspect("a", None), Suspect('ü\n"', 3, 2**52), Suspect("", 0)]
    with closing(Spool()) as spool:
        for suspect in wanted:
            spool.add(suspect)
        for _ in range(2):
            assert [list(batch) for batch in spool.batches(2)] == [wanted[:2], wanted[2:]]
        assert spool.count == 3


@pytest.mark.long
def test_a_spool_of_many_suspects_lies_on_disk() -> None:
    tracemalloc.start()
    try:
        with closing(Spool()) as spool:
            for n in range(50_000):
                spool.add(Suspect(f"item {n} with a long name, of fifty characters", None))
            assert sum(len(batch) for batch in spool.batches(100)) == 50_000
            assert tracemalloc.get_traced_memory()[1] < 2 * IN_MEMORY_BYTES
    finally:
        tracemalloc.stop()
