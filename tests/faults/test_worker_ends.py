"""A worker that is to end, while a process of its pool does not do what the main process waits for."""

from __future__ import annotations

import signal
import time

import psutil
import pytest

from reindexer.adapters.broker.celery_broker import CeleryBroker
from reindexer.core.lanes import Lane
from reindexer.embedded.children import Child
from reindexer.postgres.connect import Connection
from reindexer.testing.processes import log_of
from reindexer.testing.waiting import eventually
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes


def idle_worker(processes: Processes) -> tuple[Child, psutil.Process]:
    """A worker, and the only process of its pool, which has run a heartbeat and waits for the next message."""
    worker = processes.worker(concurrency=1)
    eventually(lambda: "heartbeat_task" in log_of(worker) and "succeeded in" in log_of(worker), within=30)
    (child,) = psutil.Process(worker.process.pid).children()
    return worker, child


def test_a_worker_ends_soon_that_is_told_to_just_after_it_gave_its_pool_a_message(
    db: Connection, processes: Processes, index: IndexReader, broker: CeleryBroker
) -> None:
    """The main process forgets the message, and the pool's process waits for it to read what became of the message."""
    worker, child = idle_worker(processes)
    child.suspend()  # it takes the message after the main process forgot it
    broker.send_work(Lane.LIVE, 1)
    eventually(lambda: "work_lane_task" in log_of(worker), within=20)
    time.sleep(1)  # the message is in the pipe
    worker.process.send_signal(signal.SIGTERM)
    eventually(lambda: "Warm shutdown" in log_of(worker), within=20)
    time.sleep(2)  # it is forgotten: the main process waits for the pool to end
    child.resume()
    eventually(lambda: worker.process.poll() == 0, within=20)
    assert "succeeded in" in log_of(worker).partition("Warm shutdown")[2], "the fault was made: the message was run"


@pytest.mark.long
def test_an_outdated_worker_ends_even_if_its_pool_does_not(
    db: Connection, processes: Processes, index: IndexReader
) -> None:
    worker, child = idle_worker(processes)
    child.suspend()
    db.execute("UPDATE reindexer.alembic_version SET version_num = '0999'")
    eventually(lambda: "is at schema revision 0999" in log_of(worker), within=30)
    eventually(lambda: worker.process.poll() == 2, within=60)
    child.wait(20)
