"""Marks for Django: what a transaction wrote can be waited for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from reindexer.core.transaction_mark import TAKE, WROTE, Mark
from reindexer.django.databases import is_postgres
from reindexer.tracing import current


@contextmanager
def marked(using: str = DEFAULT_DB_ALIAS, *, traceparent: str | None = None) -> Iterator[Mark]:
    """Mark the transaction that this block is in: `transaction.atomic()`, or a request with ATOMIC_REQUESTS.

    The end of the block takes the mark, of all that the transaction wrote and will write. The token is handed out by
    `transaction.on_commit`: until then, and for good if the transaction or the savepoint around the block is rolled
    back, it is None. `traceparent`, of W3C's Trace Context, names the trace that the transaction belongs to; None: that
    of the current span, if this process has loaded OpenTelemetry. A transaction of another database than PostgreSQL is
    not marked.

    Raises TransactionManagementError outside of a transaction, and what `reindexer.mark()` raises: a missing right, or
    a schema that is older than marks.
    """
    connection = connections[using]
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError(
            f"marked() has no transaction to mark: write `with transaction.atomic({_named(using)})` around it"
        )
    mark = Mark()
    yield mark
    if connection.needs_rollback or not is_postgres(using):
        return
    with connection.cursor() as cursor:  # guard django-mark-own-transaction
        cursor.execute(WROTE)
        if cursor.fetchone() != (True,):
            return
        cursor.execute(TAKE, [traceparent or current.traceparent()])
        (token,) = cursor.fetchone()
    transaction.on_commit(partial(mark.hand_out, str(token)), using=using)  # guard django-mark-after-commit


def _named(using: str) -> str:
    return "" if using == DEFAULT_DB_ALIAS else f"using={using!r}"
