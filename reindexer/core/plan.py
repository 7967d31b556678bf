"""The plan: what must happen in the index so that it equals the row as it is now. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reindexer.core.fingerprint import keywords_of, payload_fingerprint, text_fingerprint, with_keywords
from reindexer.core.items import ClaimedItem, Row
from reindexer.core.text.embedding_spec import Chunk, EmbeddingSpec, item_fingerprint


@dataclass(frozen=True, slots=True)
class Delete:
    """There is no row, or no text in it: delete all points."""

    item: ClaimedItem
    row: Row | None
    text_fingerprint: str | None = None
    payload_fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Skip:
    """Qdrant already equals the row."""

    item: ClaimedItem
    row: Row
    text_fingerprint: str
    payload_fingerprint: str


@dataclass(frozen=True, slots=True)
class Write:
    """The item's points are written."""

    item: ClaimedItem
    row: Row
    text_fingerprint: str
    payload_fingerprint: str
    chunks: tuple[Chunk, ...]
    text_key: str | None = None

    def payload(self, chunk: Chunk) -> Mapping[str, Any]:
        """Return the payload of one chunk's point."""
        return chunk.payload(self.row, self.text_key)

    def text(self, chunk: Chunk) -> str:
        """Return the text of one chunk, without its lead."""
        return chunk.text(self.row.text)

    def said(self, chunk: Chunk) -> str:
        """Return what the keywords of one chunk are made from."""
        return chunk.said(self.row.text)

    @property
    def keywords_differ(self) -> bool:
        """Whether points that keep their vectors may lack the keywords of their texts."""
        wanted = keywords_of(self.payload_fingerprint)
        # guard keywords-beside-kept-vector
        return bool(wanted) and (self.item.uncertain or wanted != keywords_of(self.item.payload_fingerprint))


@dataclass(frozen=True, slots=True)
class UpdatePayload(Write):
    """The text is unchanged, the payload or the rules of its keywords differ: no embedding call."""


@dataclass(frozen=True, slots=True)
class Embed(Write):
    """Embed the text and write its points. Chunks whose points exist already are not embedded."""

    @property
    def exchanged_fingerprint(self) -> str:
        """The payload's fingerprint once it stands beside the vectors of older texts.

        These keep their keywords. They may lack their texts, which the row has no more: so no key of theirs is in it.
        """
        # guard keywords-of-older-text
        keywords = keywords_of(self.item.payload_fingerprint)
        return payload_fingerprint(self.row.payload, keywords=keywords)  # guard stored-text-of-older-text

    @property
    def payload_differs(self) -> bool:
        """Whether the points beside whose vectors the payload is to stand hold another one."""
        stands = self.item.payload_fingerprint
        whole = with_keywords(self.payload_fingerprint, keywords_of(stands))
        return stands not in (whole, self.exchanged_fingerprint)

    @property
    def reuses_before(self) -> int | None:
        """No vector in Qdrant is reused from this chunk on. None: all may be reused."""
        # guard doubt-reuse-limit
        return (self.item.begun_upto or 0) if self.item.forced or self.item.doubtful else None

    @property
    def may_reuse(self) -> bool:
        """Whether Qdrant may hold vectors that are needed again and known to be right."""
        is_part = self.item.chunks > 1 or len(self.chunks) > 1 or self.chunks[0].span.start > 0
        known = self.item.chunks > 0 and is_part
        return self.reuses_before != 0 and (known or self.item.begun_upto is not None)  # guard chunk-vector-reuse


Step = Delete | Skip | UpdatePayload | Embed


def plan(item: ClaimedItem, row: Row | None, spec: EmbeddingSpec) -> Step:
    """Decide what one item needs. `row` is None only after a read that succeeded and found none.

    An item in doubt is never skipped. After A → B → killed before settle → back to A, the fingerprint says "unchanged"
    while Qdrant holds B. Raises ChunkerFailed if a package's chunker can't cut the text.
    """
    if row is None:
        return Delete(item, None)
    chunks = spec.within(item.chunk_tokens).chunks(row.text, row.columns)
    text_print = item_fingerprint(chunks)
    payload_print = payload_fingerprint(row.payload, spec.text_key, spec.keywords)
    if text_print is None:
        return Delete(item, row, text_fingerprint("", spec.embedder), payload_print)
    certain = not item.forced and not item.uncertain and item.chunks == len(chunks)  # guard doubt-no-skip
    if certain and item.text_fingerprint == text_print:
        if item.payload_fingerprint == payload_print:
            return Skip(item, row, text_print, payload_print)
        return UpdatePayload(item, row, text_print, payload_print, chunks, spec.text_key)
    return Embed(item, row, text_print, payload_print, chunks, spec.text_key)
