"""Attach: make a table a source. Records its definition, creates its triggers, and starts its initial scan.

The order matters. Once the triggers exist, every earlier write has committed. The scan that follows sees those writes,
and the triggers record every later one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from psycopg import sql
from psycopg.types.json import Jsonb

from reindexer.core.errors import DefinitionError, SourceError
from reindexer.core.source import Source
from reindexer.postgres import catalog, triggers
from reindexer.postgres.catalog import Facts
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load
from reindexer.postgres.trigger_removal import remove
from reindexer.sources import condition
from reindexer.sources.definition import check
from reindexer.sources.embedder_record import require_same_vectors
from reindexer.sources.store import find_attached
from reindexer.sources.trigger_check import CheckResult, inspect, recorded, trigger_hash
from reindexer.tracing import current

Look = Literal["rows", "ledger"]
"""What a resync scan covers: `rows` is all rows and then every item in the ledger, `ledger` is only the latter."""


@dataclass(frozen=True, slots=True)
class Attached:
    """What attaching did."""

    source: str
    changed: bool
    redefined: bool = False
    """The source was attached before, with another definition."""
    problem: str | None = None
    """Why it could not be attached."""
    note: str | None = None
    """Why it was left as it is, though the sources file says otherwise."""


def attach(connection: Connection, source: Source) -> Attached:
    """Attach a source, or bring its triggers to its definition. Does nothing if they match already.

    Raises UsageError if the definition does not fit the table, SourceError if the triggers can't be created, or if a
    newer version defined the source.
    """
    before = find_attached(connection, source.name)
    check(connection, source)
    require_alias(connection, source)
    require_same_table(connection, source.name, source.table_schema, source.table_name)
    require_same_vectors(connection, source)  # guard attach-same-vectors
    source = _resolved(connection, source.in_place_of(before) if before else source)
    finding = inspect(connection, source)
    if finding.triggers == "ok":
        return Attached(source.name, changed=False)
    if finding.mendable:
        mend(connection, source, finding)
        return Attached(source.name, changed=True)
    triggers.install(connection, source)
    # guard attach-replaced-table-cleanup
    remove(connection, source, keep=[table.oid for table in catalog.relations(connection, source)])
    with connection.transaction():
        tables = catalog.relations(connection, source)
        catalog.mark_uncrashed(connection, source, tables)  # guard watch-repeated-crash
        facts = catalog.facts(connection, source)
        connection.execute(load("sources.sql")["hold_generations"], {"name": source.name})  # guard attach-lock-order
        connection.execute(
            load("sources.sql")["save"],
            {
                "name": source.name,
                "alias": source.alias,
                "definition": Jsonb(source.as_document()),
                "definition_hash": trigger_hash(source),
                "table_oid": tables[0].oid,
                "facts": Jsonb(facts),
            },
        )
        connection.execute(load("sources.sql")["save_generation"], {"name": source.name})
        trace = {"traceparent": current.traceparent()}
        start = {"source": source.name, "kind": "first_fill", "from": "rows"} | trace
        connection.execute(load("backfills.sql")["start_look"], start)
        if before and before.condition != source.condition:  # guard mark-changed-condition-rows
            # Rows that the new condition excludes leave the index at once, while the others wait for a provider.
            leave = {"source": source.name, "kind": "whole_source", "from": "ledger"} | trace
            connection.execute(load("backfills.sql")["start_look"], leave)
    return Attached(source.name, changed=True)


def _resolved(connection: Connection, source: Source) -> Source:
    """Return the source with its condition resolved to schema-qualified names.

    Older versions recorded only the user's text of a condition. An object that a resolved condition names may have been
    renamed since.
    """
    if source.condition is None:
        return source
    if source.resolved_condition is not None:
        return follow_renames(connection, source)
    try:
        return condition.resolved(connection, source, source.condition)
    except condition.ConditionRejected:
        return source  # an invalid condition is reported where rows are read by it


def follow_renames(connection: Connection, source: Source) -> Source:
    """Return the source, with its conditions resolved again if they fail only because an object in them was renamed."""
    try:
        condition.require(connection, source)
    except SourceError:
        again = condition.renamed(connection, source)
        if again is None:
            return source
        connection.execute(
            load("sources.sql")["save_names"],
            {
                "name": source.name,
                "names": Jsonb(_names(again)),
                "definition_hash": trigger_hash(again),
                "was": trigger_hash(source),
            },
        )
        return again
    return source


def _names(source: Source) -> dict[str, Any]:
    """What of the definition's document names objects of the user's in conditions."""
    document = source.as_document()
    return {name: document[name] for name in ("resolved_condition", "condition_objects", "related") if name in document}


def require_alias(connection: Connection, source: Source) -> None:
    """Raises UsageError if another source has the alias, or if this source is attached with a different alias."""
    row = connection.execute(
        load("sources.sql")["alias_of_others"], {"name": source.name, "alias": source.alias}
    ).fetchone()
    if row and row[0] != source.name:
        raise DefinitionError(
            f"source {source.name!r}: the alias {source.alias!r} is that of the source {row[0]!r}; name another",
            key="alias",
        )
    if row and row[1] != source.alias:
        raise DefinitionError(
            f"source {source.name!r} has the alias {row[1]!r}, which names its collection and can't be changed; "
            "detach it and attach it anew",
            key="alias",
        )


def require_same_table(connection: Connection, name: str, schema: str, table: str) -> None:
    """Raises UsageError if the source of this name follows another table: all of its items would be exchanged.

    A renamed table is still the same table.
    """
    named = {"name": name, "table": sql.Identifier(schema, table).as_string(connection)}
    row = connection.execute(load("sources.sql")["same_table"], named).fetchone()
    if row is None or row[:2] == (schema, table) or row[2]:  # guard attach-source-table-fixed
        return
    raise DefinitionError(
        f"source {name!r} follows {row[0]}.{row[1]}, and another table is another source: choose another name, or "
        f"`reindexer detach {name}` first",
        key="table",
    )


def mend(connection: Connection, source: Source, finding: CheckResult, *, give_up_after_s: float = 60.0) -> Look | None:
    """Repair triggers that this version made, and start the resync scan that finds what passed without them.

    Returns the scope of that scan. Raises SourceError if the triggers can't be created; the scan is started all the
    same.
    """
    try:
        empty = _equip(connection, source, finding, give_up_after_s)
    except SourceError:
        _record(connection, source, finding, {})
        raise
    return _record(connection, source, finding, empty)


def _equip(connection: Connection, source: Source, finding: CheckResult, give_up_after_s: float) -> Facts:
    if finding.functions_differ:
        return triggers.install(connection, source, give_up_after_s=give_up_after_s)
    if finding.lacking:
        return triggers.install(connection, source, finding.lacking, give_up_after_s=give_up_after_s)
    return {}


def _record(connection: Connection, source: Source, finding: CheckResult, empty: Facts) -> Look | None:
    """Record the facts and start the resync scan that they call for, in one transaction.

    The scan sees whatever happened before the facts were read, and whatever happens later changes the facts again. A
    table that was added after the inspection is left to the next inspection.
    """
    with connection.transaction():
        was = recorded(connection, source)
        before = was.facts if was else {}
        known = {*before, *(str(table.oid) for table in finding.tables)}
        tables = catalog.relations(connection, source)
        catalog.mark_uncrashed(connection, source, tables)  # guard watch-repeated-crash
        facts = catalog.facts(connection, source)
        now = {key: fact for key, fact in facts.items() if key in known or not key.isdigit()}
        look = look_needed({**{oid: fact for oid, fact in empty.items() if oid not in before}, **before}, now)
        record = {"name": source.name, "table_oid": tables[0].oid, "facts": Jsonb(now)}
        connection.execute(load("sources.sql")["record"], record)
        if look:  # guard watch-untriggered-changes
            start = {"source": source.name, "kind": "whole_source", "from": look, "traceparent": None}
            connection.execute(load("backfills.sql")["start_look"], start)
    return look


def look_needed(before: Facts, now: Facts) -> Look | None:
    """Return the resync scan that a change of facts calls for: none, items of removed tables, or everything."""
    if before == now:
        return None
    return "ledger" if now.items() <= before.items() else "rows"
