"""A source's definition as one document: there and back, whatever attributes a source has."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any, get_type_hints

import pytest

from reindexer.core.errors import DefinitionError, NewerDefinition
from reindexer.core.profile import Profile
from reindexer.core.redefinition import described
from reindexer.core.related import Link, Related
from reindexer.core.source import SAID, Source, default_of
from reindexer.sources.definition import Wanted
from reindexer.sources.relations import RelatedTable
from reindexer.sources_file import read

BASE = Source("notes", "public", "notes", ("id",), ("body",), payload_columns=("x",), chunk_tokens=64)

VALUES = (
    ("x",),
    "x",
    "y",
    "{body}",
    20,
    True,
    False,
    "german",
    Profile("openai", "m", 3, "https://x", "KEY", "dot", {"hnsw_config": {"m": 8}}),
)
"""Of each type that an attribute may have."""

BESIDE = ("name", "alias", "read_by", "generation", "made_by", "recorded_by_others", "followed_by_others", "servers")


def with_other(attribute: str) -> Source:
    """The base, with another value of one attribute."""
    value: Any
    if attribute == "related":
        author = Related("author", (Link("public", "authors", ("author_id",), ("id",)),), limit=3)
        return replace(BASE, text_columns=("body", "author.name"), related=(author,))
    for value in VALUES:
        if type(value).__name__ in str(get_type_hints(Source)[attribute]) and value != getattr(BASE, attribute):
            try:
                return replace(BASE, **{attribute: value})
            except DefinitionError:
                continue
    raise AssertionError(f"VALUES has no value for {attribute!r}")


def attributes(source: Source) -> dict[str, Any]:
    """All of them, those too that do not count where two sources are compared."""
    return {each.name: getattr(source, each.name) for each in fields(source)}


@pytest.mark.parametrize("attribute", [each.name for each in fields(Source) if each.name != "followed_by_others"])
def test_each_attribute_of_a_source_survives_its_document(attribute: str) -> None:
    source = with_other(attribute)
    document = json.loads(json.dumps(source.as_document()))
    assert attributes(
        Source.from_document(
            source.name,
            source.alias,
            document,
            source.read_by,
            source.generation,
            source.made_by,
            source.recorded_by_others,
            source.servers,
        )
    ) == attributes(source)
    assert (attribute in document) == (attribute not in BESIDE)


@pytest.mark.parametrize(
    "attribute", [each.name for each in fields(Source) if each.name not in BESIDE or each.name == "alias"]
)
def test_a_source_that_differs_is_looked_at_again(attribute: str) -> None:
    differs = with_other(attribute).definition_hash != BASE.definition_hash
    assert differs == (attribute != "condition_objects"), "a renamed object is the same"


def test_what_is_as_by_default_is_left_out_so_that_the_next_attribute_changes_no_source() -> None:
    source = Source("notes", "public", "notes", ("id",), ("body",))
    assert source.as_document() == {
        "table_schema": "public", "table_name": "notes", "key_columns": ["id"], "text_columns": ["body"],
    }  # fmt: skip


@pytest.mark.parametrize("more", [{"sentences": True}, {"profile": {"sentences": True}}])
def test_what_only_a_newer_version_knows_is_refused_by_its_name(more: dict[str, Any]) -> None:
    with pytest.raises(NewerDefinition, match=r"'notes' is defined by a newer version.*sentences'"):
        Source.from_document("notes", "notes", BASE.as_document() | more)


def test_all_that_a_user_may_say_has_its_key_in_the_sources_file_and_its_place_in_what_is_told() -> None:
    how = {"change"}  # how a change is made is no part of what the source is
    said = {"table", "related", *SAID}
    assert set(read._SOURCE) - how == said == {each.name for each in fields(Wanted)} - {"name"} - how
    assert set(read._RELATION) == {each.name for each in fields(RelatedTable)} - {"name"}
    assert described(with_other("related"))["related.author"] == "public.authors (author_id = id), limit: 3"
    for word, attribute in SAID.items():
        value = getattr(with_other(attribute.name), attribute.name)
        assert value != default_of(attribute)
        assert word == "profile" or word in described(with_other(attribute.name))
