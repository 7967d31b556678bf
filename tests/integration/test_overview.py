"""What the page shows live: one look however many pages look, freshness, rates, and the runbook's words."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from api.page.advice import ADVICE
from api.page.overview import Overviews, freshness, overview, values_of
from reindexer import wiring
from reindexer.monitoring.collect import Sample, measure_backlog, measure_states
from reindexer.monitoring.metrics import FRESHNESS, FRESHNESS_S, SETTLED
from reindexer.postgres.connect import Connection
from reindexer.settings import Settings
from tests.support.processes import ROOT


class Scrape:
    """Counts how often it is asked."""

    def __init__(self, db: Connection) -> None:
        self.db = db
        self.asked = 0

    async def samples(self, *, states_old_s: float) -> list[Sample]:
        self.asked += 1
        await asyncio.sleep(0.05)
        return [Sample("reindexer_up", {}, 1), *measure_states(self.db), *measure_backlog(self.db)]


def test_ten_pages_that_look_at_once_cost_one_look(db: Connection, settings: Settings) -> None:
    scrape: Any = Scrape(db)
    overviews = Overviews(scrape, wiring.postgres(settings, "api"), settings)

    async def looks() -> list[str]:
        first = await asyncio.gather(*(overviews.look() for _ in range(10)))
        return [*first, await overviews.look()]

    told = asyncio.run(looks())
    overviews.close()
    assert (len(set(told)), scrape.asked) == (1, 1)
    assert "\n" not in told[0]
    now = json.loads(told[0])
    assert [each["section"] for each in now["problems"][2:]] == ["ReindexerListenerAbsent", "ReindexerNoWorkers"]
    assert [each["name"] for each in now["sources"]] == ["context_items"]


def buckets(lane: str, quick: float, slow: float) -> list[Sample]:
    """So many changes that took at most 50 ms, and so many that took more than 10 and at most 30 s."""
    return [
        Sample(f"{FRESHNESS}_bucket", {"lane": lane, "le": str(bound)},
               (quick if bound >= 0.05 else 0) + (slow if bound >= 30 else 0))
        for bound in (*FRESHNESS_S, float("inf"))
        if bound != float("inf")
    ] + [Sample(f"{FRESHNESS}_bucket", {"lane": lane, "le": "+Inf"}, quick + slow)]  # fmt: skip


def test_freshness_is_that_of_the_last_minutes_and_of_all_where_there_was_none() -> None:
    then, now = values_of(buckets("live", 90, 10)), values_of(buckets("live", 189, 11))
    assert freshness(now, then, "live") == {"p50": 0.05, "p99": 0.05, "changes": 100, "ever": False}
    assert freshness(then, then, "live") == {"p50": 0.05, "p99": 30.0, "changes": 100, "ever": True}
    assert freshness({}, {}, "live") == {"p50": None, "p99": None, "changes": 0, "ever": True}


def test_items_per_second_are_those_of_the_last_half_minute() -> None:
    def settled(items: float) -> Any:
        return values_of([Sample(SETTLED, {"lane": "bulk", "outcome": "embedded"}, items)])

    past = [(0.0, settled(0)), (75.0, settled(100))]
    lanes = {each["lane"]: each for each in overview(settled(200), past, 100.0, None, {})["lanes"]}
    assert lanes["bulk"]["per_s"] == pytest.approx(4.0)
    assert lanes["live"]["per_s"] == 0.0
    assert overview(settled(200), [], 100.0, None, {})["lanes"][0]["per_s"] is None


def test_postgres_away_is_the_one_problem_that_is_told_of_it() -> None:
    told = overview(values_of([Sample("reindexer_up", {}, 0), Sample("reindexer_dependency_up", {"dependency": "broker"}, 1),
                               Sample("reindexer_dependency_up", {"dependency": "qdrant"}, 1)]), [], 0.0, None, {})  # fmt: skip
    assert [each["section"] for each in told["problems"]] == ["ReindexerPostgresAway"]


@pytest.mark.parametrize("section", ADVICE)
def test_the_page_advises_in_the_runbooks_words(section: str) -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    body = runbook.partition(f"## {section}\n")[2].partition("\n## ")[0]
    assert ADVICE[section].means == plain(body, "**For users:**", "**Look:**")
    assert ADVICE[section].mend == plain(body, "**Mend:**", "**Costs:**")


def plain(body: str, begin: str, end: str) -> str:
    """What stands between, without Markdown."""
    text = re.sub(r"<!--.*?-->|```(sh)?", " ", body.partition(begin)[2].partition(end)[0], flags=re.DOTALL)
    return " ".join(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("`", "").split())
