"""Detects a role named like our schema: its `"$user"` is our schema, and its application creates tables there.

`reindexer` is a likely name for the role. So the check runs before the schema is created, and at every migration.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load

SCHEMA = "reindexer"


@dataclass(frozen=True, slots=True)
class Trap:
    """Tables that the role creates without naming a schema end up in ours."""

    is_us: bool
    """Whether we are connected as that role: the role that migrates is likely to create the application's tables."""
    mend: str
    """The statement that mends it."""

    def __str__(self) -> str:
        return (
            'the search_path of the database role reindexer begins with "$user", which is our schema: tables that its '
            f"application makes would end up there, and can't be attached; first run {self.mend}"
        )


def trap(connection: Connection) -> Trap | None:
    """The trap, if there is such a role and its path leads into our schema, or will once the schema exists; else
    None."""
    row = connection.execute(load("search_path.sql")["of_our_namesake"]).fetchone()
    if row is None:
        return None
    is_us, path, schemas, mend = row
    return Trap(bool(is_us), str(mend)) if leads_to_us(str(path), schemas) else None


def leads_to_us(path: str, schemas: Collection[str]) -> bool:
    """Whether our schema is the first existing schema of the path, for the role named like it."""
    for part in path.split(","):
        schema = part.strip().strip('"').replace("$user", SCHEMA)
        if schema == SCHEMA:
            return True
        if schema in schemas:
            return False
    return False


def others_in_our_schema(connection: Connection) -> list[str]:
    """What is left in our schema after everything of ours is removed."""
    return [str(name) for (name,) in connection.execute(load("search_path.sql")["others_in_our_schema"])]
