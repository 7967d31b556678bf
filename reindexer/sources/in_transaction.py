"""Attach and detach within a transaction of somebody else's: that of a migration, which may yet roll all of it back.

The locks on tables last until that transaction ends, as those of any migration do. Two things differ from `change` and
`detach`, whose steps are transactions of their own:

- Locks on several tables are taken together, or none is kept. Whoever holds one and waits for the next could be part of
  a deadlock in which Postgres cancels a writer.
- Nobody else sees the source pause before the commit. So detaching goes on only at a moment at which no worker holds an
  item, and holds the items itself from that moment on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import psycopg
from psycopg import sql

from reindexer import audit
from reindexer.core.errors import SourceError, UsageError
from reindexer.core.source import Source
from reindexer.postgres import catalog, triggers
from reindexer.postgres.connect import LOCK_S, Connection, one_line
from reindexer.postgres.queries import load
from reindexer.postgres.schema import require_schema
from reindexer.postgres.session import FOR_ALL_OF_TRANSACTION, MEANING, READING
from reindexer.postgres.trigger_removal import bearers, remove
from reindexer.sources.attach import Attached, attach
from reindexer.sources.change import require_unchanged
from reindexer.sources.redefinition import Redefinition

GIVE_UP_AFTER_S = 60.0

TOGETHER_S = 0.8
"""All locks of one attempt, in seconds: less than the second after which Postgres looks for deadlocks."""

_NO_WRITES, _ALONE = sql.SQL("SHARE ROW EXCLUSIVE"), sql.SQL("ACCESS EXCLUSIVE")

_SETTINGS = [*READING, *MEANING, "lock_timeout"]
"""Settings that our statements change for a transaction, and that its owner's further statements get back."""


@contextmanager
def joined(connection: Connection) -> Iterator[None]:
    """Work in the transaction that the connection is in; begins it, if the connection did not yet send a statement.

    Everything within is undone if it raises. Raises UsageError if there can't be one transaction, if it sees an old
    state, or if the schema is not this version's.
    """
    row = connection.execute("SELECT current_setting('transaction_isolation')").fetchone()
    if connection.info.transaction_status != psycopg.pq.TransactionStatus.INTRANS:
        raise UsageError("the connection is in autocommit, and this has to be done in one transaction")
    if row != ("read committed",):  # a scan of the catalog would not see what was committed in the meantime
        raise UsageError(
            f"the transaction is {row[0] if row else '?'}; this has to be done in one that is read committed"
        )
    with connection.transaction():
        settings = "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name"
        before = connection.execute(settings, [_SETTINGS]).fetchall()
        connection.execute(FOR_ALL_OF_TRANSACTION)
        require_schema(connection)
        yield
        for name, value in before:  # guard transaction-settings-back
            connection.execute("SELECT set_config(%s, %s, true)", [name, value])


def attach_in_transaction(connection: Connection, wanted: Redefinition, *, who: str) -> Attached:
    """Do what `change.apply` does, within `joined`. Listener and workers see it when the transaction commits.

    Raises UsageError if the definition does not fit the table, SourceError if the triggers can't be created, and
    ChangedMeanwhile as `change.apply` does.
    """
    source = wanted.after
    followed = source.in_place_of(wanted.before) if wanted.before else source

    def hold() -> None:
        tables = catalog.relations(connection, followed)
        others = bearers(connection, followed, [table.oid for table in tables])
        modes = [(table.identifier, _NO_WRITES) for table in tables] + [(table, _ALONE) for table, _ in others]
        _lock(connection, modes)  # guard attach-locks-together

    _until_held(connection, source, hold)
    require_unchanged(connection, wanted)
    attached = attach(connection, source)
    if attached.changed:
        action = {"table": f"{source.table_schema}.{source.table_name}", "new": wanted.before is None}
        audit.note(connection, who, "attach", source.name, action | {"changes": list(wanted.changes)})
    return replace(attached, redefined=wanted.before not in (None, source))


def detach_in_transaction(connection: Connection, source: Source, *, who: str) -> int:
    """Do what `detach` does, within `joined`. Returns how many items were known.

    Raises SourceError if the triggers can't be removed, or if workers always have items of the source in hand.
    """
    queries, named = load("sources.sql"), {"name": source.name}

    def hold() -> None:
        _lock(connection, [(table, _ALONE) for table, _ in bearers(connection, source, ())])
        for query in ("hold_generations", "hold_runs", "hold_changes"):
            connection.execute(queries[query], named)
        if connection.execute(queries["hold_items"], named).fetchone() != (0,):  # guard detach-in-transaction-waits
            raise _NotYet(f"workers have items of it in hand; `reindexer pause {source.name}` first")

    _until_held(connection, source, hold)
    remove(connection, source)
    row = connection.execute(queries["forget"], named).fetchone()
    items = int(row[0]) if row else 0
    audit.note(connection, who, "detach", source.name, {"items": items})
    return items


class _NotYet(Exception):
    """The message says what is in the way."""


def _until_held(connection: Connection, source: Source, hold: Callable[[], None]) -> None:
    """Call `hold` until it takes all of its locks. Where it fails, the ones that it has are given back.

    Raises SourceError if it still fails after `GIVE_UP_AFTER_S`, or if a right is missing.
    """
    why = ""
    for _ in triggers.attempts(GIVE_UP_AFTER_S):
        try:
            with connection.transaction():
                if not triggers.alone(connection):
                    raise _NotYet("another session creates or removes triggers")
                hold()
                connection.execute("SELECT set_config('lock_timeout', %s, true)", [f"{LOCK_S:g}s"])
            return
        except _NotYet as exc:
            why = str(exc)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            why = "other transactions hold its table; end them"
        except psycopg.errors.InsufficientPrivilege as exc:
            raise SourceError(f"source {source.name!r}: {one_line(exc)}; do it as the owner of the table") from exc
    raise SourceError(f"source {source.name!r}: given up after {GIVE_UP_AFTER_S:.0f} s: {why}")


def _lock(connection: Connection, tables: Sequence[tuple[sql.Identifier, sql.SQL]]) -> None:
    """Lock tables one after the other, all of them within `TOGETHER_S`. Raises LockNotAvailable."""
    until = time.monotonic() + TOGETHER_S
    for table, mode in tables:
        left_ms = max(1, int((until - time.monotonic()) * 1000))
        connection.execute("SELECT set_config('lock_timeout', %s, true)", [f"{left_ms}ms"])
        connection.execute(sql.SQL("LOCK TABLE ONLY {} IN {} MODE").format(table, mode))
