"""redis-py's client for one of our URLs: with TLS as the URL says, and through sentinels where it names them."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

import redis
from redis.sentinel import Sentinel

from reindexer.core.broker_url import BrokerUrl

SENTINEL_PORT = 26379


def connect_redis(server: BrokerUrl, **options: Any) -> redis.Redis:
    """A client that has not connected yet."""
    if server.master_name is None:
        return redis.Redis.from_url(server.url, **server.tls, **options)
    first = urlsplit(server.url.partition(";")[0])
    times = {name: value for name, value in options.items() if name.startswith("socket_")}
    sentinels = Sentinel(  # type: ignore[no-untyped-call]
        [(host, port or SENTINEL_PORT) for host, port in server.hosts],
        sentinel_kwargs=times,
        db=int(first.path.strip("/") or 0),
        username=unquote(first.username) if first.username else None,
        password=unquote(first.password) if first.password else None,
        **options,
    )
    found: redis.Redis = sentinels.master_for(server.master_name)  # type: ignore[no-untyped-call]
    return found
