"""The queue: changes per second from the outbox to due, and items per second from due to claimed."""

from __future__ import annotations

import statistics
import time

from bench.figures import Figures
from bench.stage import Bench, Stage, Unsound
from reindexer.adapters.broker.celery_broker import CeleryBroker, make_celery
from reindexer.core.broker_url import BrokerUrl
from reindexer.core.lanes import Lane
from reindexer.postgres.connect import connect
from reindexer.queue.claim import LaneWatermark, claim_batch
from reindexer.queue.drain import drain

BATCH = 256


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """Drain and claim, with no worker and no listener running."""
    items, times = (20_000, 1) if quick else (100_000, 3)
    drains, claims = list[float](), list[float]()
    for _ in range(times):
        with stage.fresh() as bench:
            drains.append(_drain(bench, items))
            claims.append(_claim(bench, min(items, 50_000)))
    figures.add("drain_changes_per_s", statistics.median(drains), f"{2 * items:,} changes over {items:,} items")
    beside = _one_message_each(stage, 2_000)
    figures.add("dispatch_items_per_s", statistics.median(claims), f"one Celery message an item: {beside:,.0f} sent/s")


def _drain(bench: Bench, items: int) -> float:
    bench.db.execute(
        "INSERT INTO context_items (content) SELECT 'text ' || n FROM generate_series(1, %s) AS n", [items]
    )
    bench.db.execute("UPDATE context_items SET content = content || '!'")
    changes, began = 0, time.monotonic()
    with connect(bench.url, application_name="bench") as connection:
        while found := drain(connection).changes:
            changes += found
    took = time.monotonic() - began
    (due,) = bench.db.execute("SELECT count(*) FROM reindexer.due").fetchone() or (0,)
    if (changes, due) != (2 * items, items):
        raise Unsound(f"{changes} changes drained to {due} items")
    return changes / took


def _claim(bench: Bench, items: int) -> float:
    """One claim after the other, each starting where a worker's would."""
    claimed, watermark, began = 0, LaneWatermark(), time.monotonic()
    with connect(bench.url, application_name="bench") as connection:
        while claimed < items:
            claim = claim_batch(connection, Lane.BULK, BATCH, 300, watermark=watermark)
            if claim is None:
                raise Unsound("nothing to claim")
            claimed += len(claim.items)
    return claimed / (time.monotonic() - began)


def _one_message_each(stage: Stage, messages: int) -> float:
    broker = CeleryBroker(make_celery(BrokerUrl(stage.redis_url), None, result_expires_s=60))
    began = time.monotonic()
    broker.send_requests([(f"bench-{n}", "context_items", str(n)) for n in range(messages)])
    return messages / (time.monotonic() - began)
