"""The judgement on traces: it sees what no trace may say, and only that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tests.support.collector import Span
from tests.torture.witness import parent_of, untrue

TRACE, OTHER = "a" * 32, "b" * 32
ITEMS = {TRACE: ["1", "2"], OTHER: ["3"]}
INDEX = Span(
    "index", TRACE, "i" * 16, parent_of(TRACE), "reindexer", 0, 1, {"reindexer.item_ids": ["2"]}, ((OTHER, "s" * 16),),
    failed=False, message="",
)  # fmt: skip
CLAIM = replace(INDEX, name="claim", span_id="c" * 16, parent_id=INDEX.span_id, attributes={}, links=())
DRAIN = replace(INDEX, name="drain", span_id="d" * 16, attributes={}, links=())
WELL = [DRAIN, INDEX, CLAIM]


def said(spans: Sequence[Span]) -> str:
    return "; ".join(untrue(spans, ITEMS))


def test_traces_as_they_should_be_are_well() -> None:
    assert said(WELL) == ""


def test_a_step_whose_own_span_was_lost_is_well() -> None:
    assert said([DRAIN, CLAIM]) == ""


def test_an_item_that_the_transaction_did_not_write_is_noticed() -> None:
    assert "names ['3']" in said([replace(INDEX, attributes={"reindexer.item_ids": ["1", "3"]})])


def test_a_span_that_hangs_elsewhere_is_noticed() -> None:
    assert "drain in trace" in said([replace(DRAIN, parent_id=parent_of(OTHER))])
    assert "the parent drain" in said([DRAIN, INDEX, replace(CLAIM, parent_id=DRAIN.span_id)])


def test_a_link_to_nobody_is_noticed() -> None:
    assert "which is nobody's" in said([replace(INDEX, links=(("c" * 32, "s" * 16),))])
