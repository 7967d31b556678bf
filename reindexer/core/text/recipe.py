"""Recipe: all that a text's vectors depend on but the text; what chunks it becomes, and their fingerprints. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reindexer.core.fingerprint import digest, text_fingerprint
from reindexer.core.source import Source
from reindexer.core.text.chunks import Span, spans


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one point is made of: its place in the text, and a fingerprint of what its vector depends on."""

    span: Span
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a source's texts become points."""

    embedder: str
    """The embedder's fingerprint."""
    max_tokens: int
    """Of a chunk, by estimate."""
    overlap_tokens: int = 0

    @classmethod
    def of(cls, source: Source, embedder: str, max_input_tokens: int) -> Recipe:
        """The source's, with an embedder that takes texts of so many tokens."""
        most = min(source.chunk_tokens or max_input_tokens, max_input_tokens)
        return cls(embedder, most, min(source.chunk_overlap, most // 2))

    def within(self, chunk_tokens: int | None) -> Recipe:
        """For an item whose chunks the provider takes only if they hold no more; None: as of all others."""
        if chunk_tokens is None or chunk_tokens >= self.max_tokens:
            return self
        return replace(self, max_tokens=chunk_tokens, overlap_tokens=min(self.overlap_tokens, chunk_tokens // 2))

    def chunks(self, text: str) -> tuple[Chunk, ...]:
        """In order; none of an empty text. Their texts are not copied."""
        found = spans(text, self.max_tokens, self.overlap_tokens)
        return tuple(Chunk(each, text_fingerprint(text[each.start : each.end], self.embedder)) for each in found)

    def fingerprint(self, text: str) -> str | None:
        """Of all chunks of a text; None without any."""
        return item_fingerprint(self.chunks(text))


def item_fingerprint(chunks: Sequence[Chunk]) -> str | None:
    """Changes when the text of a chunk does, or its place; None without chunks. A single chunk's is its own."""
    if len(chunks) <= 1:
        return chunks[0].fingerprint if chunks else None
    return digest([[each.fingerprint, each.span.start, each.span.end] for each in chunks])
