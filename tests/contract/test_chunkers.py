"""Our own `Chunker`s keep the contract."""

from __future__ import annotations

import pytest

from reindexer import registry
from reindexer.ports import Chunker
from reindexer.testing.chunkers import ChunkerContract


class TestBuiltInChunker(ChunkerContract):
    @pytest.fixture
    def chunker(self) -> Chunker:
        return registry.chunker("text")


class TestHtmlChunker(ChunkerContract):
    @pytest.fixture
    def chunker(self) -> Chunker:
        return registry.chunker("html")


class TestMarkdownChunker(ChunkerContract):
    @pytest.fixture
    def chunker(self) -> Chunker:
        return registry.chunker("markdown")


class TestCodeChunker(ChunkerContract):
    @pytest.fixture(params=["code", "code-python", "code-c", "code-typescript"])
    def chunker(self, request: pytest.FixtureRequest) -> Chunker:
        return registry.chunker(request.param)
