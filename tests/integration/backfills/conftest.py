"""Backfills with small pages, and the API that starts them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from api.main import create_app
from reindexer.settings import Settings
from tests.support.backfills import KEY
from tests.support.index_reader import IndexReader


@pytest.fixture
def client(settings: Settings, index: IndexReader) -> Iterator[TestClient]:
    with TestClient(create_app(settings), headers=KEY) as client:
        yield client


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reindexer.backfills.pager.PAGE", 10)
