"""Write: the steps of one claim to Qdrant under its token, then read back what was refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from reindexer.core.items import ClaimedItem
from reindexer.core.plan import Delete, Embed, Step, UpdatePayload
from reindexer.ports import Collection, Index, Point, Vectors


def write(
    index: Index,
    collection: Collection,
    token: int,
    steps: Sequence[Step],
    vectors: Mapping[ClaimedItem, Vectors],
    timeout_s: Callable[[], float],
) -> Mapping[str, int]:
    """Bring Qdrant to the steps. Returns the items whose writes were refused, with the higher token that stands there.

    `timeout_s` is asked before each call, and raises when the lease is over. Raises PassingError or LastingError if any
    call failed: what then lies in Qdrant is not known.
    """
    deletes = [s.item.item_id for s in steps if isinstance(s, Delete) and _may_have_points(s.item)]
    embeds = [_point(s, vectors[s.item]) for s in steps if isinstance(s, Embed)]
    payloads = [_point(s, None) for s in steps if isinstance(s, UpdatePayload)]
    surplus = {s.item.item_id: 1 for s in steps if isinstance(s, Embed) and (s.item.chunks > 1 or s.item.doubtful)}
    if deletes:
        index.delete_items(collection, deletes, token, timeout_s())
    if payloads:
        index.update_payload(collection, payloads, token, timeout_s())
    if embeds:
        index.upsert(collection, embeds, token, timeout_s())
    if surplus:
        index.delete_surplus(collection, surplus, token, timeout_s())
    written = [(point.item_id, point.chunk) for point in (*embeds, *payloads)]
    gone = [(item_id, 0) for item_id in deletes]
    if not written and not gone:
        return {}
    stored = index.tokens(collection, written + gone, timeout_s())
    refused = {item_id: stored.get((item_id, chunk), 0) for item_id, chunk in written
               if stored.get((item_id, chunk), 0) != token}  # fmt: skip
    return refused | {item_id: stored[item_id, chunk] for item_id, chunk in gone if (item_id, chunk) in stored}


def _may_have_points(item: ClaimedItem) -> bool:
    """One that never had a point has none to delete; one that is or was doubtful may have. A wish looks anyway."""
    return item.chunks > 0 or item.doubtful or item.doubted_ago_s is not None or item.forced


def _point(step: Embed | UpdatePayload, vector: Vectors | None) -> Point:
    return Point(step.item.item_id, 0, vector, step.row.payload, step.text_fingerprint)
