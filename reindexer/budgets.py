"""Budgets: what may be spent by a day, a month or a run, and what waits once that is used up.

Whoever reserves tokens for a request asks them (`require`). The one for which too little is left closes its budget:
claims then leave the items alone that need nothing but an embedding, as they do while a provider does not answer. The
listener opens it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import structlog

from reindexer.audit import audited
from reindexer.core.budget import MICRO, NEARLY, Budget, Kind, Period
from reindexer.core.errors import MayNotSpend, OverBudget, UsageError
from reindexer.core.spend import Charged, Purpose
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load

log = structlog.get_logger(__name__)

PARTS = 1000
"""A process sets aside at most this part of a budget beyond what its next request may cost."""
MAX_USD = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Grant:
    """What a process may set aside."""

    tokens: int
    most: int | None = None
    """How much it may keep without use. None: no budget says."""


def kind_of(purpose: Purpose) -> Kind:
    """Which budgets requests for a purpose count against."""
    return "search" if purpose == "search" else "indexing"


def grant(connection: Connection, charged: Charged, purpose: Purpose, tokens: int, more: int) -> Grant | OverBudget:
    """Return what a process may set aside for a request that may cost `tokens`: as many, and up to `more` beyond.

    The caller is in a transaction, in which it reserves them. An OverBudget it raises after the commit: the budget
    for which too little is left is closed. Raises MayNotSpend if a budget would stop the request, and its price is not
    known.
    """
    named = {"source": charged.source, "kind": kind_of(purpose), "purpose": purpose}
    row = connection.execute(load("budgets.sql")["lock"], named).fetchone()
    if row is None or not row[0]:
        return Grant(tokens + more)
    found = [_left(row) for row in connection.execute(load("budgets.sql")["of"], named).fetchall()]
    binding = [(budget, left) for budget, left in found if budget.stops(purpose)]
    if charged.price is None and binding:
        raise MayNotSpend(
            f"the price of {charged.model!r} is not known, so {_named(binding[0][0])} can't hold: name it in the"
            " file of REINDEXER_PRICES, as 0 if it costs nothing"
        )
    price = Decimal(str(charged.price or 0))
    if not price:
        return Grant(tokens + more)
    short = [budget for budget, left in binding if left < tokens * price]  # guard budget-holds
    for budget in short:
        where = {"source": budget.source, "kind": budget.kind, "period": budget.period, "wanted": tokens * price}
        connection.execute(load("budgets.sql")["close"], where)
        if not budget.is_closed:
            log.warning("budget_exhausted", budget=_named(budget), usd=budget.usd)
    if short:
        return OverBudget(str(short[0]))
    for budget, _ in binding:
        if budget.is_closed:  # guard budget-part-fits
            where = {"source": budget.source, "kind": budget.kind, "period": budget.period, "wanted": tokens * price}
            connection.execute(load("budgets.sql")["fits"], where)
    part = min([more, *(int(Decimal(str(budget.usd)) * MICRO / PARTS / price) for budget, _ in found)])
    beyond = min([part, *(int(left / price) - tokens for _, left in binding)])
    return Grant(tokens + beyond, most=part)


def over(connection: Connection, source: str, purpose: Purpose) -> OverBudget | None:
    """Return why requests for this purpose wait. None: no budget that stops them is closed."""
    named = {"source": source, "kind": kind_of(purpose), "purpose": purpose}
    found = [_left(row)[0] for row in connection.execute(load("budgets.sql")["of"], named).fetchall()]
    return next((OverBudget(str(each)) for each in found if each.is_closed and each.stops(purpose)), None)


def all_budgets(connection: Connection) -> list[Budget]:
    """Return every budget, by source, kind and period."""
    return [_left(row)[0] for row in connection.execute(load("budgets.sql")["all"]).fetchall()]


def reopen(connection: Connection) -> None:
    """Open the budgets again of which enough is left."""
    for row in connection.execute(load("budgets.sql")["open"]).fetchall():
        log.info("budget_opened", budget=_named(_left(row)[0]))


def tell_nearly_used(connection: Connection) -> None:
    """Log which budgets are nearly used up, once in each period; and end those of runs that have ended."""
    connection.execute(load("budgets.sql")["end_of_runs"])
    for row in connection.execute(load("budgets.sql")["nearly"], {"part": NEARLY}).fetchall():
        budget = _left(row)[0]
        log.warning("budget_nearly_used", budget=_named(budget), usd=budget.usd, used=round(budget.used_usd, 6))


def set_budget(
    connection: Connection,
    *,
    who: str,
    kind: Kind,
    period: Period,
    usd: float | None,
    source: str = "",
    stops_edits: bool | None = None,
) -> None:
    """Let as many dollars be spent in a period; None: any number. It holds from each process's next reservation on.

    `stops_edits` None: as before, or not. Raises UsageError if it is no amount, or of a run and about more than a run.
    """
    if usd is not None:
        _require_amount(usd)
    if period == "run" and (not source or kind == "search"):
        raise UsageError("a run is of one source, and searches for nobody: name the source")
    if period == "run" and stops_edits:  # guard budget-run-no-edits
        raise UsageError("a run's budget does not count edits, so it can't stop them: name a day's or a month's")
    named: dict[str, Any] = {"source": source, "kind": kind, "period": period}
    with audited(connection, who, "budget", source or None) as draft:
        draft.details |= {"kind": kind, "period": period, "usd": usd, "stops_edits": stops_edits}
        if usd is None:
            connection.execute(load("budgets.sql")["remove"], named)
        else:
            connection.execute(load("budgets.sql")["set"], named | {"usd": usd, "stops_edits": stops_edits})
        if period == "run" and usd is not None:
            connection.execute(load("budgets.sql")["end_of_runs"])
            if not any(each.source == source and each.period == "run" for each in all_budgets(connection)):
                raise UsageError(f"neither a backfill nor a rebuild of {source!r} is open")


def begin_run(connection: Connection, source: str, usd: float | None) -> None:
    """Set what the run that begins now may spend. The caller is in the transaction that starts it, and has not yet."""
    connection.execute(
        load("budgets.sql")["lock_run"], {"source": source}
    )  # one of an earlier run can't be passed over
    connection.execute(load("budgets.sql")["end_of_runs"])
    if usd is not None:
        _require_amount(usd)
        named = {"source": source, "kind": "indexing", "period": "run", "usd": usd, "stops_edits": None}
        connection.execute(load("budgets.sql")["set"], named)


def require_spender(connection: Connection, identity: str | None) -> None:
    """Require that this database is the one that spends: the first that did. Raises MayNotSpend in a copy of it."""
    if identity is None:  # the role may not ask
        return
    holder = hold_spender(connection, identity)
    if holder != identity:  # guard spender-copy-refusal
        raise MayNotSpend(
            f"this database is a copy of {holder}, and would spend on the same account; if it may: reindexer adopt"
        )


def hold_spender(connection: Connection, identity: str) -> str | None:
    """Write this database down as the one that spends and sends events, unless there is one. Returns which it is."""
    connection.execute(load("budgets.sql")["spends"], {"identity": identity})
    return spender(connection)


def spender(connection: Connection) -> str | None:
    """Return the name of the database that spends. None: none did yet."""
    row = connection.execute(load("budgets.sql")["spender"]).fetchone()
    return row[0] if row else None


def adopt_spender(connection: Connection, identity: str) -> None:
    """Let this database spend, in the place of the one that it is a copy of."""
    connection.execute(load("budgets.sql")["adopt"], {"identity": identity})


def _require_amount(usd: float) -> None:
    if not 0 <= usd < MAX_USD:
        raise UsageError(f"a budget is an amount of dollars from 0 to {MAX_USD:,}")


def _named(budget: Budget) -> str:
    whose = budget.source or "all sources"
    return f"the {budget.period}'s budget for {budget.kind} of {whose}"


def _left(row: Sequence[Any]) -> tuple[Budget, Decimal]:
    """A budget, and how many micro-dollars are left of it."""
    source, kind, period, micro_dollars, used, stops_edits, begins, is_closed = row
    budget = Budget(
        source, kind, period, float(micro_dollars / MICRO), float(used / MICRO), stops_edits, begins, is_closed
    )
    return budget, micro_dollars - used
