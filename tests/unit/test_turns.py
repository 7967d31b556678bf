"""Which request of the embedded Qdrant server comes next."""

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from reindexer.embedded.turns import BYTES_PER_S, Turns


class Busy:
    """Holds the thread until it is released, so that what comes meanwhile has to wait; notes what is done then."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.began = threading.Event()
        self.done: list[str] = []

    def hold(self) -> None:
        self.began.set()
        self.release.wait()

    def note(self, name: str) -> Callable[[], None]:
        return lambda: self.done.append(name)


async def _in_order(turns: Turns, busy: Busy, asked: list[tuple[str, int, float]]) -> list[str]:
    """What is done in which order if all of it comes, with pauses after each, while the thread is busy."""
    holding = asyncio.create_task(turns.take(0, busy.hold))
    await asyncio.to_thread(busy.began.wait)
    tasks = [holding]
    for name, size, pause_s in asked:
        tasks.append(asyncio.create_task(turns.take(size, busy.note(name))))
        await asyncio.sleep(pause_s)
    busy.release.set()
    await asyncio.gather(*tasks)
    return busy.done


def test_small_requests_pass_large_ones_that_wait() -> None:
    asked = [("batch 1", 5_000_000, 0.0), ("batch 2", 5_000_000, 0.0), ("edit", 10_000, 0.0)]
    with Turns() as turns:
        assert asyncio.run(_in_order(turns, Busy(), asked)) == ["edit", "batch 1", "batch 2"]


def test_a_large_request_is_passed_no_longer_than_its_size_is_worth() -> None:
    asked = [("batch", int(0.05 * BYTES_PER_S), 0.1), ("edit", 10_000, 0.0)]
    with Turns() as turns:
        assert asyncio.run(_in_order(turns, Busy(), asked)) == ["batch", "edit"]


def test_who_asks_hears_of_what_went_wrong_and_the_next_has_its_turn() -> None:
    async def ask(turns: Turns) -> str:
        with pytest.raises(ValueError, match="no number"):
            await turns.take(1, lambda: int("no number"))
        return await turns.take(1, lambda: "answer")

    with Turns() as turns:
        assert asyncio.run(ask(turns)) == "answer"


def test_the_end_waits_for_what_is_being_done_and_gives_up_the_rest() -> None:
    busy = Busy()

    async def ask(turns: Turns) -> None:
        tasks = [asyncio.create_task(turns.take(0, busy.hold)), asyncio.create_task(turns.take(1, busy.note("late")))]
        await asyncio.to_thread(busy.began.wait)
        for task in tasks:
            task.cancel()

    turns = Turns()
    with turns:
        asyncio.run(ask(turns))
        threading.Timer(0.05, busy.release.set).start()
        began = time.monotonic()
    assert time.monotonic() - began > 0.04
    assert busy.done == []
