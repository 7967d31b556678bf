"""A table whose rows belong to tenants, attached and indexed; and requests by keys that see some of them."""

from __future__ import annotations

from reindexer.core.source import Source
from reindexer.postgres.connect import Connection
from reindexer.postgres.locks import changing_triggers
from reindexer.sources.attach import attach
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.flow import Flow

PAYLOAD = ("tenant", "lang", "stars", "owner", "made", "tags", "meta")

NOTES = Source("notes", "public", "notes", ("id",), ("body",), PAYLOAD, tenant_column="tenant", keywords=True)
OTHERS = Source("others", "public", "others", ("id",), ("body",), ("tenant",))

TABLES = """
    CREATE TABLE notes (
        id int PRIMARY KEY, tenant text, lang text, stars int, owner uuid, made date, tags text[], meta jsonb,
        body text NOT NULL
    );
    INSERT INTO notes
    SELECT n, (ARRAY['acme', 'globex', 'initech', NULL])[1 + n % 4], (ARRAY['en', 'nl'])[1 + n % 2], n % 5,
           ('6f1d8a1e-3f0b-5c55-9a52-7d1c0b1f6f0' || n % 10)::uuid, date '2026-01-01' + n % 7,
           ARRAY['acme', 'x' || n % 3], jsonb_build_object('tenant', 'acme', 'level', n % 3), 'tea number ' || n
    FROM generate_series(1, 40) n;
    CREATE TABLE others (id int PRIMARY KEY, tenant text, body text NOT NULL);
    INSERT INTO others SELECT n, 'acme', 'tea of others ' || n FROM generate_series(1, 5) n;
"""


def attach_tenants(db: Connection) -> None:
    """Make the tables, and attach them."""
    db.execute(TABLES.encode())
    for source in (NOTES, OTHERS):
        with changing_triggers(db):
            attach(db, source)


def index_tenants(db: Connection, worker: Worker) -> None:
    """Make the tables, attach them, and index all rows."""
    attach_tenants(db)
    eventually(Flow(db, worker).settles, within=30)


def rows_of(db: Connection, tenant: str) -> set[str]:
    """Ids of the rows of a tenant."""
    return {row_id for (row_id,) in db.execute("SELECT id::text FROM notes WHERE tenant = %s", [tenant])}
