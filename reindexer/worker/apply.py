"""Apply a claim's planned steps to Qdrant: first those that need no provider, then reuse, embed, write.

An item is written as a whole or counts as not written. There are two exceptions, for an item whose vectors can't all be
had now:
- The vectors that exist are written, so that the next claim finds them and embeds only the rest. The item is then
  *begun*.
- The item's payload is written beside its older vectors, because a change of who may see a text must not wait for a
  provider.

Steps are applied group by group. Memory is bounded by the vectors of one group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from reindexer.core.errors import (
    DependencyUnavailable,
    InputRejected,
    PermanentError,
    RefusesAll,
    ReindexerError,
    SourceError,
    TransientError,
)
from reindexer.core.items import ClaimedItem
from reindexer.core.plan import Delete, Embed, Step
from reindexer.core.text.batching import slices
from reindexer.embedding.batches import Input, embed_inputs
from reindexer.embedding.decorators import ClaimEmbedder
from reindexer.embedding.refusals import Refusals
from reindexer.embedding.too_long import cut_smaller
from reindexer.index.fenced import FencedIndex
from reindexer.index.reuse import Reused, Wanted, find_reusable
from reindexer.index.write import exchange_payloads, has_other_payload, write, write_chunks
from reindexer.queue.lease import LeaseExpired
from reindexer.queue.settle import Postponed
from reindexer.worker.claim_state import TOO_LATE, Attempt, Held, NotNow
from reindexer.worker.donors import Donors
from reindexer.worker.gathered import Got

S = TypeVar("S", bound=Step)

GROUP_CHUNKS = 1024
"""Maximum chunks of a group of several items. Of a larger single item this many are embedded before they are
written."""
MOST_BLAMED = 4
"""Maximum items of one claim that are isolated as the cause of Qdrant's failures. Where there are more, Qdrant itself
is the likelier cause."""


@dataclass(slots=True)
class Delivery:
    """Applies the steps of one claim to Qdrant."""

    index: FencedIndex
    embedder: ClaimEmbedder
    attempt: Attempt
    refusals: Refusals
    donors: Donors
    why_not: NotNow | None = None
    """Why this claim may not ask the provider. None: it may."""
    failed: bool = False
    """A request to the index failed: the collection may no longer exist."""
    refused: RefusesAll | None = None
    """Why the index refuses every write of this source."""
    takes_writes: bool = False
    """After refusing a write, the index accepted one that changes nothing."""
    blamed: int = 0
    """Number of items whose writes failed alone."""

    def bring(self, steps: Sequence[Step]) -> None:
        """Apply the steps. Each item is then finished or postponed in `attempt`. Raises LeaseExpired."""
        # guard deliver-provider-free-first
        self._bring_all_but_texts([step for step in steps if not isinstance(step, Embed)])
        self._bring_texts([step for step in steps if isinstance(step, Embed)])

    def _bring_all_but_texts(self, steps: Sequence[Step]) -> None:
        for group in groups(steps, GROUP_CHUNKS):
            self._write(group, Got(Reused()))
            self._require_index()

    def _bring_texts(self, steps: Sequence[Embed]) -> None:
        for embeds in groups(steps, GROUP_CHUNKS):
            got = Got(self._find_reusable([step for step in embeds if step.may_reuse]))
            if self.donors:  # guard donor-vector-reuse
                self._take_from_donors(self._open(embeds), got)
            held = self._embed(self._open(embeds), got)
            self._write([step for step in self._open(embeds) if step.item not in held], got)
            self._hold([step for step in self._open(embeds) if step.item in held], held, got)
            self._require_index()

    def _require_index(self) -> None:
        if self.refused is not None:
            raise self.refused

    def _open(self, steps: Sequence[Embed]) -> Sequence[Embed]:
        return [step for step in steps if step.item in self.attempt.open]

    def _find_reusable(self, steps: Sequence[Embed]) -> Reused:
        if not steps:
            return Reused()
        try:
            return find_reusable(self.index, steps)
        except (TransientError, PermanentError) as exc:
            self.failed = True
            if isinstance(exc, PermanentError):  # the question holds no data of these items
                raise RefusesAll(str(exc)) from exc
            for step in steps:
                self.attempt.fails(step.item, exc, certain=True)
            return Reused()

    def _take_from_donors(self, steps: Sequence[Embed], got: Got) -> None:
        """Take the vectors that other generations hold, and write the items that lack no more: they need no provider,
        which may be slow or away. A reindex request means a new embedding, so it takes none.

        Raises LeaseExpired if nothing is written by then.
        """
        wanted = [
            Wanted(step, missing)
            for step in steps
            if not step.item.forced and (missing := got.missing(step))  # guard donor-request-anew
        ]
        parts = list(divided(wanted, GROUP_CHUNKS))  # several only of an item larger than a group
        for part in parts:
            try:
                vectors = self.donors.vectors(part)
            except LeaseExpired:
                if not got.written:
                    raise
                return
            got.vectors.update(vectors)
            # guard donor-failure-touch
            if self.donors.failed and not self._index_answers(steps):
                return
            if vectors and part is not parts[-1]:
                if not self._keep(part[0].step, got):
                    return
                got.vectors.clear()
        # guard donor-complete-before-embed
        self._write([each.step for each in wanted if not got.missing(each.step)], got)

    def _index_answers(self, steps: Sequence[Embed]) -> bool:
        """Whether our collection takes writes, after a donor failed. No vector is paid for that can't be written."""
        try:
            self.index.touch()
        except TransientError as exc:
            self.failed = True
            for step in self._open(steps):
                self.attempt.fails(step.item, exc, certain=not self.attempt.has_begun(step.item))
            return False
        except (PermanentError, SourceError) as exc:
            raise RefusesAll(str(exc)) from exc
        return True

    def _embed(self, steps: Sequence[Embed], got: Got) -> Mapping[ClaimedItem, Held]:
        """Get the vectors. Returns the items that can't have all of theirs now."""
        inputs: dict[str, Input] = {}
        wanting: dict[str, list[Embed]] = {}
        for place, step in enumerate(steps):
            for chunk in got.missing(step):
                one = Input(step.text(chunk), chunk.fingerprint, place, is_tried(step), chunk.lead)
                inputs.setdefault(chunk.fingerprint, one)
                wanting.setdefault(chunk.fingerprint, []).append(step)

        failed: dict[ClaimedItem, ReindexerError] = {}

        def fails(refused: Input, error: ReindexerError) -> None:
            if isinstance(error, RefusesAll):
                self.refusals.note(self.attempt.source, error)  # guard refusal-shared-probe
            if isinstance(error, InputRejected):
                error = cut_smaller(self.attempt.source, refused.lead, refused.text, error, self.embedder.limits)
            for step in wanting[refused.fingerprint]:
                failed.setdefault(step.item, error)

        told = self.refusals.last(self.attempt.source) if inputs else None
        if self.why_not is None and told is None:
            self._ask(steps, list(inputs.values()), got, fails)
        return {
            step.item: Held(step.exchanged_fingerprint, failed.get(step.item, told), *self._reason(step, missing))
            for step in steps
            if (missing := len(got.missing(step)))
        }

    def _ask(
        self, steps: Sequence[Embed], inputs: Sequence[Input], got: Got, fails: Callable[[Input, ReindexerError], None]
    ) -> None:
        """Raises LeaseExpired if no vector could be had in time and nothing is written."""
        parts = list(slices(inputs, GROUP_CHUNKS))  # several only of an item larger than a group
        for part in parts:
            try:
                vectors = embed_inputs(self.embedder, part, fails)
            except LeaseExpired:
                if not got.written:
                    raise
                return
            got.vectors.update(vectors)
            if len(vectors) < len(part):
                return
            if part is not parts[-1]:
                if not self._keep(steps[0], got):
                    return
                got.vectors.clear()

    def _reason(self, step: Embed, missing: int) -> NotNow:
        """Why the item lacks vectors, where no request failed."""
        if self.why_not is not None:
            return self.why_not
        done = len(step.chunks) - missing
        begun = f"{done} of its {len(step.chunks)} chunks are embedded: it goes on from there"
        return NotNow(begun if done else TOO_LATE, "late")

    def _hold(self, steps: Sequence[Embed], held: Mapping[ClaimedItem, Held], got: Got) -> None:
        """Record the items that wait for vectors or have failed. Their available vectors and their payloads are written
        now."""
        for step in steps:
            if held[step.item].may_go_on:
                self._keep(step, got)
        others = [step for step in self._open(steps) if has_other_payload(step)]  # guard payload-beside-old-vector

        def exchange(some: Sequence[Embed]) -> Mapping[str, int]:
            return exchange_payloads(self.index, some)

        exchanged = {step.item for step in self._sent(others, exchange)}
        for step in self._open(steps):
            why = held[step.item]
            if step.item in exchanged or self.attempt.has_begun(step.item):
                why = replace(why, exchanged=step.exchanged_fingerprint)
            self.attempt.hold(step.item, why)

    def _keep(self, step: Embed, got: Got) -> bool:
        """Write the chunks of an item whose vectors exist, so that no other claim embeds them again.

        Returns False if the write did not succeed: the item is then failed or postponed.
        """
        if not got.has_new(step):  # guard begun-long-text-write
            return True
        self.attempt.begin(step.item, len(step.chunks))

        def send(_: Sequence[Embed]) -> Mapping[str, int]:
            return write_chunks(self.index, got.points(self.index, step))

        if not self._sent([step], send):
            return False
        got.note_written(step)
        self.attempt.begin(step.item, len(step.chunks), got.upto(step))
        return True

    def _write(self, steps: Sequence[Step], got: Got) -> None:
        def send(some: Sequence[Step]) -> Mapping[str, int]:
            return write(self.index, some, got.vectors, got.kept, got.written)

        for step in self._sent(steps, send):
            self.attempt.complete(step)

    def _sent(self, steps: Sequence[S], send: Callable[[Sequence[S]], Mapping[str, int]]) -> Sequence[S]:
        """Write to Qdrant. Returns the steps that Qdrant accepted; the others are failed or postponed.

        `send` writes some of the steps. It returns the items whose writes were refused, with the token that Qdrant
        holds.
        """
        if not steps:
            return ()
        if self.refused is not None:
            for step in steps:
                self.attempt.fails(step.item, self.refused, certain=False)  # part of a larger write that failed
            return ()
        try:
            refused = send(steps)
        except (PermanentError, TransientError) as exc:
            # Part of the write may have reached Qdrant, even if no reply came.
            error = self._cause(exc, steps)  # guard refusal-qdrant-neutral-write
            # guard bisect-refused-payload
            if error is exc and len(steps) > 1 and (isinstance(exc, PermanentError) or self._fails_again(exc, steps)):
                half = len(steps) // 2
                return [*self._sent(steps[:half], send), *self._sent(steps[half:], send)]
            self.failed = self.failed or not isinstance(error, PermanentError)
            self.blamed += len(steps) == 1
            for step in steps:
                self.attempt.fails(step.item, error, certain=False)
            return ()
        for step in steps:
            if step.item.item_id in refused:
                self.attempt.postpone(
                    Postponed(
                        step.item, 0.0, "the index holds another write; done again", counts=False, doubtful=True,
                        seen_token=refused[step.item.item_id], cause="fenced",
                    )
                )  # fmt: skip
        return [step for step in steps if step.item.item_id not in refused]

    def _cause(self, error: PermanentError | TransientError, steps: Sequence[Step]) -> ReindexerError:
        """Return why a write failed: `error` itself if its content is to blame, another error if every write fails.

        This sends Qdrant a write that changes nothing. No single item is called refused before that test.
        """
        if isinstance(error, TransientError) and not self._fails_again(error, steps):
            return error
        if self.takes_writes and len(steps) > 1:
            return error
        try:
            self.index.touch()
        except (PermanentError, SourceError) as exc:
            self.refused = RefusesAll(str(exc))
            return self.refused
        except TransientError as exc:
            return exc
        self.takes_writes = True
        return error

    def _fails_again(self, error: TransientError, steps: Sequence[Step]) -> bool:
        """Whether one of several items may be what Qdrant fails on. Qdrant answers, and one of them failed before."""
        if isinstance(error, DependencyUnavailable) or error.retry_after_s is not None:
            return False
        return len(steps) > 1 and self.blamed < MOST_BLAMED and any(map(is_tried, steps))


def is_tried(step: Step) -> bool:
    """Whether the item failed before, so that it may be the cause of a failing request."""
    return step.item.attempts > 1 or step.item.tries_since_failed > 0


def divided(wanted: Sequence[Wanted], most_chunks: int) -> Iterator[Sequence[Wanted]]:
    """Divide what a group wants. A group of several items stays as it is, because it is small."""
    if len(wanted) > 1:
        yield wanted
    elif wanted:
        for chunks in slices(wanted[0].chunks, most_chunks):
            yield [Wanted(wanted[0].step, chunks)]


def groups(steps: Sequence[S], most_chunks: int) -> Iterator[Sequence[S]]:
    """Group consecutive steps. A group has at most `most_chunks` chunks, or is a single step."""
    group: list[S] = []
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
