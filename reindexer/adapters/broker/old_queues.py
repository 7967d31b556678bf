"""Takes our messages out of queues that are not ours: `live` and `bulk` of versions without a prefix, and `celery`, the
default queue of an application that names none.

Reindex requests move to our queue. Our other messages are deleted, because due work is sent again. All other messages
belong to somebody else, and stay where they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import amqp
from kombu import Connection as BrokerConnection

from reindexer.adapters.broker.celery_broker import REQUEST_TASK, WORK_TASK
from reindexer.adapters.broker.errors import BROKER_ERRORS
from reindexer.core.lanes import REQUEST_LANE
from reindexer.core.queues import CELERY_QUEUE, OLD_QUEUES, Names

PAGE = 1000
MAX_LOOKED_AT = 100_000
"""The most messages of one queue that are looked at, the newest first."""

_FIND = """
if redis.call('TYPE', KEYS[1]).ok ~= 'list' then return {} end
local found = {}
for _, message in ipairs(redis.call('LRANGE', KEYS[1], ARGV[1], ARGV[2])) do
  if string.find(message, 'reindexer.tasks.', 1, true) then found[#found + 1] = message end
end
return found
"""
_MOVE = """
if redis.call('LREM', KEYS[1], -1, ARGV[1]) == 0 then return 0 end
if ARGV[2] ~= '' then redis.call('LPUSH', KEYS[2], ARGV[2]) end
return 1
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """One of our messages that was found in another queue."""

    queue: str
    task: str
    task_id: str


def take_over(connection: BrokerConnection, names: Names) -> list[Taken]:
    """Take our messages, and return them. RabbitMQ shows a message only to its consumer. So there only queues without a
    consumer that are declared as older versions declared them are read; foreign messages return to their place."""
    kind = connection.transport.driver_type
    theirs = [queue for queue in (*OLD_QUEUES, CELERY_QUEUE) if queue not in names.queues()]
    if kind == "redis":
        return [each for queue in theirs for each in _of_redis(connection, queue, names)]
    if kind == "amqp":
        return [each for queue in theirs for each in _of_rabbitmq(connection, queue, names)]
    return []


def unattended(connection: BrokerConnection) -> int:
    """The number of messages in Celery's default queue on a RabbitMQ, if it has no consumer. Some may be ours; only a
    consumer could tell."""
    channel = connection.channel()
    try:
        waiting = channel.queue_declare(CELERY_QUEUE, passive=True)
        return 0 if waiting.consumer_count else int(waiting.message_count)
    except (amqp.NotFound, amqp.AccessRefused, amqp.ResourceLocked):
        return 0
    finally:
        _close(channel)


def _close(channel: amqp.Channel) -> None:
    with suppress(*BROKER_ERRORS):
        channel.close()


def _of_redis(connection: BrokerConnection, queue: str, names: Names) -> Iterator[Taken]:
    target = names.queue(REQUEST_LANE)
    with connection.default_channel.conn_or_acquire() as client:
        for start in range(0, min(client.llen(queue), MAX_LOOKED_AT) if client.type(queue) == b"list" else 0, PAGE):
            for found in client.eval(_FIND, 1, queue, start, start + PAGE - 1):
                message = _read(found)
                task = message.get("headers", {}).get("task")
                if task not in (REQUEST_TASK, WORK_TASK):  # guard broker-legacy-own-tasks
                    continue
                message.get("properties", {})["delivery_info"] = {"exchange": "", "routing_key": target}
                moved = json.dumps(message) if task == REQUEST_TASK else ""
                if client.eval(_MOVE, 2, queue, target, found, moved):
                    yield Taken(queue, task, str(message["headers"].get("id")))


def _read(message: bytes) -> dict[str, Any]:
    with suppress(ValueError):
        read = json.loads(message)
        if isinstance(read, dict) and isinstance(read.get("headers"), dict):
            return read
    return {}


def _of_rabbitmq(connection: BrokerConnection, queue: str, names: Names) -> Iterator[Taken]:
    channel = connection.channel()
    try:
        waiting = channel.queue_declare(queue, passive=True)
        if waiting.message_count == 0 or waiting.consumer_count:
            return
        # Refused for another type of queue: a quorum queue counts how often a message was given back.
        channel.queue_declare(queue, durable=True, auto_delete=False, arguments={"x-queue-type": "classic"})
        for _ in range(min(waiting.message_count, MAX_LOOKED_AT)):
            message = channel.basic_get(queue)
            if message is None:
                return
            headers = message.headers or {}
            if headers.get("task") not in (REQUEST_TASK, WORK_TASK):
                continue
            if headers["task"] == REQUEST_TASK:
                copy = amqp.Message(message.body, application_headers=headers, **_properties(message.properties))
                channel.basic_publish(copy, exchange="", routing_key=names.queue(REQUEST_LANE))
            channel.basic_ack(message.delivery_tag)
            yield Taken(queue, headers["task"], str(headers.get("id")))
    except (amqp.NotFound, amqp.PreconditionFailed, amqp.AccessRefused, amqp.ResourceLocked):
        pass
    finally:
        _close(channel)  # returns what was not acknowledged to its place


def _properties(properties: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in properties.items() if name != "application_headers"}
