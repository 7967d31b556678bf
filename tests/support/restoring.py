"""A database that is put back, and what the index holds meanwhile."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict
from qdrant_client import models

from tests.support.index_reader import IndexReader
from tests.support.servers import Servers, database_url

COLLECTION = "context_items__g1"


def points(index: IndexReader) -> list[models.PointStruct]:
    """A copy of every point, as a snapshot holds it."""
    records, following = index.client.scroll(COLLECTION, limit=1000, with_payload=True, with_vectors=True)
    assert following is None
    return [models.PointStruct(id=r.id, vector=r.vector or [], payload=r.payload) for r in records]  # type: ignore[arg-type]


@contextmanager
def backup(servers: Servers, database: str) -> Iterator[str]:
    """A copy of the database as it is now. Nobody may be connected to it."""
    name, copy = conninfo_to_dict(database)["dbname"], f"rx_backup_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(servers.database_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {copy} TEMPLATE {name}".encode())
        yield database_url(servers, copy)
        admin.execute(f"DROP DATABASE {copy} WITH (FORCE)".encode())
