"""A role that is named like our schema: its `"$user"` leads there, and so do the tables that its application makes.

That is its likeliest name, so it is told before there is a schema, and whenever somebody migrates.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load

SCHEMA = "reindexer"


@dataclass(frozen=True, slots=True)
class Trap:
    """Tables that the role makes without naming a schema end up in ours."""

    is_us: bool
    """The role is the one that we are connected as: whoever migrates by it is likely to make tables by it."""
    mend: str
    """The statement that ends it."""

    def __str__(self) -> str:
        return (
            'the search_path of the database role reindexer begins with "$user", which is our schema: tables that its '
            f"application makes would end up there, and can't be attached; first run {self.mend}"
        )


def trap(connection: Connection) -> Trap | None:
    """Whether there is such a role here, whose path leads into our schema, or will as soon as there is one."""
    row = connection.execute(load("search_path.sql")["of_our_namesake"]).fetchone()
    if row is None:
        return None
    is_us, path, schemas, mend = row
    return Trap(bool(is_us), str(mend)) if leads_to_us(str(path), schemas) else None


def leads_to_us(path: str, schemas: Collection[str]) -> bool:
    """Whether the first schema of a path that there is, for the role that is named like ours, is ours."""
    for part in path.split(","):
        schema = part.strip().strip('"').replace("$user", SCHEMA)
        if schema == SCHEMA:
            return True
        if schema in schemas:
            return False
    return False


def others_in_our_schema(connection: Connection) -> list[str]:
    """What else is in our schema, once all that is ours is gone."""
    return [str(name) for (name,) in connection.execute(load("search_path.sql")["others_in_our_schema"])]
