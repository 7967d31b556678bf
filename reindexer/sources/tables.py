"""Tables and columns as users name them."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import psycopg
from psycopg import sql

from reindexer.core.errors import DefinitionError
from reindexer.postgres.connect import Connection, first_line
from reindexer.postgres.namesake import SCHEMA
from reindexer.postgres.queries import load

KEY_TYPES = frozenset({"smallint", "integer", "bigint", "uuid", "text", "character varying"})
"""Types of columns by which rows are found: those of a key, and of a join."""

PRINTS_NAMES = frozenset(
    {
        "regclass", "regcollation", "regconfig", "regdictionary", "regnamespace", "regoper", "regoperator", "regproc",
        "regprocedure", "regrole", "regtype", "aclitem",
    }
)  # fmt: skip
"""Types whose values read as the name of another object, which can be renamed."""

_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence", "i": "an index"}
_OF_THE_SERVER = ("pg_catalog", "information_schema", SCHEMA)


def find_table(connection: Connection, words: str, about: str) -> tuple[str, str]:
    """Return schema and name of the table that `words` names. Raises DefinitionError; its message begins with
    `about`."""
    try:
        row = connection.execute("SELECT parse_ident(%s)", [words]).fetchone()
    except psycopg.DataError as exc:
        raise DefinitionError(f"{about}: {words!r} is no name of a table: {first_line(exc)}", key="table") from None
    parts: Sequence[str] = row[0] if row else []
    if len(parts) > 2:
        raise DefinitionError(f"{about}: {words!r} has {len(parts)} parts; a table is named schema.table", key="table")
    queries = load("catalog.sql")
    if len(parts) == 2:
        named = {"table": sql.Identifier(*parts).as_string(connection)}
        found = connection.execute(queries["named"], named).fetchone()
    else:
        found = connection.execute(queries["named_on_path"], {"name": parts[0]}).fetchone()
        if found is None and connection.execute(queries["in_our_schema"], {"name": parts[0]}).fetchone() == (True,):
            found = (SCHEMA, parts[0], "r")
    if found is None:
        alike = connection.execute(load("catalog.sql")["named_alike"], {"name": words.replace('"', "").split(".")[-1]})
        names = [str(name) for (name,) in alike]
        hint = f"is it {' or '.join(names)}?" if names else "see the names with \\dt *.* in psql"
        raise DefinitionError(f"{about}: there is no table {words}; {hint}", key="table")
    schema, table, kind = (str(each) for each in found)
    if kind not in "rp":
        what = _KINDS.get(kind, "no table")
        raise DefinitionError(
            f"{about}: {schema}.{table} is {what}, and has no changes to follow; name the table behind it", key="table"
        )
    if schema in _OF_THE_SERVER or schema.startswith("pg_"):
        moved = sql.SQL("ALTER TABLE {} SET SCHEMA public").format(sql.Identifier(schema, table)).as_string(connection)
        hint = f"; if it is, it lies in our schema by mistake: {moved}" if schema == SCHEMA else ""
        raise DefinitionError(f"{about}: {schema}.{table} is not a table of yours{hint}", key="table")
    return schema, table


def alternatives(column: str, columns: Sequence[str]) -> str:
    """Say which column may have been meant."""
    close = get_close_matches(column.lower(), [c.lower() for c in columns], n=1)
    exact = [c for c in columns if c.lower() in close]
    return f"is it {exact[0]!r}?" if exact else f"it has {', '.join(columns)}"
