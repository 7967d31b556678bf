"""What a claim did and when, told in the traces of the transactions whose items it worked on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import psycopg
import structlog

from reindexer.core.errors import ReindexerError
from reindexer.core.timer import Timer
from reindexer.core.trace import Attribute, Place, Work
from reindexer.postgres.connect import Postgres, one_line
from reindexer.queue.claim import Claim
from reindexer.queue.marks import places
from reindexer.tracing.process import Traces, traces

log = structlog.get_logger(__name__)

MAX_TRACES = 16
"""In so many traces a claim is told. Spans say how many were left out."""
MAX_PARTS = 40
"""So many requests of a claim are told. Spans say how many were left out."""
MAX_NAMED = 10
"""So many items of one transaction are named in a span."""
TELL_S = 60.0

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
def traced(postgres: Postgres, claim: Claim, took_s: float) -> Iterator[TracedClaim]:
    """Around the work on a claim, which it took `took_s` seconds to get: it is told in its items' traces when it is
    over, and log lines of this thread carry the id of the oldest.

    Without traces this asks nothing; with traces, once which items belong to some.
    """
    to = traces()
    if to is None:  # guard trace-lookup-only-when-on
        yield TracedClaim(UNTOLD)
        return
    taken_ns = time.time_ns()
    began_ns = taken_ns - int(took_s * 1_000_000_000)
    found = _places(postgres, claim)
    if not found:
        yield TracedClaim(UNTOLD)
        return
    steps = RecordedSteps()
    steps.add(Work("claim", began_ns, taken_ns))
    told = TracedClaim(steps)
    by_place = _items_by_place(found)
    with structlog.contextvars.bound_contextvars(trace_id=next(iter(by_place)).trace_id):
        try:
            yield told
        finally:
            _tell(to, claim, steps, by_place, told.outcomes(), began_ns)


_tell_timer = Timer(TELL_S)


def _places(postgres: Postgres, claim: Claim) -> Sequence[tuple[str, Place]]:
    versions = {item.item_id: item.version for item in claim.items}
    try:
        with postgres.connection() as connection:
            return places(connection, claim.source, claim.generation, versions)
    except (ReindexerError, psycopg.Error) as exc:  # no trace is worth an item
        if _tell_timer.due(time.monotonic()):
            log.warning("traces_skipped", source=claim.source, error=one_line(exc))
        return ()


def _items_by_place(found: Sequence[tuple[str, Place]]) -> Mapping[Place, list[str]]:
    """The items of each transaction, the oldest first: one span tells of all of them."""
    by_place: dict[Place, list[str]] = {}
    for item_id, place in found:
        by_place.setdefault(place, []).append(item_id)
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
