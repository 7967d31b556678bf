"""What is looked at beside rows and points when all is calm: what waits, what is left, what reader and actor noted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.torture.checker import SOURCES
from tests.torture.environment import Stage

TOLD = 5
LINGERS_S = 15.0
"""So long after a fault whoever was cut off may still be told so: breakers probe, clients connect anew."""
DEPENDENCIES = ("provider", "qdrant", "redis", "postgres")

UNSETTLED = """
SELECT (SELECT count(*) FROM reindexer.due JOIN reindexer.generation AS g ON g.source = due.source AND g.number = due.generation
        WHERE g.state NOT IN ('broken', 'dropped')) AS due,
       (SELECT count(*) FROM reindexer.run WHERE finished_at IS NULL) AS runs,
       (SELECT count(*) FROM reindexer.generation WHERE state = 'filling') AS filling
"""
LEFT = """
SELECT source, number, (SELECT count(*) FROM reindexer.due WHERE due.source = g.source AND due.generation = number),
       (SELECT count(*) FROM reindexer.ledger WHERE ledger.source = g.source AND ledger.generation = number), removed_at IS NULL
FROM reindexer.generation AS g WHERE state = 'dropped'
"""

SPENT = """
SELECT coalesce(sum(tokens), 0)::bigint, coalesce(sum(unconfirmed_tokens), 0)::bigint,
       (SELECT coalesce(sum(tokens), 0)::bigint FROM reindexer.spend_reservation)
FROM reindexer.spend
"""

BUDGETS = """
SELECT used - (SELECT coalesce(sum(spend.micro_dollars), 0) FROM reindexer.spend WHERE purpose = 'probe' AND day >= begins)
            - (SELECT coalesce(sum(tokens * price), 0) FROM reindexer.spend_reservation WHERE purpose = 'probe' AND day >= begins),
       micro_dollars
FROM reindexer.budget_use
"""

Tell = Callable[[str], None]


def unsettled(stage: Stage) -> dict[str, int]:
    """What waits for any kept generation; empty if nothing does."""
    with stage.connect() as connection:
        row = connection.execute(UNSETTLED.encode()).fetchone() or (0, 0, 0)
    return {name: count for name, count in zip(("due", "runs", "filling"), row, strict=True) if count}


def left_of_dropped(stage: Stage) -> list[str]:
    """Records and collections of dropped generations."""
    client = stage.client()
    names = {each.name for each in client.get_collections().collections}
    client.close()
    with stage.connect() as connection:
        found = connection.execute(LEFT.encode()).fetchall()
    return [
        f"of {source}__g{number}, which is dropped, are left: {due} due, {ledger} in the ledger, "
        f"{'its collection' if is_there else 'no collection'}, {'not removed' if kept else 'removed'}"
        for source, number, due, ledger, kept in found
        if (is_there := f"{source}__g{number}" in names) or due or ledger or kept
    ]


def wrong_aliases(stage: Stage) -> list[str]:
    """Aliases that do not name the generation that searches use."""
    client = stage.client()
    aliases = {each.alias_name: each.collection_name for each in client.get_aliases().aliases}
    client.close()
    with stage.connect() as connection:
        rows = connection.execute("SELECT name, generation FROM reindexer.source").fetchall()
    active: dict[str, int] = dict(rows)
    return [
        f"the alias {source} names {aliases.get(source)}, and {active[source]} is active"
        for source in SOURCES
        if aliases.get(source) != f"{source}__g{active[source]}"
    ]


def too_little_spent(stage: Stage, tell: Tell) -> list[str]:
    """The account is never below what the provider counted, whoever was killed when."""
    counted = sum(stage.lies.tokens)
    with stage.connect() as connection:
        row = connection.execute(SPENT.encode()).fetchone() or (0, 0, 0)
    tell(f"spend: the provider counted {counted} tokens; accounted {row[0]}, unconfirmed {row[1]}, set aside {row[2]}")
    return [f"the provider counted {counted} tokens, and {sum(row)} are accounted"] if sum(row) < counted else []


def overspent(stage: Stage, tell: Tell) -> list[str]:
    """What is spent and set aside together never exceeds the budget that is in force, but for what probes cost."""
    with stage.connect() as connection:
        ((used, whole),) = connection.execute(BUDGETS.encode()).fetchall()
    tell(f"budget: {float(used):.0f} of {float(whole):.0f} micro-dollars")
    return [f"{used} micro-dollars of a budget of {whole} are used"] if used > whole else []


def reader_complaints(path: Path, broken: Sequence[tuple[str, float, float]], tell: Tell) -> list[str]:
    """What no search may meet, and searches that were not served while nothing was broken."""
    notes = _read(path)
    wrong = [f"the reader: {each['error']} {each.get('active', '')}" for each in notes if each["kind"] == "wrong"]
    unserved = [each for each in notes if each["kind"] == "unserved"]
    for each in unserved:
        if not any(
            target in DEPENDENCIES and at <= each["at"] and each["began"] <= at + lasts_s + LINGERS_S
            for target, at, lasts_s in broken
        ):
            wrong.append(f"the reader: nothing was broken, and {each['error']}")
    for each in notes:
        if each["kind"] == "counts":
            counts = {name: count for name, count in each.items() if name not in ("at", "kind")}
            tell(f"reader: {counts}; unserved: {dict(Counter(each['error'][:60] for each in unserved))}")
    return wrong[:TOLD]


def told_of_actor(path: Path, tell: Tell) -> list[str]:
    """Tell what the actor did. Returns errors that no command may end with."""
    notes = _read(path)
    done = Counter(each["act"] for each in notes if not each.keys() & {"begins", "error", "unexpected"})
    begun = Counter(each["act"] for each in notes if "begins" in each)
    tell("actor: " + ", ".join(f"{act} {done[act]}/{count}" for act, count in sorted(begun.items())))
    refused = Counter(str(each["error"])[:90] for each in notes if "error" in each)
    for error, count in refused.most_common(TOLD):
        tell(f"  {count} times {error}")
    return [f"the actor: {each['act']}: {each['unexpected']}" for each in notes if "unexpected" in each][:TOLD]


def _read(path: Path) -> list[dict[str, Any]]:
    """A line that was cut by a kill is left out."""
    notes = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            notes.append(json.loads(line))
        except ValueError:
            continue
    return notes
