"""A plan: what would make the database and the index what the sources file and the settings say, and what that costs.

Plain data, and the document that `reindexer plan --out` writes and `reindexer apply` reads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

from reindexer.core.errors import UsageError
from reindexer.core.source import Source
from reindexer.core.token_range import Range

FORM = 1
"""Of the document. A version that writes another form does not read this one."""

Action = Literal["add", "change", "rebuild", "adopt", "detach", "nothing"]
DriftKind = Literal["triggers", "alias", "collection", "payload_index"]


@dataclass(frozen=True, slots=True)
class Drift:
    """Something that is no longer as this program made it."""

    kind: DriftKind
    generation: int
    told: str
    """What is wrong, in one line."""


@dataclass(frozen=True, slots=True)
class Standby:
    """What it costs to keep the former generation as a way back."""

    hours: float
    """How long it is kept after the promotion."""
    embedder: str
    tokens_per_1000_edits: Range
    dollars_per_1000_edits: Range | None
    disk: Range
    """Bytes in Qdrant, beside those of the new generation."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What an action takes. Sizes are in bytes."""

    rows: int
    """Items that are looked at."""
    is_estimate: bool
    """The table is large: figures are extrapolated from a sample."""
    items: Range
    """Items that are embedded."""
    points: Range
    """Chunks that are embedded."""
    tokens: Range
    counted_by: str
    dollars: Range | None
    """None: the price is not known."""
    minutes: float | None
    """By the rate at which items were embedded before, or by the provider's limit. None: neither is known."""
    disk: Range
    """Growth in Qdrant."""
    ledger_rows: int
    ledger_size: int
    due_rows: int
    """The most that wait at once: a fill is queued in pages."""
    due_size: int
    unreadable: int = 0
    """Rows that can't be read, and will end as FAILED."""
    standby: Standby | None = None

    def and_also(self, other: Cost) -> Cost:
        """Return the cost of both."""
        return replace(
            self,
            items=self.items + other.items,
            points=self.points + other.points,
            tokens=self.tokens + other.tokens,
            dollars=self.dollars + other.dollars if self.dollars is not None and other.dollars is not None else None,
            disk=self.disk + other.disk,
        )


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """What is to be done to one source."""

    name: str
    action: Action
    why: tuple[str, ...] = ()
    """Of a rebuild: why it can't be made in place. Of `nothing`: what is so already."""
    changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    """Keys of the definition, before and after."""
    moved: str | None = None
    """How many rows enter the index or leave it, where a change could move some."""
    alias: str = ""
    definition: Mapping[str, Any] | None = None
    """What the source is to be, as the database keeps it. None where it stays."""
    embedder: str | None = None
    """What makes its vectors afterwards. None: not known here."""
    cost: Cost | None = None
    locks: tuple[str, ...] = ()
    """Tables of the user's on which writers wait for a moment."""
    drift: tuple[Drift, ...] = ()
    problem: str | None = None
    """Why nothing can be done to it, or what has to be done first."""
    rests_on: str = ""
    """A hash of what the database said of the source."""

    @property
    def source(self) -> Source | None:
        """What the source is to be."""
        return None if self.definition is None else Source.from_document(self.name, self.alias, self.definition)

    @property
    def is_empty(self) -> bool:
        """Whether `apply` has nothing to do to it."""
        return self.action == "nothing" and not self.drift


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done to all sources."""

    database: str | None
    """The identity of the database. None: the role may not ask."""
    found_revision: str | None
    needs_revision: str
    sources: tuple[SourcePlan, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return self.found_revision == self.needs_revision and all(each.is_empty for each in self.sources)

    @property
    def tokens(self) -> Range:
        """Of all sources."""
        return sum((each.cost.tokens for each in self.sources if each.cost), Range())

    @property
    def dollars(self) -> Range | None:
        """Of all sources. None: a price is not known."""
        total = Range()
        for cost in (each.cost for each in self.sources if each.cost):
            if cost.dollars is None:
                if cost.tokens.high:
                    return None
                continue
            total += cost.dollars
        return total

    def as_document(self) -> dict[str, Any]:
        """Return the plan as JSON values, with a hash over all of it."""
        dollars = self.dollars
        body = {
            "form": FORM,
            "empty": self.is_empty,
            "tokens": asdict(self.tokens),
            "dollars": asdict(dollars) if dollars else None,
            **asdict(self),
        }
        body = json.loads(json.dumps(body, default=str))
        return {"hash": _hash(body), **body}


def state_hash(state: Mapping[str, Any]) -> str:
    """Return a hash of what a plan rests on."""
    return _hash(state)


def read_plan(name: str, text: str) -> Plan:
    """The reverse of `as_document`. Raises UsageError, one line that begins with `name`."""
    try:
        body = json.loads(text)
        told = dict(body)
        hashed = told.pop("hash")
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(f"{name} is no plan; make one: reindexer plan --out {name}") from None
    if told.get("form") != FORM:
        raise UsageError(f"{name} was written by another version of the program; plan again with this one")
    if hashed != _hash(told):  # guard plan-unedited-file
        raise UsageError(f"{name} was changed after it was written; plan again, and apply what that shows")
    try:
        sources = tuple(_source_plan(each) for each in told["sources"])
        return Plan(
            told["database"], told["found_revision"], told["needs_revision"], sources, tuple(told.get("notes", ()))
        )
    except (KeyError, TypeError, AttributeError, ValueError):
        raise UsageError(f"{name} is no plan that this version can read; plan again") from None


def _source_plan(told: Mapping[str, Any]) -> SourcePlan:
    known = {each.name for each in fields(SourcePlan)}
    values: dict[str, Any] = {key: value for key, value in told.items() if key in known}
    if values["action"] not in get_args(Action):
        raise ValueError(values["action"])
    cost = values.get("cost")
    values |= {
        "why": tuple(values.get("why", ())),
        "locks": tuple(values.get("locks", ())),
        "changes": {key: tuple(both) for key, both in values.get("changes", {}).items()},
        "drift": tuple(Drift(**each) for each in values.get("drift", ())),
        "cost": _cost(cost) if cost else None,
    }
    return SourcePlan(**values)


def _cost(told: Mapping[str, Any]) -> Cost:
    values = _ranges(told)
    if standby := told.get("standby"):
        values["standby"] = Standby(**_ranges(standby))
    return Cost(**values)


def _ranges(told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: Range(**value) if isinstance(value, Mapping) and value.keys() == {"low", "high"} else value
        for key, value in told.items()
    }


def _hash(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:32]
