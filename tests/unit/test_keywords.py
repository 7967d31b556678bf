"""What counts as a word, and that the same text makes the same keywords everywhere."""

from __future__ import annotations

import pytest
import qdrant_edge

from reindexer.adapters.bm25 import Bm25
from reindexer.core.errors import DefinitionError
from reindexer.core.keywords import (
    LANGUAGES,
    STEMMED,
    STOPPED,
    KeywordRules,
    numbers_of_query,
    words_of_document,
    words_of_query,
)
from reindexer.core.source import Source


def finds(query: str, text: str, rules: KeywordRules | None = None) -> bool:
    """Whether every word of the query is a word of the text, and there is one."""
    encoder = Bm25(rules or KeywordRules())
    asked = set(encoder.query(query).indices)
    return bool(asked) and asked <= set(encoder.document(text).indices)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("dog runs", "Dogs running in the park"),
        ("INV-2291", "Invoice INV-2291 is overdue"),
        ("inv 2291", "INV-2291"),
        ("물", "물을 마신다"),
        ("검색", "검색은 빠르다"),
        ("検索", "全文検索エンジン"),
        ("東京", "東京都に住む"),
        ("水", "水を飲む"),
        ("ﾃﾞｰﾀ", "データベース"),
        ("ＡＢＣ", "abc"),
        ("iPhone 케이스", "iPhone용 케이스"),
        ("Wörter", "ein Wort"),
    ],
)
def test_a_query_finds_a_text_with_its_words(query: str, text: str) -> None:
    assert finds(query, text, KeywordRules("german" if "ö" in query else "english"))


@pytest.mark.parametrize(("query", "text"), [("水道", "水は道にある"), ("the", "the end"), ("!?", "what!?")])
def test_a_query_without_its_words_in_the_text_finds_nothing(query: str, text: str) -> None:
    assert not finds(query, text)


def test_letters_and_pairs_of_a_run_are_words_of_a_text_and_pairs_alone_of_a_query() -> None:
    assert words_of_document("検索a").split() == ["検", "索", "検索", "a"]
    assert words_of_query("検索語 水").split() == ["検索", "索語", "水"]


def test_the_numbers_of_a_query_are_its_parts_with_a_digit() -> None:
    assert numbers_of_query("invoice INV-2291 of 2026, part_7b ４２ x") == "2291 2026 7b 42"


def test_words_of_another_language_are_taken_as_they_stand() -> None:
    none = KeywordRules("none")
    assert not finds("dog", "dogs", none)
    assert finds("the", "the end", none)


def test_stop_words_and_stems_are_as_the_source_says() -> None:
    assert not finds("gmbh", "Müller GmbH", KeywordRules("german", stop_words=("gmbh",)))
    assert not finds("dog", "dogs", KeywordRules(stemmer=False))
    assert not finds("the", "the end", KeywordRules(stemmer=False))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_an_encoder(language: str) -> None:
    assert Bm25(KeywordRules(language)).document("2291").indices


def test_the_languages_are_those_of_the_engine() -> None:
    assert {each.lower() for each in dir(qdrant_edge.SnowballLanguage) if each[0] != "_"} == set(STEMMED)
    assert {each.lower() for each in dir(qdrant_edge.Language) if each[0] != "_"} - {"hinglish"} == set(STOPPED)


def test_the_weights_are_those_of_qdrants_own_bm25_in_english() -> None:
    text = "The dogs were running, and a dog ran after INV-2291"
    theirs, ours = qdrant_edge.Bm25().embed_document(text), Bm25(KeywordRules()).document(text)
    assert (list(ours.indices), list(ours.values)) == (theirs.indices, theirs.values)


def test_other_rules_have_another_fingerprint() -> None:
    rules = [KeywordRules(), KeywordRules("german"), KeywordRules(stop_words=("a",)), KeywordRules(stemmer=False)]
    assert len({each.fingerprint for each in rules}) == len(rules)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"keywords": True, "language": "englisch"}, "did you mean 'english'"),
        ({"keywords": True, "language": "klingon"}, "known are none, arabic"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(said: dict[str, object], told: str) -> None:
    with pytest.raises(DefinitionError, match=told) as refused:
        Source("s", "public", "t", ("id",), ("body",), **said)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)
