"""What the queues carry is JSON: anything else is refused unread, and the worker goes on."""

from __future__ import annotations

import base64
import json
import pickle
import uuid
from pathlib import Path
from typing import Any

import pytest
import redis

from reindexer.adapters.broker.celery_broker import CeleryBroker
from reindexer.postgres.connect import Connection
from reindexer.testing.processes import log_of
from reindexer.testing.provider import vector_of
from reindexer.testing.waiting import eventually
from tests.support.flow import insert
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes

WORK = "reindexer.tasks.work_lane_task"


class Touch:
    """What would run if somebody unpickled it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def message(body: bytes, content_type: str, task: str = WORK) -> str:
    """A message as kombu lays it into a list of Redis, protocol 2."""
    task_id = str(uuid.uuid4())
    return json.dumps({
        "body": base64.b64encode(body).decode(), "content-type": content_type,
        "content-encoding": "binary" if "python" in content_type else "utf-8",
        "headers": {"lang": "py", "task": task, "id": task_id, "root_id": task_id, "parent_id": None, "group": None,
                    "argsrepr": "()", "kwargsrepr": "{}", "origin": "stranger", "retries": 0, "timelimit": [None, None]},
        "properties": {"correlation_id": task_id, "reply_to": str(uuid.uuid4()), "delivery_mode": 2,
                       "delivery_info": {"exchange": "", "routing_key": "live"}, "priority": 0,
                       "body_encoding": "base64", "delivery_tag": str(uuid.uuid4())},
    })  # fmt: skip


@pytest.mark.parametrize("pool", ["prefork", "solo"])
@pytest.mark.first(1)
def test_a_pickled_message_is_refused_unread_and_the_worker_goes_on(
    db: Connection,
    processes: Processes,
    broker: CeleryBroker,
    index: IndexReader,
    redis_url: str,
    tmp_path: Path,
    pool: str,
) -> None:
    worker = processes.worker(pool=pool, concurrency=1, C_FORCE_ROOT="1")  # else Celery refuses pickle under root
    touched = tmp_path / "touched"
    pickled = pickle.dumps(((Touch(touched),), {"lane": Touch(touched)}, {}))
    with redis.Redis.from_url(redis_url) as client:
        for content_type in ("application/x-python-serialize", "application/x-yaml", "application/data", "text/plain"):
            client.lpush("reindexer.live", message(pickled, content_type))
        client.lpush("reindexer.live", message(b"[[", "application/json"))
        client.lpush("reindexer.live", message(b'[["live"], {}, {}]', "application/json", task="os.system"))
        client.lpush("reindexer.live", message(b'[[{"x": 1}, 2, 3], {"y": 1}, {}]', "application/json"))
        eventually(lambda: client.llen("reindexer.live") == 0, within=20)
    processes.listener()
    item_id = insert(db, "text")
    eventually(lambda: index.holds(item_id, vector_of("text")), within=20)
    assert worker.running()
    assert not touched.exists()
    assert "ContentDisallowed" in log_of(worker)


def test_only_json_is_sent_and_taken(broker: CeleryBroker) -> None:
    conf = broker.app.conf
    assert (conf.task_serializer, conf.result_serializer, conf.event_serializer) == ("json", "json", "json")
    assert conf.accept_content == conf.result_accept_content == ["json"]
