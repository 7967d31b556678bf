"""Relations: how they are kept, what is recorded of their tables, and what can't be one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from reindexer.core.errors import DefinitionError, NewerDefinition
from reindexer.core.related import Link, Related, chain, columns_of, is_many, split_name
from reindexer.core.source import Source

AUTHOR = Related("author", (Link("shop", "authors", ("author_id",), ("id",)),), key_columns=("id",))
TAGS = Related(
    "tags",
    (Link("shop", "book_tags", ("id",), ("book_id",)), Link("shop", "tags", ("tag_id",), ("id",))),
    many=True,
    key_columns=("id",),
    order=("label",),
    condition="NOT hidden",
    condition_columns=("hidden",),
)
PUBLISHER = Related("publisher", (Link("shop", "publishers", ("publisher_id",), ("id",)),), of="author")
COMMENTS = Related(
    "comments", (Link("shop", "comments", ("id",), ("book_id",)),), many=True, object_columns=("body", "at")
)


def books(*related: Related, text: tuple[str, ...] = ("title",), payload: tuple[str, ...] = ()) -> Source:
    return Source("books", "shop", "books", ("id",), text, payload, related=related)


ALL = books(
    AUTHOR, TAGS, PUBLISHER, COMMENTS,
    text=("title", "author.name", "tags.label"), payload=("price", "publisher.city", "comments.*"),
)  # fmt: skip


def test_a_definition_is_the_same_after_it_was_kept() -> None:
    document = json.loads(json.dumps(ALL.as_document()))
    assert Source.from_document("books", "books", document) == ALL


def test_what_a_newer_version_says_of_a_relation_is_not_passed_over() -> None:
    document = json.loads(json.dumps(ALL.as_document()))
    document["related"][0]["outer"] = True
    with pytest.raises(NewerDefinition, match=r"related\.outer"):
        Source.from_document("books", "books", document)


def test_columns_of_relations_are_none_of_the_tables_own() -> None:
    assert ALL.declared_columns == ("title", "price", "author_id", "id")
    assert split_name("author.name", ALL.related) == (AUTHOR, "name")
    assert split_name("other.name", ALL.related) == (None, "other.name")
    assert split_name("author", ALL.related) == (None, "author")


def test_what_is_recorded_of_each_table() -> None:
    recorded = {(each.relation.name, each.link.table_name): each.columns for each in ALL.followed}
    assert recorded == {
        ("author", "authors"): ("id", "name", "publisher_id"),
        ("tags", "book_tags"): ("book_id", "tag_id"),
        ("tags", "tags"): ("id", "label", "hidden"),
        ("publisher", "publishers"): ("id", "city"),
        ("comments", "comments"): ("book_id", "body", "at"),
    }
    assert len({each.id for each in ALL.followed}) == 5


def test_the_way_to_a_relation_of_a_relation() -> None:
    assert chain(PUBLISHER, ALL.related) == (AUTHOR, PUBLISHER)
    assert not is_many(PUBLISHER, ALL.related)
    assert is_many(PUBLISHER, (replace(AUTHOR, many=True), PUBLISHER))
    assert columns_of(COMMENTS, ALL.related, ALL.payload_columns) == ("body", "at")


LOOP = replace(AUTHOR, of="publisher"), replace(PUBLISHER, of="author")
FAR = Related("town", (Link("shop", "towns", ("town_id",), ("id",)),), of="publisher")


@pytest.mark.parametrize(
    ("related", "text", "payload", "words"),
    [
        ((AUTHOR, AUTHOR), ("author.name",), (), "'author' is defined twice"),
        ((AUTHOR,), ("title",), (), "'author' is not read; name a column of it"),
        ((PUBLISHER,), ("publisher.city",), (), "'publisher' is said to be of 'author', and there is no such"),
        (LOOP, ("author.name", "publisher.city"), (), "'author' leads back to itself: author of publisher of author"),
        ((AUTHOR, PUBLISHER, FAR), ("town.name",), (), "'town' is 3 relations away; 2 can follow"),
        ((COMMENTS,), ("comments.*",), ("comments.*",), "'comments' can't be text as a whole"),
        ((COMMENTS,), ("title",), ("comments.*", "comments.at"), "in the payload as a whole"),
        ((replace(COMMENTS, object_columns=()),), ("title",), ("comments.*",), r"needs columns = \[...\]"),
        ((COMMENTS,), ("title",), ("comments.at",), r"only comments.\* in the payload reads"),
        ((AUTHOR,), ("author.name",), ("author",), "has the name of a payload column"),
    ],
)
def test_what_is_no_relation_is_told(
    related: tuple[Related, ...], text: tuple[str, ...], payload: tuple[str, ...], words: str
) -> None:
    with pytest.raises(DefinitionError, match=words):
        books(*related, text=text, payload=payload)


def test_names_and_limits_that_can_not_be() -> None:
    for name in ("", "1st", "a.b", "x" * 41):
        with pytest.raises(DefinitionError, match="relation name"):
            replace(AUTHOR, name=name)
    for limit in (0, 10_001):
        with pytest.raises(DefinitionError, match="use 1 to 10000"):
            replace(TAGS, limit=limit)


def test_what_other_generations_follow_is_recorded_too() -> None:
    other = books(AUTHOR, COMMENTS, text=("title", "author.country"), payload=("comments.*",))
    ours = books(AUTHOR, TAGS, text=("title", "author.name", "tags.label"))
    documents = [json.loads(json.dumps(each.as_document())) for each in (ours, other)]
    one = Source.from_document("books", "books", documents[0], others=documents[1:])
    two = Source.from_document("books", "books", documents[1], others=documents[:1])
    recorded = {each.link.table_name: each.columns for each in one.recorded_tables}
    assert recorded == {
        "authors": ("country", "id", "name"), "book_tags": ("book_id", "tag_id"), "tags": ("hidden", "id", "label"),
        "comments": ("at", "body", "book_id"),
    }  # fmt: skip
    assert [(each.id, each.columns) for each in one.recorded_tables] == [
        (each.id, each.columns) for each in two.recorded_tables
    ], "a promotion changes no function"
    assert one.recorded_columns == two.recorded_columns
