"""Index one context item here and now, without Celery. For any source: `Client.regenerate_now`."""

from __future__ import annotations

import atexit
from functools import cache

from reindexer.client import Client
from reindexer.core.source import CONTEXT_ITEMS


def generate_context_item_embedding(item_id: str, *, timeout_s: float = 300.0) -> None:
    """Embed one context item anew and write it to Qdrant; returns when a search can find it.

    Does the same work as `regenerate_embedding_task`, in the caller's thread. Raises what `Client.regenerate_now` does.
    """
    _client().regenerate_now(CONTEXT_ITEMS.name, str(item_id), timeout_s=timeout_s)


@cache
def _client() -> Client:
    client = Client()
    atexit.register(client.close)
    return client
