"""Leader election: of any number of listeners one holds the leader lock. While idle, it also holds the bell lock.

Both are session-level advisory locks. A crash frees them. On a connection that we do not own alone, as behind a pooler,
they guarantee nothing.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

import psycopg

from reindexer.postgres.connect import Connection
from reindexer.postgres.locks import LEADER_LOCK, LOCK_CLASS, WAKE_CHANNEL, WAKE_LOCK
from reindexer.postgres.queries import load

_LOCKS = {"lock_class": LOCK_CLASS, "leader_lock": LEADER_LOCK, "wake_lock": WAKE_LOCK}


def hears_itself(connection: Connection, connect: Callable[[], Connection], within_s: float) -> bool:
    """Whether this connection receives notifications of others. False: something in between drops them.

    The notification is sent from another connection. A pooler would use one server connection for both, and pass on
    what that connection notifies itself.
    """
    word = uuid.uuid4().hex
    connection.execute(f"LISTEN {WAKE_CHANNEL}")
    with connect() as other:  # guard wake-echo-other-connection
        other.execute("SELECT pg_notify(%s, %s)", [WAKE_CHANNEL, word])
    until = time.monotonic() + within_s
    while (left_s := until - time.monotonic()) > 0:
        if any(notify.payload == word for notify in connection.notifies(timeout=left_s, stop_after=1)):
            return True
    return False


def try_lead(connection: Connection) -> bool:
    """Take the leader lock, unless another session holds it. Returns whether it was taken."""
    return _granted(connection, "try_lead")


def terminate_stale_leader(connection: Connection, silent_s: float) -> bool:
    """Terminate the session of a leader that was inactive for `silent_s`. Returns True if there was one.

    Whatever that leader was about to do is harmless: it finds its connection closed. Another role's session is left
    alone.
    """
    try:
        rows = connection.execute(
            load("election.sql")["terminate_stale_leader"], _LOCKS | {"silent_s": silent_s}
        ).fetchall()
    except psycopg.errors.InsufficientPrivilege:
        return False
    return bool(rows)


def try_sleep(connection: Connection) -> bool:
    """Take the bell lock, so that triggers notify from now on.

    Returns False while a transaction is open that saw the listener active, and so will not notify.
    """
    return _granted(connection, "try_sleep")


def wake(connection: Connection) -> None:
    """Release the bell lock: triggers need not notify any more."""
    connection.execute(load("election.sql")["wake"], _LOCKS)


def _granted(connection: Connection, query: str) -> bool:
    row = connection.execute(load("election.sql")[query], _LOCKS).fetchone()
    return bool(row and row[0])
