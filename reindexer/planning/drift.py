"""Drift: what is no longer as this program made it, because somebody changed it by hand. Finds it, and mends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reindexer.backfills.pager import rebuild_if_lost
from reindexer.core.change_plan import Drift
from reindexer.core.owner import Owner
from reindexer.core.source import Source
from reindexer.index.ownership import identity
from reindexer.index.search import collection_of
from reindexer.ports import Index, Inspected
from reindexer.postgres.connect import Connection
from reindexer.postgres.locks import changing_triggers
from reindexer.postgres.payload_kinds import payload_columns
from reindexer.postgres.queries import load
from reindexer.sources.attach import attach
from reindexer.sources.trigger_check import CheckResult


def find_drift(connection: Connection, index: Index | None, source: Source, found: CheckResult) -> list[Drift]:
    """Return what was changed by hand of an attached source. `found`: the trigger check.

    Without an index, only the triggers are looked at. Raises as the index does.
    """
    drift = []
    if found.triggers != "ok" and found.problem is None and found.wrong:
        drift.append(Drift("triggers", source.generation, found.wrong.partition(";")[0]))
    look: Callable[..., Any] | None = getattr(index, "inspect", None)
    if look is None or not _is_made(connection, source):
        return drift
    collection = collection_of(connection, source)
    there: Inspected = look(collection, payload_columns(connection, source))
    if not there.exists:
        drift.append(Drift("collection", source.generation, f"the collection {collection.name} is gone"))
    elif there.missing:
        lost = ", ".join(there.missing)
        drift.append(Drift("payload_index", source.generation, f"{collection.name} has no index over {lost}"))
    if there.alias_names != collection.name and there.exists:
        names = f"names {there.alias_names}" if there.alias_names else "is gone"
        drift.append(Drift("alias", source.generation, f"the alias {collection.alias} {names}, not {collection.name}"))
    return drift


def _is_made(connection: Connection, source: Source) -> bool:
    """Whether a worker has made the collection. Before, there is none to miss."""
    named = {"source": source.name, "generation": source.generation}
    row = connection.execute(load("plan.sql")["collection_noted"], named).fetchone()
    return bool(row and row[0]) and source.made_by is not None


def mend(connection: Connection, index: Index | None, source: Source, drift: Drift, instance: str | None) -> None:
    """Put one thing in order. Does nothing where it is. Raises SourceError, and as the index does."""
    if drift.kind == "triggers":
        with changing_triggers(connection):
            attach(connection, source)
        return
    if index is None:
        return
    collection = collection_of(connection, source)
    if drift.kind == "alias":
        index.follow_alias(collection)
        return
    owner = Owner(identity(connection, instance), source.made_by)
    dimensions = int((source.made_by or "").rpartition(":")[2])
    made = index.prepare(collection, dimensions, owner, payload_columns(connection, source))
    rebuild_if_lost(connection, source.name, source.generation, made)
