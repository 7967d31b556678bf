"""Attach: make a table a source. Its definition is recorded, its triggers are put in place, its first fill is started.

The order matters: once the triggers stand, every earlier write has committed; the walk that follows sees it, and the
triggers record every later one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

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
from reindexer.sources.store import all_sources
from reindexer.sources.trigger_check import Finding, inspect, recorded, trigger_hash

Look = Literal["rows", "ledger"]
"""At all rows and then at what the ledger knows, or at the latter alone."""


@dataclass(frozen=True, slots=True)
class Attached:
    """What attaching did: made or mended triggers, and started a fill."""

    source: str
    changed: bool
    redefined: bool = False
    """It was attached before, by another definition."""
    problem: str | None = None
    """Why it could not be done."""


def attach(connection: Connection, source: Source) -> Attached:
    """Attach a source, or bring its triggers to its definition; does nothing if all is as it should be.

    Raises UsageError if the definition does not fit the table, SourceError if the triggers can't be made.
    """
    check(connection, source)
    require_alias(connection, source)
    require_same_table(connection, source.name, source.table_schema, source.table_name)
    require_same_vectors(connection, source)  # guard attach-same-vectors
    source = _resolved(connection, source)
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
        before = next((each for each in all_sources(connection) if each.name == source.name), None)
        tables = catalog.relations(connection, source)
        catalog.mark_uncrashed(connection, source, tables)  # guard watch-repeated-crash
        facts = catalog.facts(connection, source)
        connection.execute(
            load("sources.sql")["save"],
            asdict(source)
            | {
                "key_columns": list(source.key_columns),
                "text_columns": list(source.text_columns),
                "payload_columns": list(source.payload_columns),
                "condition_columns": list(source.condition_columns),
                "condition_objects": list(source.condition_objects),
                "profile": Jsonb(source.profile.as_json()),
                "definition_hash": trigger_hash(source),
                "table_oid": tables[0].oid,
                "facts": Jsonb(facts),
            },
        )
        start = {"source": source.name, "kind": "first_fill", "from": "rows"}
        connection.execute(load("backfills.sql")["start_look"], start)
        if before and before.condition != source.condition:  # guard mark-changed-condition-rows
            # Rows that are out of it now leave the index at once, while the others wait for a provider.
            leave = {"source": source.name, "kind": "whole_source", "from": "ledger"}
            connection.execute(load("backfills.sql")["start_look"], leave)
    return Attached(source.name, changed=True)


def _resolved(connection: Connection, source: Source) -> Source:
    """Older versions wrote down the words of a condition alone; and what it means may have another name by now."""
    if source.condition is None:
        return source
    if source.resolved_condition is not None:
        return follow_renames(connection, source)
    try:
        return condition.resolved(connection, source, source.condition)
    except condition.ConditionRejected:
        return source  # what is wrong with it is told where it is read by


def follow_renames(connection: Connection, source: Source) -> Source:
    """The source, with its condition written down anew if it does not work any more just because something that it
    means was renamed."""
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
                "resolved_condition": again.resolved_condition,
                "condition_objects": list(again.condition_objects),
                "definition_hash": trigger_hash(again),
                "was": trigger_hash(source),
            },
        )
        return again
    return source


def require_alias(connection: Connection, source: Source) -> None:
    """Raises UsageError if the alias is another source's, or this source has another one."""
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

    The same table under another name is the same.
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


def mend(connection: Connection, source: Source, finding: Finding, *, give_up_after_s: float = 60.0) -> Look | None:
    """Put triggers in order that were made by this version, and start the look that finds what passed without them.

    Returns which look was started. Raises SourceError if the triggers can't be made; the look is started all the same.
    """
    try:
        empty = _equip(connection, source, finding, give_up_after_s)
    except SourceError:
        _record(connection, source, finding, {})
        raise
    return _record(connection, source, finding, empty)


def _equip(connection: Connection, source: Source, finding: Finding, give_up_after_s: float) -> Facts:
    if finding.functions_differ:
        return triggers.install(connection, source, give_up_after_s=give_up_after_s)
    if finding.lacking:
        return triggers.install(connection, source, finding.lacking, give_up_after_s=give_up_after_s)
    return {}


def _record(connection: Connection, source: Source, finding: Finding, empty: Facts) -> Look | None:
    """Record the facts and start the look that they call for, in one transaction: whatever happened before the facts
    were read is seen by the look, and whatever happens later changes them again. A table that came after the inspection
    is left to the next one."""
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
            start = {"source": source.name, "kind": "whole_source", "from": look}
            connection.execute(load("backfills.sql")["start_look"], start)
    return look


def look_needed(before: Facts, now: Facts) -> Look | None:
    """What has to be looked at where the facts were these, and are those: nothing, items of tables that are gone, or
    everything."""
    if before == now:
        return None
    return "ledger" if now.items() <= before.items() else "rows"
