"""Apply a definition that `redefinition` computed: attach a new source, or change an attached one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from reindexer import audit
from reindexer.core.errors import ChangedMeanwhile, RowsWouldMove
from reindexer.postgres.connect import Connection
from reindexer.postgres.locks import changing_triggers
from reindexer.postgres.schema import require_schema
from reindexer.sources.attach import Attached, attach
from reindexer.sources.redefinition import Redefinition, redefine
from reindexer.sources.store import find_attached


def propose(connection: Connection, name: str, given: Mapping[str, Any], unset: Collection[str] = ()) -> Redefinition:
    """Return what the given values would change, of an attached source or of none. Writes nothing.

    Raises UsageError as `redefine` does.
    """
    return redefine(connection, name, find_attached(connection, name), given, unset)


def require_no_moves(wanted: Redefinition) -> None:
    """Raises RowsWouldMove if rows of an attached source would enter the index or leave it."""
    if wanted.moved:
        raise RowsWouldMove(f"rows: {wanted.moved}; nothing was changed")


def require_unchanged(connection: Connection, wanted: Redefinition) -> None:
    """Raises ChangedMeanwhile if the source is no longer as it was when the change was computed."""
    name = wanted.after.name
    if find_attached(connection, name) != wanted.before:
        raise ChangedMeanwhile(
            f"somebody else changed the source {name!r} just now; nothing was changed here; try again"
        )


def apply(connection: Connection, wanted: Redefinition, *, who: str) -> Attached:
    """Make a source what its new definition says, and note it in the audit.

    Raises ChangedMeanwhile if the source is no longer as it was when the change was computed, UsageError if the
    definition does not fit the table, SourceError if the triggers can't be created.
    """
    name = wanted.after.name
    with changing_triggers(connection):
        require_schema(connection)
        require_unchanged(connection, wanted)
        attached = attach(connection, wanted.after)
    if attached.changed:
        action = {"table": f"{wanted.after.table_schema}.{wanted.after.table_name}", "new": wanted.before is None}
        audit.note(connection, who, "attach", name, action | {"changes": list(wanted.changes)})
    return replace(attached, redefined=wanted.before not in (None, wanted.after))
