"""Keywords: how a text becomes words that are counted, beside the vector of its meaning. Pure functions."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import NamedTuple

from reindexer.core.fingerprint import digest

METHOD = "bm25-1"
"""Name of the way in which weights are computed. A different way needs a different name, so that items become due."""

ENGLISH, NO_LANGUAGE = "english", "none"
"""The language where none is said, and that of texts whose words are taken as they stand: no stop words, no stems."""

STEMMED = (
    "arabic", "armenian", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hungarian", "italian",
    "norwegian", "portuguese", "romanian", "russian", "spanish", "swedish", "tamil", "turkish",
)  # fmt: skip
"""Languages whose words are reduced to their stems."""

STOPPED = (
    "arabic", "azerbaijani", "basque", "bengali", "catalan", "chinese", "danish", "dutch", "english", "finnish",
    "french", "german", "greek", "hebrew", "hungarian", "indonesian", "italian", "japanese", "kazakh", "nepali",
    "norwegian", "portuguese", "romanian", "russian", "slovene", "spanish", "swedish", "tajik", "turkish",
)  # fmt: skip
"""Languages whose most frequent words are left out."""

LANGUAGES = (NO_LANGUAGE, *sorted({*STEMMED, *STOPPED}))

_CJK = re.compile(
    "[\u1100-\u11ff\u3005\u3007\u3040-\u30ff\u3100-\u318f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U000323af]+"
)
"""Runs of Chinese, Japanese and Korean letters."""

_WITH_DIGIT = re.compile(r"[^\W_]*\d[^\W_]*")


class Keywords(NamedTuple):
    """A sparse vector: the weight of each word of a text. The index multiplies it by how rare the word is."""

    indices: tuple[int, ...]
    """One number for each word, ascending."""
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class KeywordRules:
    """Everything besides a text that its keywords depend on."""

    language: str = ENGLISH
    stop_words: tuple[str, ...] = ()
    """Words that are left out, beside those of the language."""
    stemmer: bool = True
    """Whether words are reduced to their stems, where the language has a stemmer."""

    @property
    def fingerprint(self) -> str:
        """Changes with the keywords of any text. 16 hex digits."""
        return digest({"method": METHOD, **asdict(self)})[:16]


def words_of_document(text: str) -> str:
    """Return a text that is to be indexed, with blanks around what counts as a word.

    Chinese, Japanese and Korean are written without blanks between words, or with particles at the end of a word. So
    each letter, and each pair of neighbours, is a word of its own.
    """
    return _cut(text, lambda run: (*run, *_pairs(run)))


def words_of_query(text: str) -> str:
    """Return a query, with blanks around what counts as a word. Single letters would find too much: pairs are words,
    and a letter that stands alone."""
    return _cut(text, lambda run: _pairs(run) if len(run) > 1 else (run,))


def numbers_of_query(text: str) -> str:
    """Return the parts of a query that hold a digit: of `invoice INV-2291` it is `2291`. They name one thing, and mean
    nothing."""
    return " ".join(_WITH_DIGIT.findall(unicodedata.normalize("NFKC", text)))


def _pairs(run: str) -> list[str]:
    return [run[place : place + 2] for place in range(len(run) - 1)]


def _cut(text: str, words: Callable[[str], Iterable[str]]) -> str:
    return _CJK.sub(lambda found: f" {' '.join(words(found[0]))} ", unicodedata.normalize("NFKC", text))
