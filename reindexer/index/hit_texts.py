"""The texts of hits: read from the rows as they are now, and told only where they are what was indexed.

The index need hold no text. A row may have changed since its point was written, or be gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reindexer.core.items import Row
from reindexer.core.source import Source
from reindexer.core.text.chunks import Span
from reindexer.core.text.embedding_spec import EmbeddingSpec
from reindexer.ports import Collection, Hit, Index
from reindexer.postgres.connect import Connection
from reindexer.sources.embedder_record import vectors_made_by
from reindexer.sources.rows import read_rows


def with_texts(
    connection: Connection,
    index: Index,
    source: Source,
    collection: Collection,
    hits: Sequence[Hit],
    max_input_tokens: int,
) -> list[Hit]:
    """Return these hits of one source with their texts, from one read of their rows.

    `max_input_tokens` are the embedder's: a chunk's header is cut by them. A hit whose row holds another text there by
    now, or that has no row any more, is `changed` and gets no text. Raises SourceError if the rows can't be read.
    """
    rows = read_rows(connection, source, list(dict.fromkeys(hit.item_id for hit in hits)))
    spec = EmbeddingSpec.of(source, vectors_made_by(index, collection) or "", max_input_tokens)
    return [_with_text(hit, rows.get(hit.item_id), spec) for hit in hits]


def _with_text(hit: Hit, row: Row | None, spec: EmbeddingSpec) -> Hit:
    if row is not None and hit.span is not None:
        span = Span(*hit.span)
        if spec.chunk(row.text, span, row.columns).fingerprint == hit.fingerprint:  # guard hit-text-fingerprint
            return replace(hit, text=row.text[span.start : span.end], changed=False)
    return replace(hit, text=None, changed=True)
