"""What a claim did and when, told in the traces of the transactions whose items it worked on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import structlog

from reindexer.core.errors import ReindexerError
from reindexer.core.trace import Attribute, Place, Work, place_of
from reindexer.queue.claim import Claim
from reindexer.tracing.process import Traces, traces

MAX_TRACES = 16
"""In so many traces a claim is told. Spans say how many were left out."""
MAX_PARTS = 40
"""So many requests of a claim are told. Spans say how many were left out."""
MAX_NAMED = 10
"""So many items of one transaction are named in a span."""

Outcome = tuple[str, str | None, int]
"""What became of an item, why it failed or waits, and how often it was tried."""


class Steps:
    """The steps of a claim. Records nothing: nobody wants to know."""

    def step(self, name: str, count: int = 0) -> AbstractContextManager[None]:  # noqa: ARG002
        """Around one step. `count`: texts or points."""
        return _NOTHING


_NOTHING = nullcontext()
UNTOLD = Steps()


class RecordedSteps(Steps):
    """The steps of a claim, with their times."""

    def __init__(self) -> None:
        self.parts: list[Work] = []
        self.left_out = 0

    @contextmanager
    def step(self, name: str, count: int = 0) -> Iterator[None]:
        """See `Steps.step`."""
        began_ns, error = time.time_ns(), None
        try:
            yield
        except ReindexerError as exc:
            error = str(exc)
            raise
        except BaseException as exc:
            error = type(exc).__name__  # its text may quote a row
            raise
        finally:
            self.add(Work(name, began_ns, time.time_ns(), {"reindexer.count": count} if count else {}, error))

    def add(self, work: Work) -> None:
        """Record a step that is over. The first and the last ones are kept."""
        self.parts.append(work)
        if len(self.parts) > MAX_PARTS:  # guard trace-bounded-parts
            del self.parts[MAX_PARTS // 2]
            self.left_out += 1


class TracedClaim:
    """One claim, as it is told in its items' traces, once it is settled."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.outcomes: Callable[[], Mapping[str, Outcome]] = dict
        """What became of the items, by id. An item that is missing is another claim's by now."""


@contextmanager
def traced(claim: Claim, took_s: float) -> Iterator[TracedClaim]:
    """Around the work on a claim, which it took `took_s` seconds to get: it is told in its items' traces when it is
    over, and log lines of this thread carry the id of the oldest.

    The claim brought which items belong to some: nothing is asked.
    """
    to = traces()
    if to is None:
        yield TracedClaim(UNTOLD)
        return
    taken_ns = time.time_ns()
    began_ns = taken_ns - int(took_s * 1_000_000_000)
    by_place = _items_by_place(claim)
    if not by_place:
        yield TracedClaim(UNTOLD)
        return
    steps = RecordedSteps()
    steps.add(Work("claim", began_ns, taken_ns))
    told = TracedClaim(steps)
    with structlog.contextvars.bound_contextvars(trace_id=next(iter(by_place)).trace_id):
        try:
            yield told
        finally:
            _tell(to, claim, steps, by_place, told.outcomes(), began_ns)


def _items_by_place(claim: Claim) -> Mapping[Place, list[str]]:
    """The items of each transaction, the oldest first: one span tells of all of them."""
    found = list[tuple[int, str, str]]()
    for item in claim.items:
        for trace in item.traces:
            xact, _, traceparent = trace.partition(" ")
            found.append((int(xact), item.item_id, traceparent))
    by_place: dict[Place, list[str]] = {}
    for _, item_id, traceparent in sorted(found):
        if (place := place_of(traceparent)) is not None and item_id not in by_place.setdefault(place, []):
            by_place[place].append(item_id)
    return by_place


def _tell(
    to: Traces, claim: Claim, steps: RecordedSteps, by_place: Mapping[Place, list[str]],
    outcomes: Mapping[str, Outcome], began_ns: int,
) -> None:  # fmt: skip
    ended_ns = time.time_ns()
    for place, item_ids in list(by_place.items())[:MAX_TRACES]:  # guard trace-bounded-traces
        became = [outcomes.get(item_id, ("lost", "another claim has it by now", 0)) for item_id in item_ids]
        errors = [error for _, error, _ in became if error]
        attributes: dict[str, Attribute] = {
            "reindexer.source": claim.source,
            "reindexer.generation": claim.generation,
            "reindexer.lane": str(claim.lane),
            "reindexer.claim.items": len(claim.items),
            "reindexer.items": len(item_ids),
            "reindexer.item_ids": item_ids[:MAX_NAMED],
            "reindexer.outcome": ", ".join(sorted(Counter(outcome for outcome, _, _ in became))),
            "reindexer.attempts": max(attempts for _, _, attempts in became),
        }
        if steps.left_out:
            attributes["reindexer.claim.steps_left_out"] = steps.left_out
        if len(by_place) > MAX_TRACES:
            attributes["reindexer.claim.traces_left_out"] = len(by_place) - MAX_TRACES
        mine = set(item_ids)
        others = [each for each, ids in by_place.items() if each != place and mine.intersection(ids)]
        to.tell(
            place,
            Work("index", began_ns, ended_ns, attributes, errors[0] if errors else None, steps.parts),
            others[:MAX_TRACES],
        )
