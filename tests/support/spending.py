"""What the tables say was spent."""

from __future__ import annotations

from typing import Any

import psycopg


def in_table(db: psycopg.Connection[Any]) -> tuple[int, int, int]:
    """Tokens as counted, the most of those without a count, and those that are set aside."""
    row = db.execute(
        "SELECT coalesce(sum(tokens), 0)::bigint, coalesce(sum(unconfirmed_tokens), 0)::bigint,"
        " (SELECT coalesce(sum(tokens), 0)::bigint FROM reindexer.spend_reservation) FROM reindexer.spend"
    ).fetchone()
    assert row is not None
    return row[0], row[1], row[2]
