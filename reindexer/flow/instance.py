"""The instance: which database this is.

A database that was copied to a test environment carries every row of ours along. So its name is made of what a copy
changes: the cluster's system identifier, and the database's OID. A dump and restore, `CREATE DATABASE … TEMPLATE` and
pg_upgrade change it; a restart, a failover and a restore of the same cluster to an earlier time do not. Nor does a copy
of the cluster's files (a disk snapshot): for that there is a setting, which must be another one there.
"""

from __future__ import annotations

import psycopg

from reindexer.core.owner import Owner
from reindexer.flow.vectors import require_same
from reindexer.ports import Collection, Index
from reindexer.postgres.connect import Connection


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


def require_ours(index: Index, collection: Collection, ours: Owner) -> None:
    """See that this database is the one that a collection follows, and that we would embed as its writers do.

    Raises SourceError, or OtherEmbedder where the embedder is another one: then every point would look stale.
    """
    found = index.owner(collection)
    ours.require_ours(collection.name, found)
    ours.require_same_embedder(collection.source, found)
    if ours.embedder:
        require_same(collection.source, collection.embedder, ours.embedder)
