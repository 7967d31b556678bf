"""What users read: a number with its noun, and what is refused in our own words, not a library's."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import AfterValidator, Field, Json, TypeAdapter, ValidationError

from reindexer.core.errors import UsageError
from reindexer.core.wording import counted, refusal
from reindexer.queue.breaker import OpenBreaker
from reindexer.settings import Settings


def test_a_number_has_its_noun_in_the_right_form() -> None:
    assert [counted(number, "row") for number in (0, 1, 2, 12_000)] == ["0 rows", "1 row", "2 rows", "12,000 rows"]
    assert (counted(1, "query", "queries"), counted(2, "query", "queries")) == ("1 query", "2 queries")


def refuse(value: object) -> object:
    raise ValueError("is not what we want, as it is")


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (int, "many", "must be a whole number"),
        (int, 1.5, "must be a whole number"),
        (int, None, "must be a whole number"),
        (float, "many", "must be a number"),
        (Annotated[float, Field(allow_inf_nan=False)], "inf", "must be a finite number"),
        (bool, "perhaps", "must be true or false"),
        (Annotated[int, Field(ge=1)], 0, "must be at least 1"),
        (Annotated[float, Field(gt=0)], 0, "must be more than 0"),
        (Annotated[float, Field(lt=0.5)], 1, "must be less than 0.5"),
        (Annotated[int, Field(le=2**31 - 1)], 2**31, "must be at most 2147483647"),
        (Literal["a", "b"], "c", "must be 'a' or 'b'"),
        (str, 1, "must be text"),
        (Annotated[str, Field(min_length=1)], "", "must not be empty"),
        (Annotated[str, Field(max_length=1)], "ab", "must have at most 1 character"),
        (Annotated[list[int], Field(max_length=2)], [1, 2, 3], "must have at most 2 elements"),
        (Annotated[list[int], Field(min_length=1)], [], "must not be empty"),
        (list[int], 1, "must be a list"),
        (dict[str, int], 1, "must be an object"),
        (UUID, "secret", "must be a UUID"),
        (Json[int], "{secret", "is not JSON"),
        (Annotated[str, AfterValidator(refuse)], "x", "is not what we want, as it is"),
        (Annotated[str, Field(pattern="^a$")], "secret", "must match pattern '^a$'"),
        (set[int], "secret", "must be a valid set"),
    ],
)
def test_what_a_validator_refuses_is_told_in_our_own_words(kind: Any, value: object, words: str) -> None:
    told = TypeAdapter(kind)
    with pytest.raises(ValidationError) as refused:
        told.validate_python(value)
    said = refusal(refused.value.errors()[0])
    assert said == words
    assert "secret" not in said


@pytest.mark.parametrize("name", sorted(Settings.variables()))
def test_a_wrong_value_of_any_setting_is_told_in_our_own_words(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "-1.5")
    told = ""
    try:
        Settings.from_environment()
    except UsageError as exc:
        told = str(exc)
    assert not re.search("should|Value error|valid (integer|number|boolean)", told)
    assert not told or name.removeprefix("REINDEXER_") in told


def test_an_open_breaker_of_the_index_names_no_product_but_in_its_reason() -> None:
    now = datetime.now(UTC)
    told = str(OpenBreaker("qdrant", "", "the store at h:1 does not answer", 3, now, now))
    assert told == (
        "the vector index, which is left alone but for a probe now and then: the store at h:1 does not answer"
    )
