"""Deliver: bring Qdrant to the planned steps of a claim: reuse, embed, write, group by group.

An item is written as a whole or counts as not written. Memory: the vectors of one group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from reindexer.core.errors import InputRejected, LastingError, PassingError, ReindexerError
from reindexer.core.plan import Delete, Embed, Step
from reindexer.flow.attempt import Attempt
from reindexer.flow.breaker import Witness
from reindexer.flow.embed import Deadline, Input, embed_inputs
from reindexer.flow.pace import Pace
from reindexer.flow.reuse import Place, Reused, find_reusable
from reindexer.flow.settle import Postponed
from reindexer.flow.too_long import cut_smaller
from reindexer.flow.way import Way
from reindexer.flow.write import write
from reindexer.ports import Collection, Embedder, Index, Vector

GROUP_CHUNKS = 1024
"""Chunks of a group at most, if it is more than one item."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Of one request, and how long before the end of a lease no text is embedded any more."""

    provider_s: float
    index_s: float
    keep_for_writing_s: float


@dataclass(slots=True)
class Delivery:
    """One claim's way to Qdrant."""

    index: Index
    embedder: Embedder
    collection: Collection
    token: int
    attempt: Attempt
    witness: Witness
    way: Way
    deadline: Deadline
    timeouts: Timeouts
    pace: Pace
    failed: bool = False
    """A request to the index failed: the collection may not be there any more."""

    def bring(self, steps: Sequence[Step]) -> None:
        """Do the steps; each item is then finished or postponed in the attempt. Raises LeaseOver."""
        for group in groups(steps, GROUP_CHUNKS):
            embeds = [step for step in group if isinstance(step, Embed)]
            reused = self._find_reusable([step for step in embeds if step.may_reuse])
            vectors = self._embed([step for step in embeds if step.item in self.attempt.open], reused)
            self._write([step for step in group if step.item in self.attempt.open], vectors, reused.kept)

    def _find_reusable(self, steps: Sequence[Embed]) -> Reused:
        if not steps:
            return Reused()
        try:
            with self.witness.asks("qdrant"):
                return find_reusable(self.index, self.collection, steps, self._index_s)
        except (PassingError, LastingError) as exc:
            self.failed = True
            for step in steps:
                self.attempt.fails(step.item, exc, certain=True)
            return Reused()

    def _embed(self, steps: Sequence[Embed], reused: Reused) -> Mapping[str, Vector]:
        """Vectors by fingerprint. Items that can't have all of theirs are failed or postponed."""
        inputs: dict[str, Input] = {}
        wanting: dict[str, list[Embed]] = {}
        for place, step in enumerate(steps):
            for number, chunk in enumerate(step.chunks):
                if (step.item.item_id, number) not in reused.kept and chunk.fingerprint not in reused.vectors:
                    inputs.setdefault(chunk.fingerprint, Input(step.text(chunk), chunk.fingerprint, place))
                    wanting.setdefault(chunk.fingerprint, []).append(step)

        def fails(refused: Input, error: ReindexerError) -> None:
            if isinstance(error, InputRejected):
                error = cut_smaller(self.collection.source, refused.text, error, self.embedder.limits)
            for step in wanting[refused.fingerprint]:
                if step.item in self.attempt.open:
                    self.attempt.fails(step.item, error, certain=True)

        self.way.give(self.deadline.left_s())
        vectors = embed_inputs(
            self.embedder, list(inputs.values()), self.deadline, self.timeouts.provider_s,
            self.timeouts.keep_for_writing_s, self.witness, self.pace, fails,
        )  # fmt: skip
        late = {step.item for fingerprint in inputs.keys() - vectors.keys() for step in wanting[fingerprint]}
        for item in late & self.attempt.open.keys():
            self.attempt.postpone(
                Postponed(item, 0.0, "its claim ended before its turn came", counts=False, cause="late")
            )
        return {**reused.vectors, **vectors}

    def _write(self, steps: Sequence[Step], vectors: Mapping[str, Vector], kept: AbstractSet[Place]) -> None:
        try:
            with self.witness.asks("qdrant"), self.way.taken():
                refused = write(self.index, self.collection, self.token, steps, vectors, kept, self._index_s)
        except LastingError as exc:
            # One payload that Qdrant refuses must not fail its neighbours.
            if len(steps) > 1:
                for half in (steps[: len(steps) // 2], steps[len(steps) // 2 :]):
                    self._write(half, vectors, kept)
            else:
                self.attempt.fails(steps[0].item, exc, certain=False)
            return
        except PassingError as exc:
            # Part of it may have reached Qdrant, also where no reply came.
            self.failed = True
            for step in steps:
                self.attempt.fails(step.item, exc, certain=False)
            return
        for step in steps:
            if step.item.item_id in refused:
                self.attempt.postpone(
                    Postponed(
                        step.item, 0.0, "Qdrant holds another write; done again", counts=False, doubtful=True,
                        seen_token=refused[step.item.item_id], cause="fenced",
                    )
                )  # fmt: skip
            else:
                self.attempt.complete(step)

    def _index_s(self) -> float:
        """Asked before each request to the index."""
        self.way.give(self.deadline.left_s())
        return self.deadline.cap(self.timeouts.index_s)


def groups(steps: Sequence[Step], most_chunks: int) -> Iterator[Sequence[Step]]:
    """Consecutive steps that have so many chunks together at most, or are one."""
    group: list[Step] = []
    chunks = 0
    for step in steps:
        more = 1 if isinstance(step, Delete) else len(getattr(step, "chunks", ()))
        if group and chunks + more > most_chunks:
            yield group
            group, chunks = [], 0
        group.append(step)
        chunks += more
    if group:
        yield group
