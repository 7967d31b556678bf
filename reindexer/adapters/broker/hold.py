"""Which database uses a prefix, noted in the broker itself: two that shared queues would take each other's messages.

In Redis a key; whoever comes first after a flush writes it anew. RabbitMQ keeps no keys: there it is an exchange that
nobody publishes to, and the name of its alternate one says it. To declare it otherwise is refused, with a word of how
it is.
"""

from __future__ import annotations

import re

from amqp.exceptions import AccessRefused, PreconditionFailed
from kombu import Connection as BrokerConnection
from redis.exceptions import NoPermissionError

UNKNOWN = "one that the broker does not name"


def hold(connection: BrokerConnection, key: str, ours: str, *, instead_of: str | None = None) -> str:
    """Note that `ours` uses the prefix unless another database is noted there; returns which one is.

    `instead_of`: the one whose place it takes. Where the broker's user may note nothing, nobody is refused.
    """
    kind = connection.transport.driver_type
    if kind == "redis":
        return _hold_in_redis(connection, key, ours, instead_of)
    if kind == "amqp":
        return _hold_in_rabbitmq(connection, key, ours, instead_of)
    return ours


def _hold_in_redis(connection: BrokerConnection, key: str, ours: str, instead_of: str | None) -> str:
    try:
        with connection.default_channel.conn_or_acquire() as client:
            if instead_of is not None and _text(client.get(key)) == instead_of:
                client.set(key, ours)
            client.set(key, ours, nx=True)
            return _text(client.get(key)) or ours
    except NoPermissionError:
        return ours


def _hold_in_rabbitmq(connection: BrokerConnection, key: str, ours: str, instead_of: str | None) -> str:
    channel = connection.channel()  # of its own, as a refusal closes it
    try:
        if instead_of is not None:
            channel.exchange_delete(key)
        channel.exchange_declare(key, "fanout", durable=True, auto_delete=False, arguments={"alternate-exchange": ours})
        return ours
    except AccessRefused:
        return ours
    except PreconditionFailed as exc:
        found = re.search(r"current is (?:the value )?'([^']*)'", str(exc))
        return found[1] if found else UNKNOWN
    finally:
        if channel.is_open:
            channel.close()


def _text(value: bytes | str | None) -> str | None:
    return value.decode() if isinstance(value, bytes) else value
