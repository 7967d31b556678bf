"""A thousand waits over HTTP: what they cost while nothing happens, and how soon each is told."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from statistics import median
from urllib.parse import urlsplit

import psutil
import pytest

from reindexer.core.lanes import Lane
from reindexer.postgres.connect import Connection
from reindexer.queue.claim import claim_batch
from reindexer.queue.drain import drain
from reindexer.queue.settle import Finished, finish
from tests.support.cpu import cpu_s, family_s, percent, postmaster_of
from tests.support.flow import insert
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes

WAITS = 1_000
WINDOW_S = 10.0
IDLE_PERCENT = 2.0
ALONE = 30
"""So many are settled one by one, among those that go on waiting."""
TOLD_WITHIN_S = 0.05
FAILED_WITHIN_S = 0.1


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.timeout(300)
def test_a_thousand_waits_cost_next_to_nothing_and_are_told_at_once(
    processes: Processes, db: Connection, index: IndexReader, record_property: Callable[[str, object], None]
) -> None:
    tokens: dict[str, str] = {}
    for n in range(WAITS):
        with db.transaction():
            (token,) = db.execute("SELECT reindexer.mark()").fetchone() or ("",)
            tokens[insert(db, f"text {n}")] = str(token)
    drain(db)
    child, url = processes.api()
    api, server = psutil.Process(child.process.pid), psutil.Process(postmaster_of(db))
    nobody = percent(lambda: cpu_s(api) + family_s(server), WINDOW_S)
    answers = asyncio.run(_waits(url, tokens, db, lambda: cpu_s(api) + family_s(server)))
    record_property("waits", answers)
    cost, told, failed, rest_s = answers
    print(
        f"{WAITS} waits: {cost - nobody:.2f} % of a core; told after {1000 * median(told):.1f} ms"
        f" (most {1000 * max(told):.1f}), failed {1000 * max(failed):.1f} ms; the other {WAITS - ALONE} in {rest_s:.2f} s"
    )
    assert cost - nobody < IDLE_PERCENT
    assert sorted(told)[-3] < TOLD_WITHIN_S, "of thirty, two may meet a busy machine"
    assert min(failed) < FAILED_WITHIN_S


async def _waits(
    url: str, tokens: dict[str, str], db: Connection, cpu: Callable[[], float]
) -> tuple[float, list[float], list[float], float]:
    ended: dict[str, tuple[float, str]] = {}

    async def wait(item_id: str, token: str) -> None:
        status = await _ask(url, token)
        ended[item_id] = time.monotonic(), status

    tasks = [asyncio.create_task(wait(*each)) for each in tokens.items()]
    await asyncio.sleep(8)  # the first looks are over
    cost = await asyncio.to_thread(percent, cpu, WINDOW_S)
    told, failed = list[float](), list[float]()
    for n in range(ALONE):
        claim = claim_batch(db, Lane.LIVE, 1, 60)
        assert claim is not None
        (item,) = claim.items
        fails = n % 10 == 9
        outcome = Finished(item, "FAILED", error="refused") if fails else Finished(item, "COMPLETED")
        finish(db, claim, [outcome])
        settled_s = time.monotonic()
        while item.item_id not in ended:
            await asyncio.sleep(0.001)
        at_s, status = ended[item.item_id]
        assert status == ("failed" if fails else "indexed")
        (failed if fails else told).append(at_s - settled_s)
        await asyncio.sleep(0.05)
    assert len(ended) == ALONE
    began_s = time.monotonic()
    while (claim := claim_batch(db, Lane.LIVE, 256, 60)) is not None:
        finish(db, claim, [Finished(each, "COMPLETED") for each in claim.items])
    await asyncio.wait_for(asyncio.gather(*tasks), 30)
    return cost, told, failed, max(at_s for at_s, _ in ended.values()) - began_s


async def _ask(url: str, token: str) -> str:
    """One request, without the cost of a client's library."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    body = json.dumps({"after": token, "timeout_s": 60})
    writer.write(
        f"POST /wait HTTP/1.1\r\nHost: x\r\nX-API-Key: test-admin-key\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
    )
    head, _, told = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert b" 200 " in head, head
    status: str = json.loads(told)["status"]
    return status
