"""The audit: one row for each admin action, in the transaction of what was done. Never holds text of rows, nor keys.

Conditions of backfills and filters of replays may quote text, so they are noted as given or not.
"""

from __future__ import annotations

import getpass
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from psycopg.rows import class_row

from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load

Action = Literal[
    "bulk", "replay", "pause", "resume", "backfill_start", "backfill_pause", "backfill_resume", "backfill_cancel",
    "repair", "adopt", "migrate", "attach", "detach",
]  # fmt: skip

KEEP_DAYS = 365
MAX_NAME = 100


@dataclass(frozen=True, slots=True)
class Entry:
    """One action."""

    id: int
    at: datetime
    who: str
    action: str
    source: str | None
    """None: of no source, or of all."""
    details: Mapping[str, Any]


@dataclass(slots=True)
class Draft:
    """What is known of an action only when it is done."""

    source: str | None
    details: dict[str, Any] = field(default_factory=dict)


@contextmanager
def audited(connection: Connection, who: str, action: Action, source: str | None = None) -> Iterator[Draft]:
    """A transaction for the action and its row; an action that raises leaves neither."""
    with connection.transaction():  # guard audit-rollback-on-refusal
        draft = Draft(source)
        yield draft
        note(connection, who, action, draft.source, draft.details)


def note(connection: Connection, who: str, action: Action, source: str | None, details: Mapping[str, Any]) -> None:
    """One row. For an action of many transactions, before the first of them."""
    connection.execute(
        load("audit.sql")["note"], {"who": who, "action": action, "source": source, "details": json.dumps(details)}
    )


def recent(connection: Connection, *, source: str | None, limit: int) -> list[Entry]:
    """The newest first."""
    with connection.cursor(row_factory=class_row(Entry)) as cursor:
        return cursor.execute(load("audit.sql")["recent"], {"source": source, "limit": limit}).fetchall()


def forget(connection: Connection) -> None:
    """Delete what is older than a year: the table is bounded."""
    connection.execute(load("audit.sql")["forget_audit"], {"days": KEEP_DAYS})


def of_command() -> str:
    """Who runs a command: the operating system's user, and the host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "unknown"
    return f"cli {plain(user)}@{plain(socket.gethostname())}"


def plain(name: str) -> str:
    """A name that fits a line: printable, without spaces around, not long."""
    return "".join(each for each in name if each.isprintable()).strip()[:MAX_NAME]
