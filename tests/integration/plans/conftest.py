"""A shop of which nothing is attached, and its sources file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from reindexer.postgres.connect import Connection
from reindexer.testing.provider import FakeProvider
from reindexer.worker.worker import Worker
from tests.support.commands import Done
from tests.support.index_reader import IndexReader
from tests.support.planned import PRODUCTS, Planned
from tests.support.shop import SHOP, Shop


@pytest.fixture
def planned(
    db: Connection, worker: Worker, index: IndexReader, here: Callable[..., Done], env: Mapping[str, str],
    provider: FakeProvider, tmp_path: Path,
) -> Planned:  # fmt: skip
    """Tables of a shop, of which nothing is attached."""
    db.execute(SHOP.encode())
    file = tmp_path / "my.toml"
    file.write_text(PRODUCTS, encoding="utf-8")
    shop = Shop(db, worker, IndexReader(index.client, "products"), lambda *each: here(*each, env=env))
    settings = {**env, "REINDEXER_SOURCES": str(file), "REINDEXER_PRICE_PER_MILLION_TOKENS": "10"}
    return Planned(shop, file, tmp_path / "plan.json", settings, here, provider)
