"""Make a generation, start its fill, and drop it.

The order matters, as in `attach`. First the generation's row and the trigger functions that record its columns commit
together: from then on each change is made due for it as well. Then every transaction that may have run the former
functions must end. Only the fill that starts after that sees all they wrote. A process that dies between these steps
leaves a generation without a run, and the listener goes on with it (`start_fills`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import structlog
from psycopg.types.json import Jsonb

from reindexer import budgets
from reindexer.audit import Action, audited, note
from reindexer.core.errors import GenerationConflict, SourceError, UsageError
from reindexer.core.source import Source
from reindexer.postgres import catalog, triggers
from reindexer.postgres.catalog import Facts
from reindexer.postgres.connect import Connection
from reindexer.postgres.locks import changing_triggers, changing_triggers_if_free
from reindexer.postgres.queries import load
from reindexer.sources import condition
from reindexer.sources.store import find_source
from reindexer.sources.trigger_check import recorded, trigger_hash
from reindexer.tracing import current

log = structlog.get_logger(__name__)

State = Literal["filling", "ready", "active", "standby", "broken", "dropped"]

UNDER_WAY: tuple[State, ...] = ("filling", "ready")
PRUNABLE: tuple[State, ...] = ("standby", "broken")

WRITERS_END_WITHIN_S = 60.0
"""How long whoever starts a rebuild waits for transactions that began before. Then the listener goes on with it."""


@dataclass(frozen=True, slots=True)
class Made:
    """A generation that was made, and the run that fills it."""

    number: int
    run_id: int


def rebuild(
    connection: Connection, wanted: Source, embedder: str, *, who: str, is_free: Callable[[int], bool] = lambda _: True,
    max_usd: float | None = None,
) -> Made:  # fmt: skip
    """Make the next generation of a source by a definition, and start its fill. Writers do not wait.

    `embedder` is the fingerprint of the embedder that makes its vectors. `is_free` tells whether a number's collection
    is not there yet: an earlier life of the source may have left one. Once the fill has cost `max_usd`, its items wait.
    Raises UsageError if the definition does not fit, GenerationConflict if a generation is under way already,
    SourceError if the trigger functions can't be changed.
    """
    with changing_triggers(connection):
        number = _make(connection, wanted, embedder, who, is_free, max_usd)
        run_id = start_fill(connection, wanted.name, number)
        if run_id is None:
            raise GenerationConflict(f"somebody else cancelled generation {number} of {wanted.name!r} just now")
        return Made(number, run_id)


def _make(
    connection: Connection, wanted: Source, embedder: str, who: str, is_free: Callable[[int], bool],
    max_usd: float | None,
) -> int:  # fmt: skip
    with audited(connection, who, "rebuild", wanted.name) as draft:
        states = hold(connection, wanted.name)
        active = find_source(connection, wanted.name)
        _require_same_items(active, wanted)
        for each, state in states.items():
            if state in UNDER_WAY:  # guard rebuild-one-at-a-time
                raise GenerationConflict(
                    f"generation {each} of {wanted.name!r} is {state}: "
                    + ("wait for it or cancel it" if state == "filling" else "promote it or prune it")
                )
        number = max(states) + 1
        while not is_free(number):  # guard rebuild-free-number
            number += 1
        named: dict[str, Any] = {"source": wanted.name, "number": number, "embedder": embedder}
        budgets.begin_run(connection, wanted.name, max_usd)
        connection.execute(load("generations.sql")["make"], named | {"definition": Jsonb(wanted.as_document())})
        refit(connection, wanted.name)
        draft.details |= {"generation": number, "embedder": embedder}
        if max_usd is not None:
            draft.details["max_usd"] = max_usd
    return number


def _require_same_items(active: Source, wanted: Source) -> None:
    """Two generations of a source hold the same items. Raises UsageError."""
    for what, one, other in (
        ("table", f"{active.table_schema}.{active.table_name}", f"{wanted.table_schema}.{wanted.table_name}"),
        ("key", ", ".join(active.key_columns), ", ".join(wanted.key_columns)),
        ("alias", active.alias, wanted.alias),
    ):
        if one != other:
            raise UsageError(
                f"source {active.name!r}: a generation can't have another {what} ({other} instead of {one}): detach "
                "the source and attach it anew"
            )


def hold(connection: Connection, source: str) -> dict[int, State]:
    """Lock the source's generations, and return their states by number. Raises UsageError if there is no such
    source."""
    connection.execute(load("sources.sql")["hold_generations"], {"name": source})
    rows = connection.execute(load("generations.sql")["states"], {"source": source}).fetchall()
    states: dict[int, State] = dict(rows)
    if not states:
        find_source(connection, source)
    return states


def refit(connection: Connection, source: str) -> None:
    """Bring the trigger functions to the columns that the kept generations declare. Call it in the transaction that
    changed which they are.

    Raises SourceError if another version made the triggers, or if a right is missing.
    """
    active = find_source(connection, source)
    if not triggers.functions_differ(connection, active):
        return
    was = recorded(connection, active)
    if was is None or was.hash != trigger_hash(active):
        raise SourceError(f"source {source!r}: its triggers are another version's; run `reindexer migrate` first")
    before = catalog.facts(connection, active)
    triggers.replace_functions(connection, active)
    after = catalog.facts(connection, active)
    connection.execute(
        load("generations.sql")["record_function_facts"],
        {"source": source, "was": Jsonb(_of_functions(before)), "functions": Jsonb(_of_functions(after))},
    )


def _of_functions(facts: Facts) -> dict[str, str]:
    return {subject: fact for subject, fact in facts.items() if subject.startswith("functions")}


def _refit_if_possible(connection: Connection, source: str) -> None:
    """Functions that compare more than they need do no harm. The trigger check tells whoever may mend them."""
    try:
        with connection.transaction():
            refit(connection, source)
    except SourceError as exc:
        log.warning("functions_kept", source=source, error=str(exc))


def start_fill(
    connection: Connection, source: str, number: int, *, give_up_after_s: float = WRITERS_END_WITHIN_S
) -> int | None:
    """Start the fill of a generation. Returns its run; None if it has one, or is no longer to be filled.

    Waits until every transaction has ended that may have written without recording the generation's columns. Raises
    SourceError if that takes too long.
    """
    active, ours = find_source(connection, source), find_source(connection, source, number)
    if lacking := triggers.lacking(catalog.relations(connection, active)):
        # guard rebuild-related-triggers
        triggers.install(connection, active, lacking, give_up_after_s=give_up_after_s)
        new = Jsonb(catalog.facts(connection, active))
        connection.execute(load("generations.sql")["record_new_facts"], {"source": source, "facts": new})
    if not set(ours.declared_columns) <= set(active.declared_columns) or not {*ours.followed} <= {*active.followed}:
        triggers.wait_for_writers(connection, active, give_up_after_s=give_up_after_s)  # guard rebuild-awaits-writers
    total, is_estimate = condition.count(connection, ours, None)
    with connection.transaction():
        named: dict[str, Any] = {"source": source, "generation": number}
        facts = catalog.facts(connection, ours)
        connection.execute(load("generations.sql")["record_facts"], named | {"facts": Jsonb(facts)})
        named |= {"total": total, "total_is_estimate": is_estimate, "traceparent": current.traceparent()}
        row = connection.execute(load("generations.sql")["start_fill"], named).fetchone()
    return int(row[0]) if row else None


def start_fills(connection: Connection) -> list[tuple[str, int]]:
    """Start the fills that nobody started. Returns those generations, by source and number.

    One that can't be started yet, because a transaction holds its table, holds up no other.
    """
    found = connection.execute(load("generations.sql")["not_begun"]).fetchall()
    started = []
    for source, number in found:
        try:
            with changing_triggers_if_free(connection) as is_free:  # guard fill-start-no-wait
                if not is_free:
                    break  # whoever made it may be on the way
                if start_fill(connection, source, number, give_up_after_s=0) is not None:
                    started.append((source, number))
        except (SourceError, UsageError) as exc:  # guard fill-start-others
            log.warning("fill_delayed", source=source, generation=number, error=str(exc))
    return started


def cancel(connection: Connection, source: str, *, who: str) -> int:
    """Drop the generation that is being filled. Returns its number. Raises GenerationConflict if there is none."""
    return _drop(connection, source, ("filling",), "rebuild_cancel", who, f"no rebuild of {source!r} is open")[0]


def prune(connection: Connection, source: str, *, who: str, number: int | None = None) -> list[int]:
    """Drop the generations that are kept as a way back, those that are broken and, if it is named, one that is ready.

    Returns their numbers. Raises GenerationConflict if there is none, or if the named one can't be dropped.
    """
    if number is None:
        none = f"no generation of {source!r} is kept beside the one that searches use"
        return _drop(connection, source, PRUNABLE, "prune", who, none)
    with connection.transaction():
        state = hold(connection, source).get(number)
        if state == "active":  # guard prune-active-refusal
            raise GenerationConflict(f"generation {number} of {source!r} is the one that searches use")
        if state == "filling":
            raise GenerationConflict(f"generation {number} of {source!r} is being filled; cancel that instead")
        if state in (None, "dropped"):
            raise GenerationConflict(f"there is no generation {number} of {source!r}")
        return _drop(connection, source, (*PRUNABLE, "ready"), "prune", who, "", only=number)


def _drop(
    connection: Connection, source: str, states: tuple[State, ...], action: Action, who: str, none: str,
    only: int | None = None,
) -> list[int]:  # fmt: skip
    with audited(connection, who, action, source) as draft:
        found = hold(connection, source)
        numbers = [each for each, state in found.items() if state in states and only in (None, each)]
        if not numbers:
            raise GenerationConflict(none)
        for each in numbers:
            leave(connection, source, each, "dropped")
        _refit_if_possible(connection, source)
        draft.details["generations"] = numbers
    return numbers


def leave(connection: Connection, source: str, number: int, state: State, problem: str | None = None) -> None:
    """Record no more changes for a generation: it is `dropped` or `broken`. The caller refits the functions."""
    named = {"source": source, "generation": number, "state": state, "problem": problem}
    connection.execute(load("generations.sql")["drop"], named)


def break_(connection: Connection, source: str, number: int, problem: str) -> None:
    """Give a generation up that can't be kept up to date any more. It can only be pruned."""
    with connection.transaction():
        hold(connection, source)
        leave(connection, source, number, "broken", problem)
        _refit_if_possible(connection, source)
        note(connection, "the listener", "generation_broken", source, {"generation": number, "problem": problem})


def drop_expired(connection: Connection) -> list[tuple[str, int]]:
    """Drop the standbys whose time is over. Returns them, by source and number."""
    queries = load("generations.sql")
    dropped = []
    for source, number in connection.execute(queries["expired"]).fetchall():
        with connection.transaction():
            hold(connection, source)
            # Somebody may have gone back to it meanwhile.
            if (source, number) in connection.execute(queries["expired"]).fetchall():  # guard standby-still-over
                _drop(connection, source, ("standby",), "prune", "the listener", "", only=number)
                dropped.append((source, number))
    return dropped
