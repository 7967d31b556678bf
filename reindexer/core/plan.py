"""The plan: what has to happen in Qdrant so that it equals the row as it is now. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from reindexer.core.fingerprint import payload_fingerprint, text_fingerprint
from reindexer.core.items import ClaimedItem, Row


@dataclass(frozen=True, slots=True)
class Delete:
    """No row, or no text in it: no point may stay."""

    item: ClaimedItem
    row: Row | None
    text_fingerprint: str | None = None
    payload_fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Skip:
    """Qdrant equals the row already."""

    item: ClaimedItem
    row: Row
    text_fingerprint: str
    payload_fingerprint: str


@dataclass(frozen=True, slots=True)
class UpdatePayload:
    """Same text, other payload: no embedding call."""

    item: ClaimedItem
    row: Row
    text_fingerprint: str
    payload_fingerprint: str


@dataclass(frozen=True, slots=True)
class Embed:
    """The text has to be embedded and its point written."""

    item: ClaimedItem
    row: Row
    text_fingerprint: str
    payload_fingerprint: str

    @property
    def text(self) -> str:
        """What is embedded."""
        return self.row.text


Step = Delete | Skip | UpdatePayload | Embed


def plan(item: ClaimedItem, row: Row | None, embedder: str) -> Step:
    """Decide what one item needs. `row` is None only after a read that succeeded and found none.

    A doubtful item is never skipped: after A → B → killed before settle → back to A, the fingerprint says
    "unchanged" while Qdrant holds B.
    """
    if row is None:
        return Delete(item, None)
    text_print = text_fingerprint(row.text, embedder)
    payload_print = payload_fingerprint(row.payload)
    if not row.text:
        return Delete(item, row, text_print, payload_print)
    certain = not item.forced and not item.doubtful and item.chunks > 0
    if certain and item.text_fingerprint == text_print:
        if item.payload_fingerprint == payload_print:
            return Skip(item, row, text_print, payload_print)
        return UpdatePayload(item, row, text_print, payload_print)
    return Embed(item, row, text_print, payload_print)
