"""A provider that can go away and return."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from reindexer.postgres.connect import Connection
from reindexer.testing.provider import FakeProvider
from reindexer.worker.worker import Worker
from tests.support.away import Away
from tests.support.index_reader import IndexReader


@pytest.fixture
def env(env: Mapping[str, str]) -> Mapping[str, str]:
    """A sixtieth of the usual waits: probes come after 0.05, 0.1, 0.2 … 0.5 s."""
    return {**env, "REINDEXER_RETRY_MAX_S": "1"}


@pytest.fixture
def away(db: Connection, worker: Worker, provider: FakeProvider, index: IndexReader) -> Away:
    return Away(db, worker, provider)
