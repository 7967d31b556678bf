"""Receivers of events: add one, list them, remove one, give one another secret.

A secret is shown once, by `add` or `rotate`. The table holds it, because a webhook is signed with it. Only the role
that migrated and the listener's may read it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import psycopg
from psycopg.rows import class_row

from reindexer import budgets
from reindexer.audit import audited
from reindexer.core.api_key import require_name
from reindexer.core.errors import UsageError
from reindexer.core.event import SECRET_BYTES, TYPES, Target, require_types, require_url, secret_of
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load
from reindexer.sources.store import find_source

Kind = Literal["webhook", "notify"]

MAX_RECEIVERS = 20
"""Each has threads of its own in the listener."""
KEEP_OLD_S = 86_400.0
"""How long the secret before signs as well."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """Who is told of events, and how that goes."""

    name: str
    kind: Kind
    url: str | None
    """Of a webhook."""
    sources: Sequence[str]
    types: Sequence[str]
    state: Literal["on", "off"]
    """`off`: it answered 410, and is told nothing any more."""
    problem: str | None
    """Why nothing is delivered now."""
    failures: int
    """How often in a row nothing could be delivered."""
    failing_since: datetime | None
    next_try_at: datetime | None
    created_at: datetime
    created_by: str
    waiting: int
    """Events that it has not acknowledged."""
    oldest_s: float
    """Age of the oldest one in seconds. 0: none waits."""


@dataclass(frozen=True, slots=True)
class NewSecret:
    """What signs a receiver's webhooks from now on."""

    secret: str | None = field(repr=False)
    """To be kept now: it is shown never again. None: it is told by NOTIFY, where nothing is signed."""


def add(
    connection: Connection, name: str, *, who: str, identity: str | None, url: str | None, sources: Sequence[str],
    types: Sequence[str] = (),
) -> NewSecret:  # fmt: skip
    """Tell a receiver of these sources' events from now on, of these types or of all. Without a URL, by NOTIFY.

    `identity`: the name of this database, which a copy of it does not have. Raises UsageError, and adds none, if the
    name is taken, if there is no such source or type, or if this database role may not write receivers.
    """
    require_name(name, "a receiver")
    require_types(types)
    if url is not None:
        require_url(url)
    if not sources:
        raise UsageError("name a source: --source NAME; only sources that a receiver asks for are told of")
    if identity is None:
        raise UsageError(
            "this role may not ask the server who it is, so a copy would send as well: set REINDEXER_INSTANCE"
        )
    for source in sources:
        find_source(connection, source)
    kind: Kind = "notify" if url is None else "webhook"
    secret = None if url is None else secret_of(secrets.token_bytes(SECRET_BYTES))
    wanted = sorted(set(types), key=TYPES.index) or list(TYPES)
    row: dict[str, Any] = {
        "name": name, "kind": kind, "url": url, "secrets": [secret] if secret else [], "types": wanted, "who": who,
        "sources": sorted(set(sources)),
    }  # fmt: skip
    with _writing(name), audited(connection, who, "events_add") as draft:
        if len(all_receivers(connection)) >= MAX_RECEIVERS:
            raise UsageError(f"there are {MAX_RECEIVERS} receivers already; remove one first")
        budgets.hold_spender(connection, identity)  # guard event-first-database
        connection.execute(load("event_receivers.sql")["remove_events"], {"name": name})
        connection.execute(load("event_receivers.sql")["add"], row)
        draft.details |= {"receiver": name, "kind": kind, "sources": row["sources"], "types": wanted}
    return NewSecret(secret)


def all_receivers(connection: Connection) -> list[Receiver]:
    """Return all receivers by name."""
    with connection.cursor(row_factory=class_row(Receiver)) as cursor:
        return cursor.execute(load("event_receivers.sql")["all"]).fetchall()


def remove(connection: Connection, name: str, *, who: str) -> None:
    """Tell a receiver nothing any more. Raises UsageError if there is none, or if this role may not write receivers."""
    with _writing(name), audited(connection, who, "events_remove") as draft:
        row = connection.execute(load("event_receivers.sql")["remove"], {"name": name}).fetchone()
        if row is None:
            raise _none(name)
        connection.execute(load("event_receivers.sql")["remove_events"], {"name": name})
        draft.details |= {"receiver": name, "kind": row[0]}


def rotate(connection: Connection, name: str, *, who: str, keep_s: float = KEEP_OLD_S) -> NewSecret:
    """Give a receiver another secret. The one before signs as well for `keep_s`.

    Raises UsageError if no webhook has the name, or if this role may not write receivers.
    """
    secret = secret_of(secrets.token_bytes(SECRET_BYTES))
    with _writing(name), audited(connection, who, "events_rotate") as draft:
        named = {"name": name, "secret": secret, "keep_s": keep_s}
        if connection.execute(load("event_receivers.sql")["rotate"], named).fetchone() is None:
            target(connection, name)
            raise UsageError(f"{name!r} is told by NOTIFY: nothing is signed, so it has no secret")
        draft.details |= {"receiver": name}
    return NewSecret(secret)


def target(connection: Connection, name: str) -> Target | None:
    """Return where a receiver's webhooks go. None: it is told by NOTIFY.

    Raises UsageError if there is none of the name, or if this role may not read secrets.
    """
    with _writing(name):
        row = connection.execute(load("event_receivers.sql")["target"], {"name": name}).fetchone()
    if row is None:
        raise _none(name)
    return Target(row[1], tuple(row[2])) if row[0] == "webhook" else None


def _none(name: str) -> UsageError:
    return UsageError(f"no receiver is named {name!r}; `reindexer events list` shows all")


@contextmanager
def _writing(name: str) -> Iterator[None]:
    try:
        yield
    except psycopg.errors.UniqueViolation as exc:
        raise UsageError(f"a receiver is named {name!r} already; remove it first, or choose another name") from exc
    except psycopg.errors.InsufficientPrivilege as exc:
        raise UsageError(
            "this database role may not write receivers; use the one that ran `reindexer migrate`"
        ) from exc
