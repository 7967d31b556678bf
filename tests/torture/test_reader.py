"""The reader's judgement: it sees what no search may show, and only that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tests.torture.reader import ENOUGH, MOMENT, Known, judge

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TEXTS = {str(n): f"text {n}" for n in range(ENOUGH)}
SETTLED = {(1, item_id): ("COMPLETED", NOW) for item_id in TEXTS}
KNOWN = Known(1, NOW - timedelta(hours=1), TEXTS, {**SETTLED, (1, "gone"): ("DELETED", NOW)})
GONE = {"gone": (1, NOW)}
WELL = dict.fromkeys(TEXTS, 0.3) | {"0": 1.0}


def said(scores: Mapping[str, float], after: Known = KNOWN, exact: str | None = "0") -> list[str]:
    return list(judge(KNOWN, after, GONE, scores, exact))


def test_an_answer_as_it_should_be_is_well() -> None:
    assert said(WELL) == []


def test_a_point_of_the_other_models_space_is_noticed() -> None:
    assert ["another model" in each for each in said({**WELL, "3": 0.0})] == [True]


def test_a_row_whose_deletion_was_settled_is_noticed_also_after_a_promotion() -> None:
    assert ["deletion was settled" in each for each in said({**WELL, "gone": 0.9})] == [True]
    promoted = replace(KNOWN, active=2, activated_at=NOW + 2 * MOMENT)
    assert ["deletion was settled" in each for each in said({**WELL, "gone": 0.9}, promoted, None)] == [True]


def test_a_row_that_came_back_or_was_deleted_in_the_moment_of_a_promotion_is_none() -> None:
    back = replace(KNOWN, texts={**TEXTS, "gone": "again"})
    moves = replace(KNOWN, settled=SETTLED)
    at_once = replace(KNOWN, active=2, activated_at=NOW)
    assert [said({**WELL, "gone": 0.9}, after, None) for after in (back, moves, at_once)] == [[], [], []]


def test_an_empty_answer_is_noticed_where_enough_is_there() -> None:
    assert ["nothing is found" in each for each in said({}, exact=None)] == [True]
    assert said({}, replace(KNOWN, settled={}), None) == []
    assert said({}, replace(KNOWN, active=2), None) == []


def test_a_row_that_its_own_text_does_not_find_is_noticed() -> None:
    assert ["by its own text" in each for each in said({**WELL, "0": 0.4})] == [True]
