"""Cuts source code at functions, classes and statements. Parsed by tree-sitter.

A place to cut at is a line on which a node of the syntax tree begins, together with the comments right above it. The
less nested it is, the stronger, and what has several lines is stronger than what has one. So no language needs rules of
its own. Code that can't be parsed is cut as far as it can be, and else as text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib import import_module

from tree_sitter import Language, Node, Parser

from reindexer.adapters.chunkers.places import DEEPEST, PlaceCollector, characters
from reindexer.core.text import chunks
from reindexer.core.text.chunks import Places, Span
from reindexer.ports import Chunker

GRAMMARS = {
    "python": "tree_sitter_python:language",
    "go": "tree_sitter_go:language",
    "java": "tree_sitter_java:language",
    "rust": "tree_sitter_rust:language",
    "csharp": "tree_sitter_c_sharp:language",
    "javascript": "tree_sitter_javascript:language",
    "typescript": "tree_sitter_typescript:language_typescript",
    "tsx": "tree_sitter_typescript:language_tsx",
    "c": "tree_sitter_c:language",
    "cpp": "tree_sitter_cpp:language",
    "ruby": "tree_sitter_ruby:language",
    "php": "tree_sitter_php:language_php",
}
"""The grammar of each language. Guesses go in this order: of two that fit equally well, the first one."""

_SAMPLE = 16_384
"""Characters by which a language is guessed."""
_MOST_ERRORS = 0.1
"""The part of a sample that may be wrong in the language that is guessed."""
_ENDS = re.compile(r"^\s*end\b", re.MULTILINE)
"""Ruby has such a line. Without it, prose is Ruby too: words that call each other."""
_LEADS = ("comment", "attribute_item", "decorator")
"""Nodes of these kinds belong to what follows them."""
_OPAQUE = ("comment", "string", "heredoc", "template")
"""No line in nodes of these kinds begins a part of the code."""


@cache
def _language(name: str) -> Language:
    module, _, function = GRAMMARS[name].partition(":")
    return Language(getattr(import_module(module), function)())


def spans(text: str, max_tokens: int, overlap_tokens: int) -> tuple[Span, ...]:
    """`reindexer.ports.Chunker` for code of any language that `GRAMMARS` names: it is guessed for each text."""
    return _spans(_guessed, text, max_tokens, overlap_tokens)


def chunker_of(name: str) -> Chunker:
    """Return the chunker of one language."""
    _language(name)  # a package that is missing is told now
    return partial(_spans, lambda _: name)


def __getattr__(name: str) -> Chunker:
    """The chunker of each language is an object of this module, as entry points want it."""
    if name in GRAMMARS:
        return chunker_of(name)
    raise AttributeError(name)


def _spans(
    language_of: Callable[[str], str | None], text: str, max_tokens: int, overlap_tokens: int, /
) -> tuple[Span, ...]:
    if chunks.fits(text, max_tokens):
        return (Span(0, len(text)),)
    name = language_of(text)
    if name is None:
        return chunks.spans(text, max_tokens, overlap_tokens)
    return chunks.spans_at(text, _places(text, _language(name)), max_tokens, overlap_tokens)


def _places(text: str, language: Language) -> Places:
    data = text.encode("utf-8", "replace")
    at, collected = characters(data), PlaceCollector()
    todo = [(Parser(language).parse(data).root_node, 0)]
    while todo:
        node, depth = todo.pop()
        first = True
        for start, child in _lines(node, data):
            level = 2 * depth + (first or child.start_point.row == child.end_point.row)
            collected.add(int(at[start]), level)
            first = False
        todo += [
            (child, min(depth + 1, DEEPEST))
            for child in reversed(node.named_children)
            if child.end_point.row > child.start_point.row and not _is(child, _OPAQUE)
        ]
    return collected.places()


def _lines(node: Node, data: bytes) -> Iterator[tuple[int, Node]]:
    """Yield the children that begin a line, with the byte at which that line begins, or the comments above it do."""
    lead: tuple[int, Node] | None = None
    for child in node.named_children:
        line = data.rfind(b"\n", 0, child.start_byte) + 1
        if data[line : child.start_byte].strip():
            continue
        if lead and data.count(b"\n", lead[1].end_byte - 1, child.start_byte) > 1:
            yield lead
            lead = None
        start = lead[0] if lead else line
        lead = (start, child) if _is(child, _LEADS) else None
        if lead is None:
            yield start, child
    if lead:
        yield lead


def _is(node: Node, kinds: tuple[str, ...]) -> bool:
    return any(kind in node.type for kind in kinds)


def _guessed(text: str) -> str | None:
    """Return the language in which least of the text is wrong. None: too much is, in each of them."""
    sample = text if len(text) <= _SAMPLE else text[: text.rfind("\n", 0, _SAMPLE) + 1 or _SAMPLE]
    data = sample.encode("utf-8", "replace")
    if "<?php" in sample[:1000]:
        names = ["php"]
    else:
        without = ("php",) if _ENDS.search(sample) else ("php", "ruby")
        names = [each for each in GRAMMARS if each not in without]
    best, least = None, _MOST_ERRORS * len(data)
    for name in names:
        wrong = _wrong(Parser(_language(name)).parse(data).root_node, least)
        if wrong < least:
            best, least = name, wrong
        if not wrong:
            break
    return best


def _wrong(root: Node, enough: float) -> float:
    """Return how many bytes are wrong. Stops counting when it is `enough`."""
    wrong, todo = 0.0, [root]
    while todo and wrong < enough:
        node = todo.pop()
        if node.is_error or node.is_missing:
            wrong += max(1, node.end_byte - node.start_byte)
        elif node.has_error:
            todo += node.children
    return wrong
