"""How often the leading listener drains while changes keep coming."""

from __future__ import annotations

import threading
import time

from reindexer.adapters.broker.celery_broker import CeleryBroker
from reindexer.listener.leader import STREAM_REST_S, Leader
from reindexer.monitoring.buffer import MetricsBuffer
from reindexer.postgres.connect import Connection, connect
from reindexer.queue.dispatch import Dispatch

DRAINS = 20


def test_a_stream_of_changes_is_drained_no_more_often_than_each_50_ms(
    db: Connection, database: str, broker: CeleryBroker
) -> None:
    db.execute("INSERT INTO context_items (title, content) SELECT n, 'text' FROM generate_series(1, 50) n")
    stop, metrics, drained_at_s = threading.Event(), MetricsBuffer(), list[float]()

    def look(_: Connection, now_s: float) -> None:
        if metrics.take():  # it drained something just now
            drained_at_s.append(now_s)
        if len(drained_at_s) == DRAINS:
            stop.set()

    leader = Leader(Dispatch(broker, 256, 16), stop, 0.005, 60.0, look, metrics)

    def lead() -> None:
        with connect(database, application_name="reindexer test") as connection:
            leader.lead(connection, notify=False)

    thread = threading.Thread(target=lead)
    thread.start()
    try:
        until = time.monotonic() + 30
        while not stop.is_set() and time.monotonic() < until:
            db.execute("UPDATE context_items SET content = content || '.'")
    finally:
        stop.set()
        thread.join()
    assert len(drained_at_s) == DRAINS
    assert drained_at_s[-1] - drained_at_s[0] >= (DRAINS - 1) * STREAM_REST_S
