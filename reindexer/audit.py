"""The audit: one row per admin action, in the same transaction as the action. Never holds text of rows, nor keys.

Conditions of backfills and filters of replays may quote text. The audit therefore records only whether they were given.
"""

from __future__ import annotations

import getpass
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal

from psycopg.rows import class_row

from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load

Action = Literal[
    "bulk", "replay", "pause", "resume", "backfill_start", "backfill_pause", "backfill_resume", "backfill_cancel",
    "repair", "adopt", "migrate", "attach", "detach",
    "rebuild", "rebuild_cancel", "promote", "rollback", "prune", "generation_broken",
    "key_create", "key_revoke", "forget", "budget",
    "events_add", "events_remove", "events_rotate",
]  # fmt: skip

KEEP_DAYS = 365
MAX_NAME = 100


@dataclass(frozen=True, slots=True)
class Entry:
    """One recorded action."""

    id: int
    at: datetime
    who: str
    action: str
    source: str | None
    """None: the action concerned no source, or all."""
    details: Mapping[str, Any]


@dataclass(slots=True)
class Draft:
    """Details of an action that are known only when it is done."""

    source: str | None
    details: dict[str, Any] = field(default_factory=dict)


@contextmanager
def audited(connection: Connection, who: str, action: Action, source: str | None = None) -> Iterator[Draft]:
    """A transaction for the action and its row. An action that raises leaves neither."""
    with connection.transaction():  # guard audit-rollback-on-refusal
        draft = Draft(source)
        yield draft
        note(connection, who, action, draft.source, draft.details)


def note(connection: Connection, who: str, action: Action, source: str | None, details: Mapping[str, Any]) -> None:
    """Record one action. An action of many transactions is recorded before the first of them."""
    connection.execute(
        load("audit.sql")["note"], {"who": who, "action": action, "source": source, "details": json.dumps(details)}
    )


def recent(connection: Connection, *, source: str | None, limit: int) -> list[Entry]:
    """Return the newest entries first."""
    with connection.cursor(row_factory=class_row(Entry)) as cursor:
        return cursor.execute(load("audit.sql")["recent"], {"source": source, "limit": limit}).fetchall()


def forget(connection: Connection) -> None:
    """Delete entries older than `KEEP_DAYS`, so that the table stays bounded."""
    connection.execute(load("audit.sql")["forget_audit"], {"days": KEEP_DAYS})


def of_command() -> str:
    """Return who runs a command: the operating system's user, and the host."""
    return f"cli {_user_and_host()}"


def of_python() -> str:
    """Return who calls the Python API: the operating system's user, and the host."""
    return f"python {_user_and_host()}"


def _user_and_host() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "unknown"
    return f"{plain(user)}@{plain(socket.gethostname())}"


def item_mark(source: str | None, item_id: str) -> str:
    """Return what stands for an item in the audit, where an id that is to be forgotten must not stand: a hash.

    Whoever can guess the id can make the same hash, and so find out what was done with an item.
    """
    return "sha256:" + sha256(f"{source or ''}\n{item_id}".encode("utf-8", "surrogatepass")).hexdigest()


def plain(name: str) -> str:
    """Return a name that fits in a line: printable, stripped, at most `MAX_NAME` characters."""
    return "".join(each for each in name if each.isprintable()).strip()[:MAX_NAME]
