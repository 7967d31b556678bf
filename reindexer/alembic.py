"""Operations for Alembic: `op.attach_source` and `op.detach_source`, part of the migration's own transaction.

`import reindexer.alembic`, in a migration or in env.py, adds them:

    import reindexer.alembic
    from alembic import op

    def upgrade() -> None:
        op.create_table("notes", ...)
        op.attach_source("notes", table="notes", text=["title", "body"])

    def downgrade() -> None:
        op.detach_source("notes")
        op.drop_table("notes")

If the migration is rolled back, so is what they did. They need the driver psycopg (`postgresql+psycopg://`), an engine
that is not asynchronous, and the schema of `reindexer migrate`; and a connection, so that `--sql` can't print them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import psycopg
from alembic.operations import MigrateOperation, Operations
from alembic.util import CommandError

from reindexer import audit
from reindexer.core.errors import ReindexerError
from reindexer.core.profile import Profile
from reindexer.core.source import Source
from reindexer.postgres.connect import Connection
from reindexer.sources import change
from reindexer.sources.attach import Attached
from reindexer.sources.in_transaction import attach_in_transaction, detach_in_transaction, joined
from reindexer.sources.relations import RelatedTable
from reindexer.sources.store import find_source

__all__ = ["AttachSourceOp", "DetachSourceOp"]

Columns = str | Sequence[str]
"""The name of one column, or several names."""


@Operations.register_operation("attach_source")
class AttachSourceOp(MigrateOperation):
    """Keep a table indexed."""

    def __init__(
        self, name: str, given: Mapping[str, Any], *, unset: Sequence[str] = (), rows_may_move: bool = False
    ) -> None:
        """`given`: arguments of `attach_source` under their names."""
        self.name = name
        self.given = dict(given)
        self.unset = tuple(unset)
        self.rows_may_move = rows_may_move

    def reverse(self) -> DetachSourceOp:
        """The source is detached again: an operation that changed an attached source can't be reversed."""
        return DetachSourceOp(self.name, self.given)

    @classmethod
    def attach_source(
        cls,
        operations: Operations,
        name: str,
        *,
        table: str | None = None,
        text: Columns | None = None,
        key: Columns | None = None,
        payload: Columns | None = None,
        related: Sequence[RelatedTable] | None = None,
        template: str | None = None,
        where: str | None = None,
        alias: str | None = None,
        chunk_tokens: int | None = None,
        chunk_overlap: int | None = None,
        chunker: str | None = None,
        chunk_header: str | None = None,
        store_text: str | None = None,
        tenant: str | None = None,
        keywords: bool | None = None,
        language: str | None = None,
        stop_words: Columns | None = None,
        stemmer: bool | None = None,
        profile: Profile | None = None,
        unset: Sequence[str] = (),
        rows_may_move: bool = False,
    ) -> Attached:
        """Keep a table indexed under a name; of an attached source, change what is given. As `Client.attach`."""
        given = {
            "table": table, "text": _names(text), "key": _names(key), "payload": _names(payload),
            "related": None if related is None else tuple(related), "template": template, "where": where,
            "alias": alias, "chunk_tokens": chunk_tokens, "chunk_overlap": chunk_overlap,
            "chunker": chunker, "chunk_header": chunk_header, "store_text": store_text, "tenant": tenant,
            "keywords": keywords, "language": language, "stop_words": _names(stop_words), "stemmer": stemmer,
            "profile": profile,
        }  # fmt: skip
        said = {word: value for word, value in given.items() if value is not None}
        return cast(Attached, operations.invoke(cls(name, said, unset=unset, rows_may_move=rows_may_move)))


@Operations.register_operation("detach_source")
class DetachSourceOp(MigrateOperation):
    """Stop indexing a table."""

    def __init__(self, name: str, given: Mapping[str, Any] | None = None) -> None:
        """`given`: how the source was attached, by which this can be reversed."""
        self.name = name
        self.given = given

    def reverse(self) -> AttachSourceOp:
        """Raises ValueError if nobody said how the source was attached."""
        if self.given is None:
            raise ValueError(f"the source {self.name!r} can't be attached again: its definition is not known here")
        return AttachSourceOp(self.name, self.given)

    @classmethod
    def detach_source(cls, operations: Operations, name: str) -> int:
        """Stop indexing a table and forget its items; returns how many were known. The table stays as it was.

        The collection is left in Qdrant, which takes part in no transaction.
        """
        return cast(int, operations.invoke(cls(name)))


@Operations.implementation_for(AttachSourceOp)
def _attach(operations: Operations, asked: AttachSourceOp) -> Attached:
    with _connection(operations, "op.attach_source") as connection:
        wanted = change.propose(connection, asked.name, asked.given, asked.unset)
        if not asked.rows_may_move:
            change.require_no_moves(wanted)
        return attach_in_transaction(connection, wanted, who=audit.of_python())


@Operations.implementation_for(DetachSourceOp)
def _detach(operations: Operations, asked: DetachSourceOp) -> int:
    with _connection(operations, "op.detach_source") as connection:
        source: Source = find_source(connection, asked.name)
        return detach_in_transaction(connection, source, who=audit.of_python())


@contextmanager
def _connection(operations: Operations, said: str) -> Iterator[Connection]:
    """The migration's connection, in its transaction. Our errors become Alembic's, which it shows in one line."""
    context = operations.get_context()
    if context.as_sql or context.bind is None:
        raise CommandError(f"{said} needs a connection: it reads the catalog, so `--sql` can't print what it does")
    driver = context.bind.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        found = f"{type(driver).__module__}.{type(driver).__qualname__}"
        raise CommandError(f"{said} needs a connection of psycopg, as postgresql+psycopg:// makes one, not {found}")
    try:
        # As ours in all that is used here: `joined` sets for a transaction what ours have set for a session.
        with joined(cast(Connection, driver)):
            yield cast(Connection, driver)
    except ReindexerError as exc:
        raise CommandError(f"{said}: {exc}") from exc


def _names(columns: Columns | None) -> tuple[str, ...] | None:
    return None if columns is None else (columns,) if isinstance(columns, str) else tuple(columns)
