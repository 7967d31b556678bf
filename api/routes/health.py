"""Health: whether the process is alive, and whether work can be done. Both routes are public."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from reindexer.core.errors import PrefixTaken, SourceError
from reindexer.core.source import Source
from reindexer.monitoring import heartbeat
from reindexer.monitoring.backlog import neglected_s
from reindexer.monitoring.status import listener_state
from reindexer.ports import Broker, EmbedderOf, Index
from reindexer.postgres.connect import Postgres, connect
from reindexer.postgres.schema import require_schema
from reindexer.queue.breaker import open_breakers
from reindexer.sources.embedder_record import recorded, require_same
from reindexer.sources.store import all_sources, problems, problems_beside
from reindexer.sources.trigger_check import CheckResult, inspect

from ..dependencies import BrokerPart, EmbedderOfPart, IndexPart, PostgresPart, ProbesPart
from ..probes import OK
from ..problems import documented, problem

router = APIRouter(tags=["health"])

_NEGLECTED = (
    "for {:.0f} s there has been work that nobody takes: do workers consume the queues of both lanes, live and bulk, "
    "and does the listener reach the broker?"
)


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """Everything answers, and all sources but those that `checks` names are worked on."""

    status: Literal["ok"] = "ok"
    checks: dict[str, str]


@router.get("/healthz", summary="Is the process alive?")
def healthz() -> Alive:
    """200 as long as the process answers, whatever else is away."""
    return Alive()


@router.get(
    "/readyz",
    summary="Can work be done?",
    response_model=Ready,
    responses=documented({503: "Something does not answer; `checks` says what."}, has_input=False),
)
async def readyz(
    postgres: PostgresPart, broker: BrokerPart, index: IndexPart, probes: ProbesPart, embedder_of: EmbedderOfPart
) -> Ready | Response:
    """Asks Postgres (schema, triggers, who leads, who works, whether any work is done, sources that can't be
    worked on, open breakers), the broker and
    Qdrant, all at once."""
    checks = await probes.run(
        {
            "postgres": lambda: _ask_postgres(postgres, embedder_of),
            "broker": lambda: _ask_broker(broker),
            "qdrant": lambda: _ask_qdrant(index),
        }
    )
    unknown = "not known while Postgres is not ready"
    of_postgres = dict.fromkeys(
        ("listener", "workers", "work", "triggers", "sources", "generations", "breakers"), unknown
    )
    checks = {**of_postgres, **checks}
    # guard readiness-broken-source-tolerance
    wrong = "; ".join(f"{name}: {state}" for name, state in checks.items() if not state.startswith(OK))
    return problem(503, f"not ready: {wrong}", checks=checks) if wrong else Ready(checks=dict(checks))


def _ask_postgres(postgres: Postgres, embedder_of: EmbedderOf) -> Mapping[str, str]:
    """Uses its own connection, which reports an unreachable Postgres sooner, and with more detail, than a pool."""
    with connect(postgres.url, application_name="reindexer api probe", timeout_s=2) as connection:
        require_schema(connection)
        absent = listener_state(connection) == "absent"
        idle = not heartbeat.alive(connection, "worker")
        away = " and ".join(each.dependency for each in open_breakers(connection))
        sources = all_sources(connection)
        findings = {source.name: inspect(connection, source) for source in sources}
        neglected = neglected_s(connection)
        waiting = problems(connection)
        beside = problems_beside(connection)
        makers = recorded(connection)
        foreign = [each.name for each in sources if not _is_ours(each, makers.get(each.name), embedder_of)]
    return {
        "postgres": OK,
        "listener": "absent: start `reindexer listen`" if absent else OK,
        "workers": "none takes work: start `reindexer worker`" if idle else OK,
        "work": OK if neglected is None else _NEGLECTED.format(neglected),
        "triggers": "; ".join(_in_short(name, found) for name, found in findings.items() if _unseen(found)) or OK,
        "sources": _sources(findings, waiting, foreign),
        "generations": _beside(beside),
        "breakers": f"workers get no answer from {away}; items wait, one at a time tries it" if away else OK,
    }


def _sources(findings: Mapping[str, CheckResult], waiting: Collection[str], foreign: Collection[str]) -> str:
    """The state of the sources. A source that can't be worked on, or not searched here, does not make others unready.
    The check fails only if there are such sources and no other readable source is left. A table that its owner has
    dropped is no reason to take this process out of service.
    """
    unreadable = {name for name, found in findings.items() if found.problem}
    words = dict.fromkeys(waiting, "its items wait; see `reindexer status`")
    words |= dict.fromkeys(foreign, "can't be searched here: its points are made by another embedder")
    refused = {name: word for name, word in words.items() if name not in unreadable}
    if refused and findings.keys() == unreadable.union(refused):
        return "; ".join(f"{name}: {word}" for name, word in refused.items())
    away = [f"{name}: {word}" for name, word in refused.items() if name in foreign]
    if names := sorted(unreadable.union(refused) - set(foreign)):
        away.insert(0, f"{', '.join(names)} can't be worked on: see `reindexer status`")
    return f"{OK}, but {'; '.join(away)}" if away else OK


def _beside(found: Sequence[tuple[str, int]]) -> str:
    """The generations that no search uses: what is wrong with them never makes this process unready."""
    told = [f"generation {number} of {name} can't be worked on, and no search uses it" for name, number in found]
    return f"{OK}, but {'; '.join(told)}" if told else OK


def _is_ours(source: Source, made_by: str | None, embedder_of: EmbedderOf) -> bool:
    """Whether this process can search the source: its settings name the embedder that makes the source's points."""
    try:
        require_same(source.name, made_by, embedder_of(source).fingerprint)
    except SourceError:
        return False
    return True


def _unseen(finding: CheckResult) -> bool:
    """Whether changes of a readable source may go unrecorded."""
    return not finding.well and finding.problem is None


def _in_short(name: str, finding: CheckResult) -> str:
    """Without names of tables and columns, because the answer is public."""
    return f"{name}: {finding.triggers}; see `reindexer status`, and run `reindexer migrate` if it stays so"


def _ask_broker(broker: Broker) -> Mapping[str, str]:
    try:
        broker.ping()
    except PrefixTaken:
        return {"broker": "its queues are used by another database: give this one a REINDEXER_PREFIX of its own"}
    return {"broker": OK}


def _ask_qdrant(index: Index) -> Mapping[str, str]:
    index.ping()
    return {"qdrant": OK}
