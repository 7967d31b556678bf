"""What every request of one claim goes through: it is observed, yields to edits, and ends before the lease does.

The steps of a claim get an index and an embedder that do this by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from reindexer.embedding.decorators import ClaimEmbedder, ObservedEmbedder
from reindexer.embedding.rate_limit import Throttle
from reindexer.index.fenced import FencedIndex, IndexView
from reindexer.ports import Collection, Embedder, Index, KeywordEncoder
from reindexer.queue.breaker import HealthRecorder
from reindexer.queue.lease import Deadline, RequestWindow
from reindexer.worker.priority_gate import GatePass
from reindexer.worker.traced import UNTOLD, Steps


@dataclass(frozen=True, slots=True)
class WorkLimits:
    """How much one claim takes and how long it may hold it."""

    batch_size: int = 256
    lease_s: float = 60.0
    provider_timeout_s: float = 20.0
    index_timeout_s: float = 10.0

    @property
    def keep_for_writing_s(self) -> float:
        """Embedding stops this long before the end of a lease."""
        return min(self.index_timeout_s, self.lease_s / 6)


@dataclass(frozen=True, slots=True)
class Execution:
    """The context of one claim's requests."""

    limits: WorkLimits
    deadline: Deadline
    health: HealthRecorder
    gate: GatePass
    steps: Steps = UNTOLD

    def index(
        self, index: Index, collection: Collection, dimensions: int, token: int, encoder: KeywordEncoder | None
    ) -> FencedIndex:
        """Return the index as this claim sees it."""
        return FencedIndex(
            index, collection, dimensions, token, reading=self._request, writing=self._write, encoder=encoder
        )

    def view(self, index: Index, collection: Collection) -> IndexView:
        """Return another collection as this claim may read it."""
        return IndexView(index, collection, self._request)

    def embedder(
        self, embedder: Embedder, throttle: Throttle, measured: Callable[[Sequence[str], int, int], None]
    ) -> ClaimEmbedder:
        """Return the embedder as this claim sees it."""
        observed = ObservedEmbedder(embedder, self.health, self.steps.step)
        return ClaimEmbedder(observed, throttle, self._begin_embedding, measured)

    @contextmanager
    def _request(self, what: str, count: int) -> Iterator[float]:
        self.gate.yield_to_edits(self.deadline.left_s())  # guard edit-priority-before-write
        with self.health.observe("qdrant"), self.steps.step(what, count):
            yield self.deadline.cap(self.limits.index_timeout_s)

    @contextmanager
    def _write(self, what: str, count: int) -> Iterator[float]:
        with self.gate.taken(), self._request(what, count) as timeout_s:  # guard edit-write-priority
            yield timeout_s

    def _begin_embedding(self) -> RequestWindow:
        self.gate.yield_to_edits(self.deadline.left_s())  # guard edit-priority-before-embed
        return RequestWindow(self.deadline, self.limits.provider_timeout_s, self.limits.keep_for_writing_s)
