"""Holds a chunker of another package to what the port promises, so that its author need not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import index

from reindexer.core.errors import ChunkerFailed
from reindexer.core.text.chunks import Span, spans
from reindexer.core.wording import counted
from reindexer.ports import Chunker


class CheckedChunker:
    """`Chunker` over a plug-in. Wrong spans and errors of all kinds become ChunkerFailed, so one item fails.

    What is longer than `max_tokens` is cut smaller by the built-in chunker. The text of an error is not shown, because
    it may quote the text that was to be cut.
    """

    def __init__(self, plugin: Chunker, what: str) -> None:
        """`what`: the plug-in in words, for messages."""
        self._plugin = plugin
        self._what = what

    def __call__(self, text: str, max_tokens: int, overlap_tokens: int, /) -> tuple[Span, ...]:
        """See `reindexer.ports.Chunker`."""
        try:
            found = list(_checked(self._plugin(text, max_tokens, overlap_tokens), text))
        except _WrongSpan as exc:
            raise ChunkerFailed(f"{self._what} {exc}") from None
        except Exception as exc:  # guard plugin-chunker-error
            raise ChunkerFailed(f"{self._what} fails: {type(exc).__name__}") from exc
        return tuple(part for span in found for part in _fitting(text, span, max_tokens, overlap_tokens))


class _WrongSpan(Exception):
    """A span that can't be a chunk. The message goes on after the chunker's name."""


def _checked(found: Iterable[Span], text: str) -> Iterator[Span]:
    """Yield the spans one by one, so that an endless row of wrong ones ends at the first."""
    before = -1
    for each in found:
        span = Span(index(each.start), index(each.end))
        if wrong := _wrong(span, before, text):  # guard plugin-span-check
            raise _WrongSpan(
                f"gives a span that {wrong}: {span.start} to {span.end}, in {counted(len(text), 'character')}"
            )
        before = span.start
        yield span
    if before < 0:
        raise _WrongSpan("gives no span of a text that is not blank")


def _wrong(span: Span, before: int, text: str) -> str | None:
    if span.start < 0 or span.end > len(text):
        return "is outside of the text"
    if not text[span.start : span.end].strip():
        return "is empty or blank"
    if span.start <= before:
        return f"does not begin after the one before, which begins at {before}"
    return None


def _fitting(text: str, span: Span, max_tokens: int, overlap_tokens: int) -> Iterator[Span]:
    for part in spans(text[span.start : span.end], max_tokens, overlap_tokens):  # guard plugin-chunk-too-long
        yield Span(span.start + part.start, span.start + part.end)
