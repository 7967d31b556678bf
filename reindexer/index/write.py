"""Write the steps of one claim to Qdrant under its token, then read back which writes were refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from reindexer.core.items import ClaimedItem, StoredPoint
from reindexer.core.plan import Delete, Embed, Step, UpdatePayload, Write
from reindexer.core.text.batching import slices
from reindexer.core.text.embedding_spec import Chunk
from reindexer.index.fenced import FencedIndex, Place
from reindexer.ports import Numbers, Point

POINTS = 64
"""Maximum points per write request. As lists of floats, points take eight times their memory. The process that builds
such a request, and the embedded Qdrant server that receives it, do nothing else meanwhile. With four times as many
points an edit behind a backfill took half as long again, and the backfill was no quicker."""
TOKENS = 1024
"""Maximum points per read-back request."""


def write(
    index: FencedIndex,
    steps: Sequence[Step],
    vectors: Mapping[str, Numbers],
    kept: Collection[Place],
    done: Collection[Place],
) -> Mapping[str, int]:
    """Apply the steps to Qdrant. Returns the items whose writes were refused, with the token that Qdrant holds.

    `vectors` are by fingerprint. Points in `kept` have their vectors already, and those in `done` are written. Raises
    TransientError or PermanentError if any request failed: the content of Qdrant is then unknown.
    """
    deletes = [s.item for s in steps if isinstance(s, Delete) and _may_have_points(s.item)]
    # guard token-reused-chunks
    written = [p for s in steps if isinstance(s, Write) for p in _points(index, s, vectors, kept, done)]
    surplus = {s.item.item_id: len(s.chunks) for s in steps if isinstance(s, Embed) and _may_have_more(s)}
    if deletes:
        index.delete_items([item.item_id for item in deletes])
    for payloads in slices([p for p in written if p.vector is None], POINTS):
        index.update_payload(payloads)
    for points in slices([p for p in written if p.vector is not None], POINTS):
        index.upsert(points)
    if surplus:
        index.delete_surplus(surplus)
    wanted = [(s.item.item_id, n) for s in steps if isinstance(s, Write) for n in range(len(s.chunks))]
    gone = [(item.item_id, chunk) for item in deletes for chunk in range(max(1, item.chunks))]
    stored = _tokens(index, wanted + gone)
    # guard fence-refusal-read-back
    refused = {place: stored.get(place, 0) for place in wanted if stored.get(place, 0) != index.token}
    refused |= {place: stored[place] for place in gone if place in stored}
    return highest_tokens(refused)


def highest_tokens(refused: Mapping[Place, int]) -> dict[str, int]:
    """Return for each item the highest token at one of its places."""
    highest: dict[str, int] = {}
    for (item_id, _), token in refused.items():
        highest[item_id] = max(token, highest.get(item_id, token))
    return highest


def exchange_payloads(index: FencedIndex, steps: Sequence[Embed]) -> Mapping[str, int]:
    """Give the items' existing points the payload of their rows, beside the vectors of their older texts.

    Each point keeps its own facts about its text, and the text itself if it holds that. Returns and raises as `write`
    does.
    """
    stored = list[StoredPoint]()
    certain = [(s.item.item_id, chunk) for s in steps if not s.item.uncertain for chunk in range(s.item.chunks)]
    for places in slices(certain, TOKENS):
        stored += index.stored(places).values()
    for some in slices([s.item.item_id for s in steps if s.item.uncertain], TOKENS):
        stored += index.points_of(some)  # guard doubt-payload-all-points
    of = {step.item.item_id: step for step in steps}
    kept = _kept_texts(index, [p for p in stored if p.fingerprint and of[p.item_id].text_key], of)

    def payload_of(point: StoredPoint) -> Mapping[str, Any]:
        text = kept.get((point.item_id, point.chunk))
        return {**of[point.item_id].row.payload, **text} if text else of[point.item_id].row.payload

    points = [
        # guard payload-exchange-text-facts
        Point(p.item_id, p.chunk, None, payload_of(p), p.fingerprint, p.span)
        for p in stored
        if p.fingerprint
    ]
    for some_points in slices(points, POINTS):
        index.update_payload(some_points)
    found = _tokens(index, [(point.item_id, point.chunk) for point in points])
    return {item_id: stands for (item_id, _), stands in found.items() if stands != index.token}


def _kept_texts(
    index: FencedIndex, points: Sequence[StoredPoint], of: Mapping[str, Embed]
) -> Mapping[Place, Mapping[str, Any]]:
    """Return the texts that points hold in their payloads, by place, as part of a payload. The rows have newer ones."""
    kept: dict[Place, Mapping[str, Any]] = {}
    fingerprints = {(point.item_id, point.chunk): point.fingerprint for point in points}
    for places in slices(list(fingerprints), POINTS):
        for place, point in index.payloads(places).items():
            key, held = str(of[place[0]].text_key), point.payload or {}
            if key in held and point.fingerprint == fingerprints[place]:  # guard stored-text-kept
                kept[place] = {key: held[key]}
    return kept


def has_other_payload(step: Embed) -> bool:
    """Whether the item may have points in Qdrant whose payload differs from its row's."""
    return _may_have_points(step.item) and (step.item.doubtful or step.payload_differs)


def write_chunks(index: FencedIndex, points: Sequence[Point]) -> Mapping[str, int]:
    """Write some points of items whose other points will follow. Returns and raises as `write` does."""
    for some in slices(points, POINTS):
        index.upsert(some)
    stored = _tokens(index, [(point.item_id, point.chunk) for point in points])
    stands = [(point.item_id, stored.get((point.item_id, point.chunk), 0)) for point in points]
    return {item_id: found for item_id, found in stands if found != index.token}


def _tokens(index: FencedIndex, places: Sequence[Place]) -> Mapping[Place, int]:
    stored: dict[Place, int] = {}
    for some in slices(places, TOKENS):
        stored |= index.tokens(some)
    return stored


def _may_have_points(item: ClaimedItem) -> bool:
    """Whether the item may have points to delete: it had some, or is or was in doubt. A reindex request checks
    anyway."""
    # guard doubt-delete-unknown-points
    return item.chunks > 0 or item.uncertain or item.doubted_ago_s is not None or item.forced


def _may_have_more(step: Embed) -> bool:
    return step.item.chunks > len(step.chunks) or step.item.uncertain  # guard chunk-surplus-deletion


def _points(
    index: FencedIndex,
    step: Write,
    vectors: Mapping[str, Numbers],
    kept: Collection[Place],
    done: Collection[Place],
) -> Sequence[Point]:
    def vector_of(number: int, chunk: Chunk) -> Numbers | None:
        has_one = isinstance(step, UpdatePayload) or (step.item.item_id, number) in kept
        return None if has_one else vectors[chunk.fingerprint]

    return [
        point_of(index, step, number, chunk, vector_of(number, chunk))
        for number, chunk in enumerate(step.chunks)
        if (step.item.item_id, number) not in done
    ]


def point_of(index: FencedIndex, step: Write, number: int, chunk: Chunk, vector: Numbers | None) -> Point:
    """Return the point of one chunk. Without a vector it keeps the one that it has, and its keywords, if they are
    right."""
    keywords = index.keywords(step.said(chunk)) if vector is not None or step.keywords_differ else None
    return Point(step.item.item_id, number, vector, step.payload(chunk), chunk.fingerprint, chunk.span, keywords)
