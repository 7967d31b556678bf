"""API keys: make one, list them, revoke one, and find what one allows.

A key is shown once, by `create`. The table holds its hash, and who may write that table may make keys: so the API's own
role only reads it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import psycopg
from psycopg.rows import class_row

from reindexer.audit import audited
from reindexer.core.api_key import (
    KEY_BYTES,
    MAX_EXPIRES_S,
    ROLES,
    Access,
    Role,
    forced_filter,
    key_hash,
    key_of,
    parse_forced,
    require_name,
    same,
)
from reindexer.core.errors import UsageError
from reindexer.postgres.connect import Connection
from reindexer.postgres.payload_kinds import payload_columns
from reindexer.postgres.queries import load
from reindexer.sources.store import find_source


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key; the key itself is not."""

    id: int
    name: str
    role: Role
    source: str | None
    """The only source that it may search. None: all."""
    filter: Mapping[str, Any]
    """Values that rows must have in payload columns. Empty: none."""
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    state: Literal["live", "expired", "revoked"]


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was made just now."""

    key: str = field(repr=False)
    """To be kept now: it is shown never again."""
    about: ApiKey


@dataclass(frozen=True, slots=True)
class FoundKey:
    """What a key allows, and for how many seconds from now (None: until it is revoked)."""

    access: Access
    left_s: float | None


def create(
    connection: Connection,
    name: str,
    *,
    who: str,
    role: Role,
    source: str | None = None,
    where: Mapping[str, Any] | Sequence[str] = (),
    expires_s: float | None = None,
) -> NewKey:
    """Make a key. `where`: the filter that it forces on searches, as JSON or in the command line's form.

    Raises UsageError, and makes none, if a live key has the name, if there is no such source, if the filter is not
    equality with one value of its payload columns, or if this database role may not write keys.
    """
    _require_fit(name, role, source, where, expires_s)
    columns = payload_columns(connection, find_source(connection, source)) if source is not None else ()
    if isinstance(where, Mapping):
        forced_filter(where, columns)
        forced = dict(where)
    else:
        forced = parse_forced(where, columns)
    key = key_of(secrets.token_bytes(KEY_BYTES))
    row = {
        "name": name, "hash": key_hash(key), "role": role, "source": source, "filter": json.dumps(forced),
        "who": who, "expires_s": expires_s,
    }  # fmt: skip
    with _writing(name), audited(connection, who, "key_create", source) as draft:
        connection.execute(load("api_keys.sql")["retire_expired"], {"name": name})
        with connection.cursor(row_factory=class_row(ApiKey)) as cursor:
            about = cursor.execute(load("api_keys.sql")["create"], row).fetchone()
        assert about is not None
        draft.details |= {"key": name, "role": role, "filter": sorted(forced), "expires_at": _told(about.expires_at)}
    return NewKey(key, about)


def all_keys(connection: Connection) -> list[ApiKey]:
    """Return all keys by name, those too that have ended."""
    with connection.cursor(row_factory=class_row(ApiKey)) as cursor:
        return cursor.execute(load("api_keys.sql")["all"]).fetchall()


def revoke(connection: Connection, name: str, *, who: str) -> None:
    """End a key: no process takes it any more 5 s from now on.

    Raises UsageError if no live key has the name, or if this database role may not write keys.
    """
    with _writing(name), audited(connection, who, "key_revoke") as draft:
        row = connection.execute(load("api_keys.sql")["revoke"], {"name": name}).fetchone()
        if row is None:
            raise UsageError(f"no live key is named {name!r}; `reindexer keys list` shows all")
        draft.source = row[1]
        draft.details |= {"key": name, "role": row[0]}


def find(connection: Connection, key: str) -> FoundKey | None:
    """Return what a key allows. None: it is no live key."""
    return find_hash(connection, key_hash(key))


def find_hash(connection: Connection, wanted: bytes) -> FoundKey | None:
    """Return what the key with this hash allows. A hash proves nothing: who asks must have proved that it is theirs."""
    row = connection.execute(load("api_keys.sql")["find"], {"hash": wanted}).fetchone()
    if row is None:
        return None
    stored, name, role, source, forced, left_s = row
    if not same(bytes(stored), wanted):
        return None
    return FoundKey(Access(role, name, source, forced), left_s)


def _require_fit(
    name: str, role: Role, source: str | None, where: Mapping[str, Any] | Sequence[str], expires_s: float | None
) -> None:
    require_name(name)
    if role not in ROLES:
        raise UsageError(f"the role of a key is one of {', '.join(ROLES)}")
    if source is not None and role != "search":
        raise UsageError(f"a source narrows keys of the role search; one of the role {role} works on all")
    if where and source is None:
        raise UsageError("a filter needs a source, whose payload columns it names")
    if expires_s is not None and not 1 <= expires_s <= MAX_EXPIRES_S:
        raise UsageError(f"a key expires after one second to {MAX_EXPIRES_S / 86400:,.0f} days")


@contextmanager
def _writing(name: str) -> Iterator[None]:
    try:
        yield
    except psycopg.errors.UniqueViolation as exc:
        raise UsageError(f"a live key is named {name!r} already; revoke it first, or choose another name") from exc
    except psycopg.DataError as exc:
        raise UsageError("the filter has a character that Postgres can't store: NUL, or half of a pair") from exc
    except psycopg.errors.InsufficientPrivilege as exc:
        raise UsageError("this database role may not write keys; use the one that ran `reindexer migrate`") from exc


def _told(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
