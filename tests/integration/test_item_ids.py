"""An item id is converted alike by Python, for many at once, and by the server, for one."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from reindexer.core.source import Source
from reindexer.postgres.connect import Connection
from reindexer.sources import item_ids, keys

BITS = {"smallint": 16, "integer": 32, "bigint": 64}


def integers(bits: int) -> st.SearchStrategy[str]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).map(str)


PRINTED: Mapping[str, st.SearchStrategy[str]] = {
    **{name: integers(bits) for name, bits in BITS.items()},
    "uuid": st.uuids().map(str),
    "text": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200),
}
"""Keys as Postgres prints them."""

WRITTEN: Mapping[str, st.SearchStrategy[str]] = {
    **{
        name: st.builds("{}{}{}".format, st.sampled_from(["", "+", "-", " ", "0x"]), st.sampled_from(["", "0", "00"]),
                        st.integers(0, 2**bits).map(str)) | st.text(max_size=8)
        for name, bits in BITS.items()
    },
    "uuid": st.builds(
        lambda uuid, spelling: spelling(uuid),
        st.uuids().map(str),
        st.sampled_from([str.upper, "{{{}}}".format, lambda uuid: uuid.replace("-", ""), lambda uuid: uuid[:-1],
                         lambda uuid: f" {uuid}", lambda uuid: uuid.replace("-", "", 1), lambda uuid: f"{uuid}0"]),
    ) | st.text(max_size=40),
    "text": st.text(max_size=200),
}  # fmt: skip
"""Keys as clients may write them, and what is none."""

TYPES = [*PRINTED, "character varying"]
often = effort(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def of_python(given: str, *key_types: str) -> str | None:
    try:
        return item_ids.canonical_id(given, key_types)
    except item_ids.MalformedId:
        return None


@pytest.fixture
def source(db: Connection, key_types: tuple[str, ...]) -> Source:
    """A table with a key of these types."""
    columns = {f"k{place}": name for place, name in enumerate(key_types)}
    declared = ", ".join(f"{column} {name}" for column, name in columns.items())
    db.execute(f"CREATE TABLE keyed ({declared}, body text, PRIMARY KEY ({', '.join(columns)}))".encode())
    return Source("keyed", "public", "keyed", tuple(columns), ("body",))


@pytest.mark.parametrize("key_types", [(each,) for each in TYPES], ids=TYPES)
@pytest.mark.first(3)
def test_python_and_the_server_convert_an_id_alike(db: Connection, source: Source, key_types: tuple[str]) -> None:
    (key_type,) = key_types
    like = "text" if key_type == "character varying" else key_type

    @often
    @given(PRINTED[like])
    def what_the_server_prints_stays(printed: str) -> None:
        assert of_python(printed, key_type) == keys.canonical_id(db, source, printed) == printed

    @often
    @given(WRITTEN[like])
    @example("+7")
    @example("\0")
    @example("\ud800")
    @example("٣")
    def what_python_accepts_the_server_converts_to_the_same(written: str) -> None:
        assert of_python(written, key_type) in (None, keys.canonical_id(db, source, written))

    what_the_server_prints_stays()
    what_python_accepts_the_server_converts_to_the_same()


@pytest.mark.parametrize("key_types", [("uuid", "integer", "text")], ids=str)
def test_they_convert_composite_keys_alike(db: Connection, source: Source, key_types: tuple[str, ...]) -> None:
    @often
    @given(st.tuples(*(PRINTED[each] for each in key_types)))
    def those_that_fit(parts: tuple[str, ...]) -> None:
        written = json.dumps(parts)
        assert (found := of_python(written, *key_types)) is not None
        assert found == keys.canonical_id(db, source, written)

    @often
    @given(st.tuples(*(WRITTEN[each] | PRINTED[each] for each in key_types)))
    def those_that_may_not(parts: tuple[str, ...]) -> None:
        written = json.dumps(parts)
        assert of_python(written, *key_types) in (None, keys.canonical_id(db, source, written))

    those_that_fit()
    those_that_may_not()
