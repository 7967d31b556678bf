"""The plan: what an item needs, from what is known of it and the row as it is now."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reindexer.core.fingerprint import payload_fingerprint, text_fingerprint
from reindexer.core.items import ClaimedItem, Row
from reindexer.core.plan import Delete, Embed, Skip, UpdatePayload, plan
from reindexer.core.text.embedding_spec import EmbeddingSpec
from reindexer.core.text.template import render_text

MODEL = "model:8"
SPEC = EmbeddingSpec(MODEL, 8192)
ROW = Row("1", "title\nbody", {"price": 3})
FRESH = ClaimedItem("1", version=1, attempts=1, forced=False, doubtful=False)
INDEXED = replace(
    FRESH,
    known=True,
    chunks=1,
    text_fingerprint=text_fingerprint("title\nbody", MODEL),
    payload_fingerprint=payload_fingerprint({"price": 3}),
)


def test_a_row_that_was_never_indexed_is_embedded() -> None:
    step = plan(FRESH, ROW, SPEC)
    assert isinstance(step, Embed)
    assert [step.text(chunk) for chunk in step.chunks] == ["title\nbody"]


def test_an_unchanged_row_is_skipped() -> None:
    assert isinstance(plan(INDEXED, ROW, SPEC), Skip)


def test_another_payload_needs_no_embedding() -> None:
    assert isinstance(plan(INDEXED, replace(ROW, payload={"price": 4}), SPEC), UpdatePayload)


@pytest.mark.parametrize("change", [{"forced": True}, {"doubtful": True}, {"chunks": 0}, {"text_fingerprint": None}])
def test_requests_doubt_and_missing_facts_are_never_skipped(change: dict[str, Any]) -> None:
    assert isinstance(plan(replace(INDEXED, **change), ROW, SPEC), Embed)


def test_another_model_is_seen_as_due() -> None:
    assert isinstance(plan(INDEXED, ROW, EmbeddingSpec("other:8", 8192)), Embed)


@pytest.mark.parametrize("row", [None, replace(ROW, text="")])
def test_no_row_or_no_text_means_no_point(row: Row | None) -> None:
    assert isinstance(plan(INDEXED, row, SPEC), Delete)


@given(st.lists(st.none() | st.text(), min_size=1, max_size=4))
def test_rendered_text_can_be_encoded_and_has_no_blank_ends(texts: list[str | None]) -> None:
    text = render_text([str(n) for n in range(len(texts))], texts)
    text.encode("utf-8")
    assert text == text.strip()


def test_lone_surrogates_become_question_marks() -> None:
    assert render_text(["column"], ["a\ud800b"]) == "a?b"


@given(st.text(), st.text())
def test_different_texts_have_different_fingerprints(one: str, other: str) -> None:
    assert (text_fingerprint(one, MODEL) == text_fingerprint(other, MODEL)) == (one == other)


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()))
def test_the_order_of_payload_keys_does_not_matter(payload: dict[str, Any]) -> None:
    assert payload_fingerprint(payload) == payload_fingerprint(dict(reversed(payload.items())))
