"""EmbeddingSpec: everything besides the text that its vectors depend on. Makes chunks and their fingerprints. Pure
functions.

The input of a chunk is what is embedded: its lead, then its text. Fingerprints are of inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from reindexer.core.errors import SourceError
from reindexer.core.fingerprint import digest, text_fingerprint
from reindexer.core.items import Row
from reindexer.core.source import MIN_CHUNK_TOKENS, Source
from reindexer.core.text.chunks import Cut, Span, spans
from reindexer.core.text.header import MOST_TOKENS, render_header
from reindexer.core.text.headings import Headings
from reindexer.core.text.tokens import estimate_tokens

NO_COLUMNS: Mapping[str, str] = MappingProxyType({})
SEAM = 2
"""Tokens that two texts may have more together than apart."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one point is made from: its place in the text, and a fingerprint of everything that its vector depends
    on."""

    span: Span
    fingerprint: str
    prefix: str = ""
    """What is embedded in front of every chunk."""
    header: str = ""
    """What is embedded in front of this one."""

    @property
    def lead(self) -> str:
        """What is embedded in front of its text: prefix and header. Part of neither span nor text."""
        return self.prefix + self.header

    def text(self, text: str) -> str:
        """Return the chunk's own part of its item's text."""
        return text[self.span.start : self.span.end]

    def said(self, text: str) -> str:
        """Return what keywords are made from: header and text, without the prefix, which is the model's."""
        return self.header + self.text(text)

    def payload(self, row: Row, text_key: str | None) -> Mapping[str, Any]:
        """Return the payload of its point: that of its row and, under `text_key`, its own text."""
        if text_key is None:
            return row.payload
        return {**row.payload, text_key: self.text(row.text)}  # guard stored-text-of-chunk

    def input(self, text: str) -> str:
        """Return what is embedded of its item's text: the chunk's input."""
        return self.lead + self.text(text)


@dataclass(frozen=True, slots=True)
class EmbeddingSpec:
    """How a source's texts become points."""

    embedder: str
    """The embedder's fingerprint."""
    max_tokens: int
    """Maximum tokens of a chunk, estimated."""
    overlap_tokens: int = 0
    cut: Cut = spans
    """How a text is cut."""
    prefix: str = ""
    """What is embedded in front of every chunk."""
    input_type: str | None = None
    """As what the provider is asked to embed chunks."""
    header: str | None = None
    """The template of the chunks' headers."""
    header_tokens: int = 0
    """Maximum tokens of a header."""
    text_key: str | None = None
    """Under which key a point's payload holds its chunk's text. None: it does not."""
    keywords: str = ""
    """The fingerprint of the rules by which chunks become keywords. Empty: they do not."""

    @classmethod
    def of(cls, source: Source, embedder: str, max_input_tokens: int, cut: Cut = spans) -> EmbeddingSpec:
        """Return the source's embedding spec with an embedder that accepts inputs of `max_input_tokens`.

        Raises SourceError if the profile's prefix leaves no room for a text.
        """
        prefix, input_type = source.profile.asking("document")
        room = max_input_tokens
        header_tokens = min(MOST_TOKENS, max_input_tokens // 4) if source.chunk_header else 0
        if header_tokens:
            room -= header_tokens + SEAM  # guard header-token-room
        if prefix:
            room -= estimate_tokens(prefix) + SEAM  # guard prefix-token-room
        if room < min(MIN_CHUNK_TOKENS, max_input_tokens):
            raise SourceError(
                f"source {source.name!r}: its profile's document_prefix leaves no room for a text: an input may have "
                f"{max_input_tokens} tokens; use a shorter one"
            )
        most, rules = min(source.chunk_tokens or room, room), source.keyword_rules
        return cls(
            embedder, most, min(source.chunk_overlap, most // 2), cut, prefix, input_type, source.chunk_header,
            header_tokens, source.store_text, rules.fingerprint if rules else "",
        )  # fmt: skip

    def within(self, chunk_tokens: int | None) -> EmbeddingSpec:
        """Return the embedding spec for an item whose chunks may hold at most `chunk_tokens`. None: no limit of its
        own."""
        if chunk_tokens is None or chunk_tokens >= self.max_tokens:
            return self
        return replace(self, max_tokens=chunk_tokens, overlap_tokens=min(self.overlap_tokens, chunk_tokens // 2))

    def chunks(self, text: str, columns: Mapping[str, str] = NO_COLUMNS) -> tuple[Chunk, ...]:
        """Return the chunks of a text in order; none for an empty text. Their texts are not copied.

        `columns` are what the header names, as `Row` holds them. Raises ChunkerFailed if a package's chunker can't cut
        the text.
        """
        found = self.cut(text, self.max_tokens, self.overlap_tokens) if text else ()
        headings = Headings(text) if self.header and found else None
        return tuple(self._chunk(text, each, columns, headings) for each in found)

    def chunk(self, text: str, span: Span, columns: Mapping[str, str] = NO_COLUMNS) -> Chunk:
        """Return the chunk that lies there in a text."""
        return self._chunk(text, span, columns, Headings(text) if self.header else None)

    def _chunk(self, text: str, span: Span, columns: Mapping[str, str], headings: Headings | None) -> Chunk:
        header = ""
        if self.header and headings is not None:
            header = render_header(self.header, columns, headings.above(span.start), self.header_tokens)
        own = header + text[span.start : span.end]  # guard fingerprint-chunk-header
        sent = self.prefix + own  # guard fingerprint-document-prefix
        return Chunk(span, text_fingerprint(sent, self.embedder, self.input_type), self.prefix, header)

    def fingerprint(self, text: str, columns: Mapping[str, str] = NO_COLUMNS) -> str | None:
        """Return the fingerprint of all chunks of a text. None if it has none. Raises ChunkerFailed."""
        return item_fingerprint(self.chunks(text, columns))


def item_fingerprint(chunks: Sequence[Chunk]) -> str | None:
    """Return a fingerprint that changes with the text or place of any chunk. None without chunks.

    The fingerprint of a single chunk that begins its text, without a header, is the chunk's own. A chunk elsewhere may
    move. With a header, the same input may be of another text: what was in the one is in the other now.
    """
    if not chunks:
        return None
    if len(chunks) == 1 and not chunks[0].header and not chunks[0].span.start:  # guard fingerprint-of-moved-chunk
        return chunks[0].fingerprint
    return digest([[each.fingerprint, each.span.start, each.span.end] for each in chunks])
