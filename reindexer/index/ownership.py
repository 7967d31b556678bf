"""Database identity: which database this is.

A copy of a database in a test environment carries every row of ours along. The identity therefore consists of what a
copy changes: the cluster's system identifier, and the database's OID. A dump and restore, `CREATE DATABASE … TEMPLATE`
and pg_upgrade change it. A restart, a failover and a restore of the same cluster to an earlier time do not. A copy of
the cluster's files (a disk snapshot) does not change it either: such a copy must set a different name by a setting.
"""

from __future__ import annotations

import psycopg

from reindexer.core.errors import PrefixTaken, UsageError
from reindexer.core.owner import Owner
from reindexer.ports import Broker, Collection, Index
from reindexer.postgres.connect import Connection
from reindexer.sources.embedder_record import require_same


def identity(connection: Connection, named: str | None) -> str | None:
    """Return `named` if it is set, otherwise the server's identity. None if the role may not ask for it."""
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
    """Hold the broker's prefix for this database. Raises UsageError if another database holds it,
    DependencyUnavailable.

    A database that was dropped from this cluster holds it no longer.
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
    """Whether `other` was a database of this cluster and no longer exists."""
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
    """Require that a collection belongs to this database and that its points are made by our embedder.

    Raises SourceError, or OtherEmbedder if the embedder is a different one: every point would then look stale.
    """
    found = index.owner(collection)
    ours.require_ours(collection.name, found)
    ours.require_same_embedder(collection.source, found)
    if ours.embedder:
        require_same(collection.source, collection.embedder, ours.embedder)
