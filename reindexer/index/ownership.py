"""The instance: which database this is.

A database that was copied to a test environment carries every row of ours along. So its name is made of what a copy
changes: the cluster's system identifier, and the database's OID. A dump and restore, `CREATE DATABASE … TEMPLATE` and
pg_upgrade change it; a restart, a failover and a restore of the same cluster to an earlier time do not. Nor does a copy
of the cluster's files (a disk snapshot): for that there is a setting, which must be another one there.
"""

from __future__ import annotations

import psycopg

from reindexer.core.errors import PrefixTaken, UsageError
from reindexer.core.owner import Owner
from reindexer.ports import Broker, Collection, Index
from reindexer.postgres.connect import Connection
from reindexer.sources.embedder_record import require_same


def identity(connection: Connection, named: str | None) -> str | None:
    """`named` if it is set, else what the server tells; None where the role may not ask it."""
    if named:
        return named
    try:
        row = connection.execute(
            """
            SELECT system_identifier, pg_database.oid FROM pg_control_system()
            JOIN pg_database ON datname = current_database()
            """
        ).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return None
    return f"{row[0]}/{row[1]}" if row else None


def require_prefix(connection: Connection, broker: Broker, named: str | None) -> None:
    """This database uses the broker's prefix from now on. Raises UsageError if another one does, DependencyAway.

    A database that was dropped from this cluster uses nothing any more.
    """
    ours = identity(connection, named)
    if ours is None:
        return
    holder = broker.hold(ours)
    if holder != ours and _is_dropped(connection, holder):
        holder = broker.hold(ours, instead_of=holder)
    if holder != ours:  # guard instance-second-database-refusal
        raise UsageError(str(PrefixTaken(broker.names.prefix, holder=holder, ours=ours)))


def _is_dropped(connection: Connection, other: str) -> bool:
    """Whether that was a database of this cluster, and is no more."""
    system, _, oid = other.partition("/")
    if not (system.isdecimal() and oid.isdecimal()):
        return False
    row = connection.execute(
        """
        SELECT system_identifier::text = %s AND NOT EXISTS (SELECT FROM pg_database WHERE pg_database.oid = %s::oid)
        FROM pg_control_system()
        """,
        [system, oid],
    ).fetchone()
    return bool(row and row[0])


def require_ours(index: Index, collection: Collection, ours: Owner) -> None:
    """See that this database is the one that a collection follows, and that we would embed as its writers do.

    Raises SourceError, or OtherEmbedder where the embedder is another one: then every point would look stale.
    """
    found = index.owner(collection)
    ours.require_ours(collection.name, found)
    ours.require_same_embedder(collection.source, found)
    if ours.embedder:
        require_same(collection.source, collection.embedder, ours.embedder)
