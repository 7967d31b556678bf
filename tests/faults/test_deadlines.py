"""A worker's own deadline: nothing begins that can't end within the lease, and what is done by then is not thrown away."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from reindexer.core.lanes import Lane
from reindexer.postgres.connect import Connection
from reindexer.queue.drain import drain
from reindexer.queue.lease import Deadline, LeaseExpired
from reindexer.settings import Settings
from reindexer.testing.provider import FakeProvider
from reindexer.wiring import worker as make_worker
from tests.support.flow import insert, status
from tests.support.index_reader import IndexReader


def test_a_timeout_ends_before_the_lease_does_and_none_begins_after_it() -> None:
    deadline = Deadline.after(3.0)
    assert deadline.cap(1.0) == 1.0
    assert 2.0 < deadline.cap(10.0, at_least_s=1.0) < 2.7
    assert deadline.cap(10.0, keep_s=1.0) < 1.7
    with pytest.raises(LeaseExpired):
        deadline.cap(10.0, keep_s=2.7)
    with pytest.raises(LeaseExpired):
        deadline.cap(10.0, at_least_s=2.7)
    with pytest.raises(LeaseExpired):
        Deadline.after(0.0).cap(10.0)


def test_a_batch_that_is_too_slow_for_its_lease_is_written_as_far_as_it_got(
    db: Connection, env: Mapping[str, str], index: IndexReader, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**env, "REINDEXER_LEASE_S": "5", "REINDEXER_EMBEDDING_MAX_INPUTS": "2"}.items():
        monkeypatch.setenv(name, value)
    worker = make_worker(Settings.load(), None)
    provider.latency_s = 2.1  # more than half of what the lease leaves
    ids = [insert(db, f"text {n}") for n in range(6)]
    drain(db)
    worker.run_lane(Lane.LIVE, budget_s=0)
    assert sorted((status(db, item_id) or ("", None) for item_id in ids), key=str) == [
        *[("COMPLETED", None)] * 2,
        *[("PENDING", "its claim ended before its turn came")] * 4,
    ]
    assert index.count() == 2
    assert len(provider.calls) == 1, "a second one would have had no time, and the provider would have been blamed"
    assert db.execute("SELECT DISTINCT lease_until, doubtful, losses FROM reindexer.due").fetchall() == [
        (None, False, 0)
    ]
    worker.close()
