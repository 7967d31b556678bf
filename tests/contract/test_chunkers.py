"""The built-in `Chunker` keeps the contract."""

from __future__ import annotations

import pytest

from reindexer import registry
from reindexer.ports import Chunker
from reindexer.testing.chunkers import ChunkerContract


class TestBuiltInChunker(ChunkerContract):
    @pytest.fixture
    def chunker(self) -> Chunker:
        return registry.chunker("text")
