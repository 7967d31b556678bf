"""A source with two generations."""

from __future__ import annotations

import pytest

from reindexer.postgres.connect import Connection
from reindexer.settings import Settings
from reindexer.worker.worker import Worker
from tests.support.generations import fill_first, made, promote_second, settle


@pytest.fixture
def filled(db: Connection, worker: Worker) -> Connection:
    """Four rows, indexed in generation 1."""
    fill_first(db, worker)
    return db


@pytest.fixture
def ready(filled: Connection, settings: Settings, worker: Worker) -> Connection:
    """The same, with generation 2 ready."""
    made(filled, settings, worker)
    settle(filled, worker)
    return filled


@pytest.fixture
def promoted(filled: Connection, settings: Settings, worker: Worker) -> Connection:
    """The same, with generation 2 promoted and 1 kept."""
    promote_second(filled, settings, worker)
    return filled
