"""Names of tables and columns in queries that also have parameters. The driver quotes them."""

from __future__ import annotations

from psycopg import sql
from psycopg.abc import AdaptContext


class Name(sql.Identifier):
    """An identifier that may contain `%`: psycopg looks for placeholders inside quotes as well."""

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        """See psycopg. Only for queries that are executed with parameters."""
        return super().as_bytes(context).replace(b"%", b"%%")  # guard sql-percent-escape


class Text(sql.Literal):
    """A text literal that may contain `%`, for the same reason."""

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        """See psycopg. Only for queries that are executed with parameters."""
        return super().as_bytes(context).replace(b"%", b"%%")
