"""The schema's revision. Every process checks it at its start and while it runs, as does every claim and settle."""

from __future__ import annotations

import psycopg

from reindexer.core.errors import UsageError
from reindexer.postgres.connect import Connection
from reindexer.postgres.session import DIFFERING

REVISION = "0016"
"""The revision that this version of the program needs: the newest migration."""


class OtherRevision(UsageError):
    """The schema is another version's: this process must end."""


def require_schema(connection: Connection) -> None:
    """Raises UsageError, fit to be shown, if the database can't be used: it has another revision than this program's,
    is a standby, or has settings by which our statements fail, see old data or mean something else."""
    (in_recovery,) = connection.execute("SELECT pg_is_in_recovery()").fetchone() or (False,)
    if in_recovery:  # guard standby-refusal
        raise UsageError("DATABASE_URL is a standby; reindexer needs the primary")
    require_settings(connection)  # guard session-pooler-settings-check
    require_revision(connection)


def require_settings(connection: Connection) -> None:
    """Raises UsageError, fit to be shown, if settings of a pooler's session change the meaning of our statements."""
    for name, wanted, found in connection.execute(DIFFERING).fetchall():
        raise UsageError(
            f"{name} is '{found}' by default, and a pooler keeps us from changing that: "
            f"ALTER ROLE ... SET {name} = '{wanted}'"
        )


def require_revision(connection: Connection) -> None:
    """Raises UsageError, fit to be shown, if there is no schema; OtherRevision if it is another version's."""
    found = revision(connection)
    if found is None:
        raise UsageError("the database has no reindexer schema; run `reindexer migrate`")
    if found != REVISION:
        raise OtherRevision(
            f"the database is at schema revision {found}, this program needs {REVISION}; run "
            "`reindexer migrate` with the newer version, and that version everywhere"
        )


def revision(connection: Connection) -> str | None:
    """The schema's revision; None if there is no schema. Raises UsageError if the role may not read it."""
    try:
        found = connection.execute("SELECT version_num FROM reindexer.alembic_version").fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return None
    except psycopg.errors.InsufficientPrivilege:
        raise UsageError("the database role has no right on the schema reindexer; see docs/operations.md") from None
    return str(found[0]) if found else None
