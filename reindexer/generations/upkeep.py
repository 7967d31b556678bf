"""What follows by itself: fills that nobody started, records and collections of dropped generations, the alias.

Everything here looks at what is and brings it to what should be, so whoever dies leaves it to the next who looks.
"""

from __future__ import annotations

from dataclasses import replace

import structlog
from psycopg.types.json import Jsonb

from reindexer.core.errors import ReindexerError, SourceError
from reindexer.core.source import Source
from reindexer.generations.lifecycle import break_
from reindexer.index.search import collection_of
from reindexer.ports import Collection, Index
from reindexer.postgres import catalog
from reindexer.postgres.catalog import Facts
from reindexer.postgres.connect import Connection, Postgres
from reindexer.postgres.queries import load
from reindexer.sources.store import find_source

log = structlog.get_logger(__name__)

PAGE = 5_000


def empty_dropped(connection: Connection) -> int:
    """Delete a page of the records of dropped and broken generations. Returns how many rows it deleted."""
    row = connection.execute(load("generations.sql")["empty"], {"page": PAGE}).fetchone()
    return int(row[0]) if row else 0


def look_after_others(connection: Connection, source: str) -> None:
    """Check how the rows of the kept generations beside the active one are read.

    A generation that reads a column or a related table that is gone can't be kept up to date: it is broken, and the
    triggers no longer look at that. If a type or a function of its condition was changed, all of its items are looked
    at.
    """
    for number, facts in connection.execute(load("generations.sql")["others_kept"], {"source": source}).fetchall():
        ours = find_source(connection, source, number)
        if not catalog.base_types(connection, ours, ours.key_columns):
            return  # the table itself is gone or renamed: that is the source's problem
        if gone := _first_gone(connection, ours):
            problem = f"{gone} does not exist any more"
            break_(connection, source, number, problem)  # guard generation-broken-column
            log.error("generation_broken", source=source, generation=number, error=problem)
            continue
        now = catalog.facts(connection, ours)
        if facts is not None and _reads(facts) != _reads(now):  # guard generation-reread
            look = {"source": source, "kind": "whole_source", "from": "rows", "traceparent": None}
            connection.execute(load("backfills.sql")["start_look"], look)
            log.warning("generation_reread", source=source, generation=number)
        if facts is None or _reads(facts) != _reads(now):
            named = {"source": source, "generation": number, "facts": Jsonb(now)}
            connection.execute(load("generations.sql")["record_facts"], named)


def _first_gone(connection: Connection, source: Source) -> str | None:
    """Return the first column that a generation reads, or related table of it, that is not there."""
    related = [(each.link.table_schema, each.link.table_name, each.columns) for each in source.followed]
    own = (source.table_schema, source.table_name, source.declared_columns)
    for schema, table, columns in (own, *related):  # guard generation-broken-relation
        of_table = replace(source, table_schema=schema, table_name=table)
        there = catalog.base_types(connection, of_table, columns)
        if gone := [column for column in columns if column not in there]:
            return f"its column {gone[0]!r} of {schema}.{table}" if there else f"its table {schema}.{table}"
    return None


def _reads(facts: Facts) -> dict[str, str]:
    return {subject: fact for subject, fact in facts.items() if subject.startswith("reads")}


def tidy_index(postgres: Postgres, index: Index) -> None:
    """Let each alias name the active generation, and drop the collections of dropped ones.

    A process that can reach the index calls this from time to time. What fails is tried again then. The alias goes
    first: with the collection that it names it would be gone, and other programs would find nothing.
    """
    with postgres.connection() as connection:
        promoted = [str(name) for (name,) in connection.execute(load("generations.sql")["once_promoted"])]
    for source in promoted:  # guard alias-before-drop
        try:
            follow_alias(postgres, index, source)
        except SourceError as exc:
            log.error("alias_invalid", source=source, error=str(exc))
    with postgres.connection() as connection:
        gone = connection.execute(load("generations.sql")["to_remove"]).fetchall()
    for source, alias, number in gone:
        index.drop(Collection(source, f"{alias}__g{number}", alias, generation=number, is_active=False))
        with postgres.connection() as connection:
            connection.execute(load("generations.sql")["removed"], {"source": source, "generation": number})
        log.info("collection_dropped", source=source, generation=number)


def follow_alias(postgres: Postgres, index: Index, source: str) -> bool:
    """Let the alias of a source name the generation that searches use. Returns whether it named another before."""
    with postgres.connection() as connection:
        try:
            collection = collection_of(connection, find_source(connection, source))
        except ReindexerError:
            return False  # detached meanwhile, or a newer version's
    moved = index.follow_alias(collection)  # guard alias-followed
    if moved:
        log.info("alias_moved", source=source, collection=collection.name)
    return moved
