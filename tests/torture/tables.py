"""The tables that are tortured beside the built-in one: long texts that are cut into chunks, and a composite key with a
condition."""

from __future__ import annotations

import psycopg

from reindexer.core.source import Source
from reindexer.postgres.connect import connect
from reindexer.postgres.locks import changing_triggers
from reindexer.sources.attach import attach

ARTICLES = Source(
    "torture_articles", "public", "articles", ("slug",), ("body",), ("views",), chunk_tokens=40, chunk_overlap=0
)
TICKETS = Source(
    "torture_tickets", "public", "tickets", ("queue", "number"), ("subject", "body"), ("state", "queue"),
    condition="state <> 'closed'", condition_columns=("state",),
)  # fmt: skip

TABLES = """
CREATE TABLE articles (slug text PRIMARY KEY, body text NOT NULL, views integer NOT NULL DEFAULT 0, note text);
CREATE TABLE tickets (
    queue text, number integer, subject text, body text, state text NOT NULL, PRIMARY KEY (queue, number)
);
"""


def make(database_url: str) -> None:
    """Make the tables, and attach them."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(TABLES.encode())
    with connect(database_url, application_name="torture") as ours, changing_triggers(ours):
        for source in (ARTICLES, TICKETS):
            attach(ours, source)
