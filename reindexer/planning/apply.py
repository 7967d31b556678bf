"""Apply: does what a plan says, and nothing else.

Every step looks first whether it is done, so that a process that is killed anywhere may be followed by another one. A
plan is refused as a whole, before anything is changed, if a source is neither as the plan found it nor as it makes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from reindexer import audit, rebuilding, wiring
from reindexer.core.change_plan import Plan, SourcePlan
from reindexer.core.errors import (
    ChangedMeanwhile,
    PermanentError,
    ReindexerError,
    SourceError,
    TransientError,
    UsageError,
)
from reindexer.core.redefinition import changes
from reindexer.core.source import Source
from reindexer.generations import lifecycle
from reindexer.index.ownership import identity
from reindexer.planning.drift import find_drift, mend
from reindexer.planning.survey import generations_under_way, state_of
from reindexer.ports import Index
from reindexer.postgres.connect import Connection, one_line
from reindexer.postgres.locks import changing_triggers
from reindexer.postgres.schema import REVISION, require_schema
from reindexer.settings import Settings
from reindexer.sources.attach import attach
from reindexer.sources.built_in import is_built_in, make_table
from reindexer.sources.detach import detach
from reindexer.sources.store import find_attached, find_source
from reindexer.sources.trigger_check import inspect


@dataclass(frozen=True, slots=True)
class Step:
    """What was done to one source."""

    source: str
    told: str
    failed: bool = False


def require_price(plan: Plan, most: float) -> None:
    """Raises UsageError if a plan may cost more than `most` dollars, or if nobody knows."""
    dollars = plan.dollars
    if dollars is None:
        raise UsageError(
            "--max-usd: the price of this plan is not known; set REINDEXER_PRICE_PER_MILLION_TOKENS, and plan again"
        )
    if dollars.high > most:  # guard plan-most-dollars
        raise UsageError(
            f"this plan may cost ${dollars.high:.4f}, which is more than --max-usd {most:g}; nothing was changed"
        )


def require_same_database(connection: Connection, settings: Settings, plan: Plan) -> None:
    """Raises UsageError if the plan was made of another database, or by a version with another schema."""
    here = identity(connection, settings.instance)
    if here and plan.database and here != plan.database:  # guard plan-same-database
        raise UsageError(
            f"this plan was made of another database ({plan.database}; this is {here}); nothing was changed"
        )
    if plan.needs_revision != REVISION:
        raise UsageError("this plan was made by another version of the program; plan again with this one")


def apply(settings: Settings, connection: Connection, plan: Plan, *, who: str) -> Iterator[Step]:
    """Do what the plan says, source by source. Yields each step when it is done; an error of one stops no other.

    Raises ChangedMeanwhile, before anything is changed, if a source is no longer as the plan found it.
    """
    require_schema(connection)
    to_do = [each for each in plan.sources if not each.is_empty]
    moved = [each.name for each in to_do if not _is_expected(connection, each)]
    if moved:  # guard plan-same-world
        raise ChangedMeanwhile(
            f"the database is no longer as the plan found it ({', '.join(moved)}); nothing was changed; plan again"
        )
    index = wiring.index(settings) if any(map(_needs_index, to_do)) else None
    for each in to_do:
        try:
            told = _applied(settings, connection, index, each, who)
        except ReindexerError as exc:
            yield Step(each.name, one_line(exc), failed=True)
            continue
        yield Step(each.name, told, failed=each.action == "adopt")


def _needs_index(plan: SourcePlan) -> bool:
    return plan.action == "rebuild" or any(each.kind != "triggers" for each in plan.drift)


def _is_expected(connection: Connection, plan: SourcePlan) -> bool:
    """Whether the source is as the plan found it, or as the plan makes it: an earlier process may have begun."""
    return state_of(connection, plan.name) == plan.rests_on or _is_done(connection, plan)


def _is_done(connection: Connection, plan: SourcePlan) -> bool:
    attached, wanted = find_attached(connection, plan.name), plan.source
    if plan.action == "detach":
        return attached is None
    if attached is None or wanted is None:
        return False
    if plan.action == "rebuild":
        return _is_promoted(attached, plan) or _under_way(connection, plan) is not None
    return plan.action in ("add", "change") and not changes(attached, wanted) and attached.alias == wanted.alias


def _is_promoted(attached: Source, plan: SourcePlan) -> bool:
    return plan.source is not None and not changes(attached, plan.source) and plan.embedder == attached.made_by


def _under_way(connection: Connection, plan: SourcePlan) -> Source | None:
    """The generation that an earlier process made for the plan."""
    wanted = plan.source
    for each in generations_under_way(connection, plan.name):
        if wanted is not None and not changes(each, wanted) and plan.embedder in (None, each.made_by):
            return each
    return None


def _applied(settings: Settings, connection: Connection, index: Index | None, plan: SourcePlan, who: str) -> str:
    told = []
    if plan.action == "detach":
        return _detached(settings, connection, plan, who)
    if plan.action == "adopt":
        return f"not done by apply: {plan.problem}"
    for drift in plan.drift if find_attached(connection, plan.name) else ():
        if drift.kind == "triggers" and plan.action == "change":
            continue  # which makes them anew
        mend(connection, index, find_source(connection, plan.name), drift, settings.instance)
        told.append(f"mended: {drift.told}")
    if plan.action in ("add", "change"):
        told.append(_attached(connection, plan, who))
        if plan.action == "change":
            _make_indexes(settings, connection, plan)
    elif plan.action == "rebuild" and index is not None:
        told.append(_rebuilt(settings, connection, index, plan, who))
    return "; ".join(told)


def _make_indexes(settings: Settings, connection: Connection, plan: SourcePlan) -> None:
    """Make the indexes over new payload columns at once. If that fails, a worker makes them before it writes."""
    with suppress(UsageError, TransientError, PermanentError, SourceError):
        index, source = wiring.index(settings), find_source(connection, plan.name)
        for drift in find_drift(connection, index, source, inspect(connection, source)):
            if drift.kind == "payload_index":  # guard plan-new-payload-index
                mend(connection, index, source, drift, settings.instance)


def _attached(connection: Connection, plan: SourcePlan, who: str) -> str:
    wanted = plan.source
    assert wanted is not None
    with changing_triggers(connection):
        if not _is_expected(connection, plan):
            raise ChangedMeanwhile(f"somebody else changed the source {plan.name!r} just now; plan again")
        before = find_attached(connection, plan.name)
        if before is None and is_built_in(wanted):
            make_table(connection)
        done = attach(connection, wanted)
    if not done.changed:
        return "is so already"
    table = f"{wanted.table_schema}.{wanted.table_name}"
    details = {"table": table, "new": before is None, "changes": list(plan.changes)}
    audit.note(connection, who, "attach", plan.name, details)
    return "attached; a fill is started" if before is None else "changed; a fill is started"


def _rebuilt(settings: Settings, connection: Connection, index: Index, plan: SourcePlan, who: str) -> str:
    if (begun := _under_way(connection, plan)) is not None:  # guard plan-rebuild-once
        with suppress(SourceError), changing_triggers(connection):  # the listener goes on with it
            lifecycle.start_fill(connection, plan.name, begun.generation)
        return f"generation {begun.generation} is being rebuilt so already"
    wanted, attached = plan.source, find_source(connection, plan.name)
    assert wanted is not None
    if _is_promoted(attached, plan):
        return "is so already"
    source = wanted.in_place_of(attached)
    made = rebuilding.rebuild_as(
        settings, connection, index, replace(source, made_by=None), who=who, makes=plan.embedder
    )
    return f"generation {made.number} is being filled; then: reindexer promote {plan.name}"


def _detached(settings: Settings, connection: Connection, plan: SourcePlan, who: str) -> str:
    source = find_attached(connection, plan.name)
    if source is None:
        return "is detached already"
    detach(connection, source, who=who, lease_s=settings.lease_s)
    return f"detached; its collection {source.collection} is left in Qdrant"
