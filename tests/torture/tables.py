"""The tables that are tortured beside the built-in one: long texts that are cut into chunks; and a composite key with a
condition, one related row, and several through a table between."""

from __future__ import annotations

import psycopg

from reindexer.core.related import Link, Related
from reindexer.core.source import Source
from reindexer.postgres.connect import connect
from reindexer.postgres.locks import changing_triggers
from reindexer.sources.attach import attach

ARTICLES = Source(
    "torture_articles", "public", "articles", ("slug",), ("title", "body"), ("views",), template="{body}",
    chunk_tokens=40, chunk_overlap=0, chunk_header="{title}", store_text="passage", keywords=True,
)  # fmt: skip
CUSTOMER = Related("customer", (Link("public", "customers", ("customer_id",), ("id",)),), key_columns=("id",))
LABELS = Related(
    "labels",
    (
        Link("public", "ticket_labels", ("queue", "number"), ("queue", "number")),
        Link("public", "labels", ("label_id",), ("id",)),
    ),
    many=True, key_columns=("id",), order=("name",), condition="NOT hidden", condition_columns=("hidden",),
)  # fmt: skip
TICKETS = Source(
    "torture_tickets", "public", "tickets", ("queue", "number"), ("subject", "body", "customer.name", "labels.name"),
    ("state", "queue", "customer.name", "labels.id"), condition="state <> 'closed'", condition_columns=("state",),
    related=(CUSTOMER, LABELS),
)  # fmt: skip

TABLES = """
CREATE TABLE articles (
    slug text PRIMARY KEY, title text, body text NOT NULL, views integer NOT NULL DEFAULT 0, note text
);
CREATE TABLE tickets (
    queue text, number integer, subject text, body text, state text NOT NULL, customer_id integer,
    PRIMARY KEY (queue, number)
);
CREATE INDEX ON tickets (customer_id);
CREATE TABLE customers (id integer PRIMARY KEY, name text);
CREATE TABLE labels (id integer PRIMARY KEY, name text, hidden boolean NOT NULL DEFAULT false);
CREATE TABLE ticket_labels (queue text, number integer, label_id integer, PRIMARY KEY (queue, number, label_id));
CREATE INDEX ON ticket_labels (label_id);
"""


def make(database_url: str) -> None:
    """Make the tables, and attach them."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(TABLES.encode())
    with connect(database_url, application_name="torture") as ours, changing_triggers(ours):
        for source in (ARTICLES, TICKETS):
            attach(ours, source)
