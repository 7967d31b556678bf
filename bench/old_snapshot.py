"""An old snapshot: how much longer a claim and a drain take while one is open and many changes have passed through."""

from __future__ import annotations

import os
from contextlib import closing

from bench.figures import Figures
from bench.stage import Stage
from bench.under_snapshot import old_snapshot, queue_of
from reindexer.adapters.broker.celery_broker import CeleryBroker, make_celery
from reindexer.core.broker_url import BrokerUrl
from reindexer.postgres.connect import connect
from reindexer.settings import Settings
from reindexer.wiring import worker as make_worker


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """The median of three rounds with the snapshot open, divided by that of three rounds before."""
    changes = 30_000 if quick else 300_000
    with stage.fresh() as bench, connect(bench.url, application_name="bench") as db:
        os.environ.update(bench.env)
        bench.db.execute("UPDATE reindexer.run SET state = 'finished', finished_at = now()")
        broker = CeleryBroker(make_celery(BrokerUrl(stage.redis_url), None, result_expires_s=60))
        with closing(make_worker(Settings.load(), None)) as worker:
            queue = queue_of(db, worker, broker)
            before = queue.measure()
            with old_snapshot(bench.url, db, changes):
                during = queue.measure()
        for name, without, beside in zip(("drain", "top_up", "claim"), before, during, strict=True):
            note = f"{1000 * beside:.1f} ms; without the snapshot {1000 * without:.1f} ms; {changes:,} changes since"
            figures.add(f"{name}_ratio_under_old_snapshot", beside / without, note)
