"""Queries, and texts that say the same in other words: bench/meanings.toml."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reindexer.ports import Embedder

WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Meaning:
    """The text at each query's index is the one that means the same; more texts follow."""

    queries: list[str]
    texts: list[str]


def meaning() -> Meaning:
    """All of the file."""
    topics = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))["topic"]
    pairs = [pair for topic in topics for pair in topic["pairs"]]
    others = [other for topic in topics for other in topic["others"]]
    return Meaning([query for query, _ in pairs], [text for _, text in pairs] + others)


def words_of(text: str) -> set[str]:
    """Without case."""
    return set(WORD.findall(text.casefold()))


@dataclass(frozen=True, slots=True)
class Found:
    """Which part of the queries find their text first, among the first three and ten; and the mean of 1 ÷ its place."""

    first: float
    of_three: float
    of_ten: float
    mrr: float


def found_by(embedder: Embedder) -> Found:
    """By the nearest vectors."""
    asked = meaning()
    queries, texts = (embedder.embed(each, timeout_s=60).vectors for each in (asked.queries, asked.texts))
    scores = queries @ texts.T
    places = 1 + (scores > np.diag(scores)[:, None]).sum(axis=1)
    first, of_three, of_ten = (float(np.mean(places <= most)) for most in (1, 3, 10))
    return Found(first, of_three, of_ten, float(np.mean(1 / places)))
