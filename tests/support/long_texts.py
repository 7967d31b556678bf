"""Long texts, and edits of them."""

from __future__ import annotations

import random

WORDS = [
    "a",
    "row",
    "of",
    "the",
    "table",
    "holds",
    "text",
    "that",
    "becomes",
    "a",
    "vector",
    "and",
    "an",
    "edit",
    "makes",
    "it",
    "another",
    "one",
]


def paragraph(chance: random.Random, words: int) -> str:
    return " ".join(chance.choice(WORDS) for _ in range(words)).capitalize() + f" {chance.random():.6f}."


def document(chance: random.Random, paragraphs: int) -> list[str]:
    return [paragraph(chance, chance.randrange(20, 60)) for _ in range(paragraphs)]


def insert(chance: random.Random, doc: list[str]) -> None:
    doc.insert(0, paragraph(chance, 30))


def delete(chance: random.Random, doc: list[str]) -> None:
    del doc[chance.randrange(3)]


def move(chance: random.Random, doc: list[str]) -> None:
    doc.insert(0, doc.pop(chance.randrange(1, 4)))


def edit(chance: random.Random, doc: list[str]) -> None:
    doc[chance.randrange(len(doc))] = paragraph(chance, 35)
