"""Trigger check: whether a source's table and triggers are in order, so that no change goes unrecorded. Reads only.

Whenever a source is put in order, two kinds of facts are hashed: what records its changes (tables, their hierarchy,
declared columns, triggers, functions), and what its rows are read by (types, objects that the condition calls). If the
hashes differ now, rows may have been added, changed, removed or read differently without a trigger firing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from reindexer.core.errors import SourceError, UsageError
from reindexer.core.source import Source
from reindexer.postgres import catalog, triggers
from reindexer.postgres.catalog import Facts, Relation
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load
from reindexer.sources import condition, definition

TriggersState = Literal["ok", "outdated", "disabled", "missing"]

WORST_LAST: tuple[TriggersState, ...] = ("ok", "outdated", "disabled", "missing")

_MODES = "OADR"
"""Trigger modes as in pg_trigger: origin, always, disabled, replica."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The state of a source when its triggers were last put in order."""

    hash: str
    table_oid: int | None
    facts: Facts


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of a trigger check."""

    triggers: TriggersState
    wrong: str | None = None
    """What is wrong with the triggers and what repairs it, in one line."""
    problem: str | None = None
    """Why rows can't be read at all, or can't be told apart, whatever the triggers do."""
    unbearable: bool = False
    """With triggers, writers' statements would fail: the existing ones must be removed."""
    mendable: bool = False
    """The table exists, and this version made its triggers for this definition. Other versions' triggers are not
    repaired."""
    tables: tuple[Relation, ...] = ()
    lacking: tuple[Relation, ...] = ()
    """Tables that lack some of their triggers."""
    functions_differ: bool = False

    @property
    def well(self) -> bool:
        """Whether every change is recorded and rows can be read."""
        return self.triggers == "ok" and self.problem is None


def inspect(connection: Connection, source: Source) -> CheckResult:
    """Check a source's table, columns, triggers and functions as they are now."""
    was = recorded(connection, source)
    ours = was is not None and was.hash == trigger_hash(source)
    try:
        found = catalog.tree(connection, source)
    except SourceError as exc:
        problem = f"{exc}{_renamed(connection, was)}"
        return CheckResult("missing", "there is no such table to have triggers", problem)
    if foreign := [table for table in found if table.is_foreign]:
        problem = f"source {source.name!r}: {definition.foreign_below(foreign[0])}"
        bearing = any(triggers.carries(table) for table in found)
        return CheckResult("missing", "no triggers can stand above a foreign table", problem, unbearable=bearing)
    finding = _inspect_triggers(connection, source, found, was, ours)
    try:
        definition.fit(connection, source)  # guard watch-definition-fit
        condition.require(connection, source)
    except (SourceError, UsageError) as exc:
        return replace(finding, problem=str(exc))
    return finding


def recorded(connection: Connection, source: Source) -> Recorded | None:
    """Return the recorded state. None: the source is not attached."""
    row = connection.execute(load("sources.sql")["recorded"], {"name": source.name}).fetchone()
    return Recorded(*row) if row else None


def trigger_hash(source: Source) -> str:
    """Return a hash of the definition and of the triggers that this version makes for it."""
    return f"{source.definition_hash}-{triggers.version(source)}"


def _inspect_triggers(
    connection: Connection, source: Source, found: list[Relation], was: Recorded | None, ours: bool
) -> CheckResult:
    lacking = tuple(triggers.lacking(found))
    differ = triggers.functions_differ(connection, source)
    mend = "; the listener mends it if it may, `reindexer migrate` in any case"
    state: TriggersState
    if lacking:
        state = "missing" if triggers.lacking(map(_all_enabled, lacking)) else "disabled"
        wrong = f"triggers on {_names(lacking)} are {state}{mend}"
    elif not ours:
        state = "outdated"
        wrong = "triggers were made by another version or for another definition; run `reindexer migrate`"
    elif differ:
        state, wrong = "outdated", f"trigger functions are not what they should be{mend}"
    elif was is None or was.facts != catalog.facts(connection, source):
        state = "outdated"
        wrong = (
            "tables, columns, types, functions or triggers were changed: rows may have passed unseen; "
            "the listener looks at all"
        )
    else:
        return CheckResult("ok", mendable=ours)
    return CheckResult(state, wrong, mendable=ours, tables=tuple(found), lacking=lacking, functions_differ=differ)


def _renamed(connection: Connection, was: Recorded | None) -> str:
    name = catalog.called_now(connection, was.table_oid) if was and was.table_oid else None
    return f" (it is called {name} now)" if name else ""


def _names(relations: Iterable[Relation], most: int = 3) -> str:
    names = [str(relation) for relation in relations]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _all_enabled(relation: Relation) -> Relation:
    """Return the table as if all its triggers were enabled in every mode: those it still lacks do not exist."""
    names = {trigger.rpartition(":")[0] for trigger in relation.triggers}
    return replace(relation, triggers=frozenset(f"{name}:{mode}" for name in names for mode in _MODES))
