"""However often somebody asks, a dear question is asked seldom, and a late answer holds nobody up."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from api.cached_query import CachedQuery


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as executor:
        yield executor


def test_an_answer_is_kept_in_proportion_to_what_it_took(executor: ThreadPoolExecutor) -> None:
    asked = []

    def ask() -> int:
        asked.append(time.monotonic())
        time.sleep(0.02)
        return len(asked)

    async def many() -> None:
        answer = CachedQuery(executor, "dear", ask, keep_s=0, keep_ratio=10)
        until = time.monotonic() + 1
        while time.monotonic() < until:
            assert await answer.get(within_s=1) == len(asked)
            await asyncio.sleep(0)

    asyncio.run(many())
    assert 2 <= len(asked) <= 5
    assert all(later - earlier >= 0.2 for earlier, later in pairwise(asked))


def test_a_late_answer_is_none_and_the_question_is_not_asked_again_before_it_has_come(
    executor: ThreadPoolExecutor,
) -> None:
    go_on, asked = threading.Event(), []

    def ask() -> str:
        asked.append(1)
        go_on.wait(10)
        return "here"

    async def impatient() -> None:
        answer = CachedQuery(executor, "slow", ask)
        assert [await answer.get(within_s=0.01) for _ in range(5)] == [None] * 5
        go_on.set()
        assert await answer.get(within_s=5) == "here"

    asyncio.run(impatient())
    assert len(asked) == 1


def test_a_question_that_breaks_is_no_answer_and_is_asked_again(executor: ThreadPoolExecutor) -> None:
    asked = []

    def ask() -> str:
        asked.append(1)
        if len(asked) == 1:
            raise OSError("away")
        return "back"

    async def twice() -> None:
        answer = CachedQuery(executor, "broken", ask, keep_s=0)
        assert [await answer.get(within_s=5) for _ in range(2)] == [None, "back"]

    asyncio.run(twice())
