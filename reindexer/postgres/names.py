"""Names of tables and columns in queries that have parameters too. Quoting is the driver's."""

from __future__ import annotations

from psycopg import sql
from psycopg.abc import AdaptContext


class Name(sql.Identifier):
    """An identifier in which a `%` stands for itself: psycopg looks for placeholders inside of quotes as well."""

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        """See psycopg. Only for queries that are executed with parameters."""
        return super().as_bytes(context).replace(b"%", b"%%")  # guard sql-percent-escape
