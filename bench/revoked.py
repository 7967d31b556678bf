"""Revoked: how soon a deletion or a new payload is in Qdrant while thousands of texts wait for a provider."""

from __future__ import annotations

import time
from collections.abc import Callable

from qdrant_client import QdrantClient

from bench.figures import Figures
from bench.freshness import POLL_S, WITHIN_S, percentile
from bench.stage import Bench, Stage, Unsound, until
from reindexer.backfills import runs
from reindexer.core.items import point_id
from reindexer.postgres.connect import connect
from reindexer.sources.store import find_source
from reindexer.testing.proxy import Mode, Proxy

PAUSE_S = 0.05
"""The pause between two changes."""
TOKENS_PER_MINUTE = 6_000
"""The limit that is used up: a fraction of a request per second."""


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """Measures with the provider away, and at its limit; one prefork worker of two processes, a backfill running."""
    texts, changes = (2_000, 100) if quick else (5_000, 500)
    for name, is_away in (("revoked", True), ("revoked_limited", False)):
        with stage.fresh() as bench, Proxy.before(stage.provider.url) as proxy:
            bench.processes.env["OPENAI_BASE_URL"] = proxy.instead(stage.provider.url)
            try:
                found = _seconds(bench, proxy, texts, changes, is_away=is_away)
            finally:
                stage.provider.limit(None)
        how = "the provider away" if is_away else "its rate limit used up"
        note = f"{how}; {changes} deletions and payloads in turns, {texts:,} edits and a backfill wait; prefork 2"
        for share, of in ((0.5, "p50"), (0.99, "p99")):
            figures.add(f"{name}_{of}_ms", 1000 * percentile(found, share), note)


def _seconds(bench: Bench, proxy: Proxy, texts: int, changes: int, *, is_away: bool) -> list[float]:
    bench.fill(changes)
    bench.processes.listener()
    bench.processes.worker(pool="prefork", concurrency=2)
    while bench.waits():
        time.sleep(0.1)
    ids = [str(row[0]) for row in bench.db.execute("SELECT id FROM context_items ORDER BY id")]
    if is_away:
        proxy.mode = Mode.REFUSE
    else:
        bench.stage.provider.limit(TOKENS_PER_MINUTE)
    _let_texts_wait(bench, texts)
    client = bench.stage.qdrant()
    found = [_one(bench, client, item_id, n) for n, item_id in enumerate(ids)]
    client.close()
    if bench.waits() < texts:
        raise Unsound("the texts did not wait: the provider was not what held them up")
    return found


def _let_texts_wait(bench: Bench, texts: int) -> None:
    bench.db.execute("SET session_replication_role = replica")
    bench.fill(texts)  # unseen by triggers: the backfill finds them
    bench.db.execute("RESET session_replication_role")
    for first in range(0, texts, 500):  # in one statement they would not count as edits
        bench.db.execute(
            "INSERT INTO context_items (content) SELECT 'text ' || n FROM generate_series(%s::int, %s) n",
            [first + 1, first + 500],
        )
    with connect(bench.url, application_name="bench") as connection:
        runs.start(connection, find_source(connection, "context_items"), who="bench")
    unseen = "SELECT count(*) FROM reindexer.due WHERE lane = 'live' AND NOT marked"
    bench.until_drained()
    until(lambda: not bench.number(unseen), 120, "edits are not looked at")


def _one(bench: Bench, client: QdrantClient, item_id: str, number: int) -> float:
    """Alternately a deletion and a new title (which is payload, and part of the text)."""
    point, title = point_id("context_items", item_id, 0), f"title {number}"
    if number % 2:
        bench.db.execute("DELETE FROM context_items WHERE id = %s", [item_id])
    else:
        bench.db.execute("UPDATE context_items SET title = %s WHERE id = %s", [title, item_id])
    committed = time.monotonic()

    def is_there() -> bool:
        records = client.retrieve("context_items", [point], with_payload=["title"])
        return not records if number % 2 else bool(records) and (records[0].payload or {})["title"] == title

    took_s = _until_there(is_there, committed)
    time.sleep(PAUSE_S)
    return took_s


def _until_there(is_there: Callable[[], bool], committed: float) -> float:
    while not is_there():
        if time.monotonic() > committed + WITHIN_S:
            raise Unsound(f"a change was not in Qdrant within {WITHIN_S:.0f} s")
        time.sleep(POLL_S)
    return time.monotonic() - committed
