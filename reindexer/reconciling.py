"""Compare a source with its index, and repair it: for the command line and the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reindexer import wiring
from reindexer.core.owner import Owner
from reindexer.generations.rows import kept
from reindexer.index.ownership import identity, require_ours
from reindexer.index.reconcile import Findings, Sides
from reindexer.index.search import collection_of
from reindexer.ports import Index
from reindexer.postgres.connect import Connection
from reindexer.settings import Settings
from reindexer.sources.embedding_specs import embedding_spec_of
from reindexer.sources.store import find_source


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a comparison found, and what was made due."""

    source: str
    equal: bool
    rows: int
    points: int
    missing: int
    """Rows with text that lack a point."""
    stale: int
    """Rows whose point is of another text, payload or model."""
    orphaned: int
    """Points without a row or without text in it, and surplus chunks."""
    foreign: int
    """Points that are not ours. They are never touched."""
    unsettled: int
    """Items that were worked on until the end. Not judged."""
    unreadable: int
    """Rows that can't be read or cut. Not judged."""
    failed: int
    """How many of the differences failed, with a reason."""
    queued: int | None
    """Items that were made due. None: nothing was repaired."""
    examples: dict[str, list[str]]
    """Ids of items, by kind."""
    seconds: float


def sides_of(
    settings: Settings, connection: Connection, index: Index, name: str, generation: int | None = None
) -> Sides:
    """Return what is compared. `generation`: another one than searches use.

    Raises UsageError if there is no such source, GenerationConflict if there is no such generation, and SourceError or
    OtherEmbedder if the collection is another database's, or holds another model's points.
    """
    source = find_source(connection, name) if generation is None else kept(connection, name, generation)
    embedder = wiring.embedder_of(settings)(source)
    found = Sides(
        connection, index, source, collection_of(connection, source), embedding_spec_of(source, embedder),
        settings.qdrant_timeout_s, wiring.keyword_encoder_of(settings)(source),
    )  # fmt: skip
    ours = Owner(identity(connection, settings.instance), embedder.fingerprint)
    require_ours(index, found.collection, ours)  # guard reconcile-same-embedder
    return found


def told(source: str, findings: Findings, queued: int | None, seconds: float) -> Reconciled:
    """Return the findings as they are told."""
    examples = {**{str(kind): ids for kind, ids in findings.examples.items()}, "unreadable": findings.unreadable_ids}
    names = ("rows", "points", "missing", "stale", "orphaned", "foreign", "unsettled", "unreadable", "failed")
    counts: dict[str, Any] = {name: getattr(findings, name) for name in names}
    return Reconciled(
        source=source,
        equal=not (findings.differences or findings.unsettled or findings.unreadable),
        **counts,
        queued=queued,
        examples={kind: ids for kind, ids in examples.items() if ids},
        seconds=round(seconds, 1),
    )
