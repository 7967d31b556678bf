"""What every `Chunker` of the registry guarantees. Inherit from the class, and give it the fixture `chunker`:

class TestSections(ChunkerContract):
    @pytest.fixture
    def chunker(self) -> Chunker:
        return registry.chunker("sections")
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from reindexer.core.text.tokens import estimate_tokens
from reindexer.ports import Chunker

MAX_TOKENS = 40
TEXTS = (
    "one",
    "# Title\n\nA paragraph.\n\n## Part\n\n" + "Some words of a sentence. " * 100 + "end",
    "日本語の文章。" * 50,
    "😀" * 300,
    "word" * 1_000,
    "a\r\n\r\n\r\n \t\n" * 60 + "z",
    "#\n#\n#\n\n#",
    "e\N{COMBINING ACUTE ACCENT}\x00\x0b" * 100 + "z",
)


@pytest.mark.parametrize("overlap_tokens", [0, MAX_TOKENS // 2])
class ChunkerContract:
    """Tests of one chunker. A text has no blank ends, and is never empty."""

    @pytest.fixture
    def chunker(self) -> Chunker:
        """The chunker to test."""
        raise NotImplementedError("define the fixture `chunker`")

    @pytest.mark.parametrize("text", TEXTS)
    def test_chunks_lie_in_the_text_are_not_blank_and_begin_one_after_the_other(
        self, chunker: Chunker, text: str, overlap_tokens: int
    ) -> None:
        found = chunker(text, MAX_TOKENS, overlap_tokens)
        assert len(found) >= 1
        assert all(0 <= each.start < each.end <= len(text) for each in found)
        assert all(text[each.start : each.end].strip() for each in found)
        assert all(one.start < following.start for one, following in pairwise(found))

    @pytest.mark.parametrize("text", TEXTS)
    @pytest.mark.parametrize("max_tokens", [MAX_TOKENS, 10 * MAX_TOKENS])
    def test_no_chunk_holds_more_than_max_tokens(
        self, chunker: Chunker, text: str, max_tokens: int, overlap_tokens: int
    ) -> None:
        found = chunker(text, max_tokens, overlap_tokens)
        assert max(estimate_tokens(text[each.start : each.end]) for each in found) <= max_tokens

    @pytest.mark.parametrize("text", TEXTS)
    def test_the_same_text_is_always_cut_in_the_same_places(
        self, chunker: Chunker, text: str, overlap_tokens: int
    ) -> None:
        before = chunker(text, MAX_TOKENS, overlap_tokens)
        chunker(TEXTS[1], MAX_TOKENS, overlap_tokens)
        assert chunker(text, MAX_TOKENS, overlap_tokens) == before

    def test_threads_share_it(self, chunker: Chunker, overlap_tokens: int) -> None:
        alone = [chunker(text, MAX_TOKENS, overlap_tokens) for text in TEXTS]
        with ThreadPoolExecutor(4) as pool:
            together = pool.map(lambda text: chunker(text, MAX_TOKENS, overlap_tokens), TEXTS)
        assert list(together) == alone
