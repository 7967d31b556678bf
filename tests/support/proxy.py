"""None"""

from __future__ import annotations

from collections.abc import Callable

import psycopg

from reindexer.postgres.connect import Connection
from reindexer.testing.proxy import Edit, Proxy


def cable(database: str, edit: Callable[[], Edit] = lambda: bytes) -> tuple[Proxy, str]:
    """A proxy to a test's database, and the URL that leads through it."""
    parts = psycopg.conninfo.conninfo_to_dict(database)
    proxy = Proxy(str(parts["host"]), int(str(parts["port"])), edit)
    plain: dict[str, str | int] = {
        "host": "127.0.0.1",
        "port": proxy.port,
        "sslmode": "disable",
        "gssencmode": "disable",
    }
    return proxy, psycopg.conninfo.make_conninfo(database, **plain)


def waits_for_a_lock(db: Connection) -> bool:
    row = db.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ).fetchone()
    return row != (0,)
