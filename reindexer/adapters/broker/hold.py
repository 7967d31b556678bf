"""Records in the broker which database uses a prefix: two databases on one queue would take each other's messages.

In Redis this is a key; the first database after a flush writes it again. RabbitMQ has no keys. There it is an exchange
that nobody publishes to, and the name of its alternate exchange is the database. RabbitMQ refuses to redeclare it with
another name, and its error tells the present one.
"""

from __future__ import annotations

import re

from amqp.exceptions import AccessRefused, PreconditionFailed
from kombu import Connection as BrokerConnection
from redis.exceptions import NoPermissionError

UNKNOWN = "one that the broker does not name"


def hold(connection: BrokerConnection, key: str, ours: str, *, instead_of: str | None = None) -> str:
    """Record that `ours` uses the prefix, unless another database is recorded. Returns the recorded one.

    `instead_of`: the holder to replace. If the broker's user may not write, `ours` counts as the holder.
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
    channel = connection.channel()  # a separate one, because a refusal closes it
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
