"""The header of a chunk: what is said of its item, and of the headings above it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reindexer.core.errors import DefinitionError
from reindexer.core.source import CONTEXT_ITEMS
from reindexer.core.text.embedding_spec import EmbeddingSpec
from reindexer.core.text.header import header_columns, render_header
from reindexer.core.text.tokens import estimate_tokens

BOTH = "{title} › {headings}"


@pytest.mark.parametrize(
    ("template", "title", "headings", "told"),
    [
        (BOTH, "Bees", ("Wintering", "Heat"), "Bees › Wintering › Heat\n"),
        (BOTH, "Bees", (), "Bees\n"),
        (BOTH, "", ("Wintering",), "Wintering\n"),
        (BOTH, "", (), ""),
        ("Page: {title} ({headings})", "Bees", (), "Page: Bees)\n"),
        ("Of {title}", "two\n  lines", (), "Of two lines\n"),
        ("Of {title}", "", (), ""),
    ],
)
def test_what_is_blank_is_left_out_with_the_words_before_it(
    template: str, title: str, headings: tuple[str, ...], told: str
) -> None:
    assert render_header(template, {"title": title}, headings, 100) == told


def test_a_long_header_is_cut_at_a_word() -> None:
    header = render_header(BOTH, {"title": "many words " * 10_000}, (), 20)
    assert estimate_tokens(header) <= 20
    assert header.startswith("many words many")
    assert header.endswith(("words\n", "many\n"))
    assert estimate_tokens(render_header(BOTH, {"title": "x" * 10_000}, (), 20)) <= 20


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{name}", "the chunk header names 'name', which is neither a text column (title, content) nor headings"),
        ("a page", "the chunk header names no column; write {title} or {headings} into it"),
        ("{title", "the template can't be read"),
    ],
)
def test_a_header_of_other_columns_is_refused(template: str, words: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        replace(CONTEXT_ITEMS, chunk_header=template)
    assert words in str(refused.value)
    assert refused.value.key == "chunk_header"


def test_a_text_column_may_be_in_the_header_alone() -> None:
    source = replace(CONTEXT_ITEMS, template="{content}", chunk_header=BOTH)
    assert header_columns(source.chunk_header) == ("title",)
    with pytest.raises(DefinitionError, match="the template does not use the text column 'title'"):
        replace(source, chunk_header="{headings}")


def test_a_chunk_and_its_header_are_never_more_than_the_model_takes() -> None:
    source = replace(CONTEXT_ITEMS, chunk_header=BOTH)
    text = "\n\n".join(f"# {'A very long heading ' * 20}{n}\n\n{'words and words. ' * 60}" for n in range(9))
    chunks = EmbeddingSpec.of(source, "e:m:3", 200).chunks(text, {"title": "A title " * 50})
    assert len(chunks) > 9
    assert max(estimate_tokens(chunk.input(text)) for chunk in chunks) <= 200
    for words in range(1, 200):
        text = "word " * words
        chunks = EmbeddingSpec.of(source, "e:m:3", 200).chunks(text, {"title": "A title " * 50})
        assert max(estimate_tokens(chunk.input(text)) for chunk in chunks) <= 200
    chunks = EmbeddingSpec.of(source, "e:m:3", 200).chunks(text, {"title": "A title " * 50})
    assert all(chunk.header.startswith("A title A title") for chunk in chunks)


def test_without_a_header_nothing_is_another_than_before() -> None:
    spec, other = (
        EmbeddingSpec.of(each, "e:m:3", 200) for each in (CONTEXT_ITEMS, replace(CONTEXT_ITEMS, chunk_header=BOTH))
    )
    assert spec.chunks("# One\n\ntext") == spec.chunks("# One\n\ntext", {"title": "any"})
    assert spec.fingerprint("text") != other.fingerprint("text", {"title": "any"})
    assert spec.fingerprint("text") == other.fingerprint("text"), "an empty header is none"
