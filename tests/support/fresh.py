"""What a test, or several that share it, gets fresh: a database, an empty Redis, an empty Qdrant, an environment."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psycopg
import redis
from qdrant_client import QdrantClient

from reindexer.testing.provider import DIMENSIONS, FakeProvider
from tests.support.index_reader import IndexReader
from tests.support.servers import Servers, database_url


@contextmanager
def fresh_database(servers: Servers, template: str) -> Iterator[str]:
    """The URL of a copy of the template, which is dropped afterwards."""
    name = f"rx_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(servers.database_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        yield database_url(servers, name)
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def emptied_redis(servers: Servers) -> str:
    """The URL of the Redis, with nothing in it."""
    with redis.Redis.from_url(servers.redis_url) as client:
        client.flushall()
    return servers.redis_url


@contextmanager
def emptied_index(servers: Servers) -> Iterator[IndexReader]:
    """A reader of the Qdrant, without collections of ours before and afterwards."""
    client = QdrantClient(url=servers.qdrant_url, check_compatibility=False, timeout=30)
    _clean(client)
    yield IndexReader(client)
    _clean(client)
    client.close()


def environment(database: str, redis_url: str, servers: Servers, provider: FakeProvider) -> Mapping[str, str]:
    """The environment of our processes: all real servers, waits shortened."""
    return {
        "DATABASE_URL": database,
        "CELERY_BROKER_URL": redis_url,
        "QDRANT_URL": servers.qdrant_url,
        "OPENAI_API_KEY": "sk-test-key",
        "OPENAI_BASE_URL": provider.url,
        "REINDEXER_EMBEDDING_DIMENSIONS": str(DIMENSIONS),
        "REINDEXER_ADMIN_API_KEY": "test-admin-key",
        "REINDEXER_RETRY_BASE_S": "0.05",
    }


def _clean(client: QdrantClient) -> None:
    for collection in client.get_collections().collections:
        if collection.name.startswith("context_items") or "__g" in collection.name:
            client.delete_collection(collection.name)
