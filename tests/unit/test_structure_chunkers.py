"""Markdown, HTML and source code are cut by their structure, and an edit changes little of it."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reindexer import registry
from reindexer.adapters.chunkers.code import GRAMMARS
from reindexer.core.text.chunks import spans_at
from reindexer.core.text.tokens import estimate_tokens
from tests.support.long_texts import delete, document, edit, insert, move, paragraph

NAMES = ("html", "markdown", "code", "code-python", "code-java")

PIECES = st.lists(
    st.sampled_from([
        "word ", "two words. ", "\n", "\n\n", "字", "x" * 90, "😀", "&nbsp;", "&amp;", "# Title\n", "- item\n", "```\n", "---\n",
        "| a | b |\n|---|---|\n| c | d |\n", "> quoted\n", "    indented\n", "def f(x):\n", "    return 1\n", "{", "}\n", '"',
        "class A {\n", "// remark\n", "# remark\n", "<p>", "</p>", "<div class='a b'>", "</div>", "<h2>", "</h2>", "<br/>",
        "<b>", "</b>", "<li>", "<td>", "<tr>", "<table>", "</table>", "<!-- remark -->", "<!--", "<p", "<a href=\"x", ">",
        "<script>hidden()</script>", "<style>hidden{}</style>", "<img src='" + "hidden" * 200 + "'>", "<?php ", "é", "\r\n",
    ]),
    max_size=150,
).map(lambda pieces: "".join(pieces).strip()).filter(bool)  # fmt: skip


def chunks(name: str, text: str, most: int, overlap: int = 0) -> list[str]:
    return [text[span.start : span.end] for span in registry.chunker(name)(text, most, overlap)]


def words_of(markup: str) -> str:
    """What is left without tags, comments and references to blanks. `<!-->` is a comment, too, and a whole one."""
    return re.sub(r"<!--(?:-?>|.*?(?:-->|\Z))|<[^<>]*>|&nbsp;|\s", "", markup, flags=re.DOTALL)


@pytest.mark.parametrize("name", NAMES)
@given(PIECES, st.integers(16, 200), st.integers(0, 8))
def test_chunks_fit_are_in_order_and_are_never_blank(name: str, text: str, most: int, overlap: int) -> None:
    found = registry.chunker(name)(text, most, overlap)
    assert found == registry.chunker(name)(text, most, overlap)
    for one, following in pairwise(found):
        assert one.start < following.start
        assert one.end <= following.end
    for span in found:
        assert 0 <= span.start < span.end <= len(text)
        assert text[span.start : span.end].strip()
        assert estimate_tokens(text[span.start : span.end]) <= most


@pytest.mark.parametrize("name", ["markdown", "code", "code-python", "code-java"])
@given(PIECES, st.integers(16, 200), st.integers(0, 8))
def test_chunks_of_markdown_and_code_hold_every_word(name: str, text: str, most: int, overlap: int) -> None:
    covered = bytearray(len(text))
    for span in registry.chunker(name)(text, most, overlap):
        covered[span.start : span.end] = b"\1" * (span.end - span.start)
    assert all(there or character.isspace() for there, character in zip(covered, text, strict=True))


@given(PIECES, st.integers(16, 200), st.integers(0, 8))
@example("<p><!--> quoted", 16, 0)
def test_chunks_of_html_hold_words_and_no_script(text: str, most: int, overlap: int) -> None:
    found = chunks("html", text, most, overlap)
    assert all(words_of(chunk) for chunk in found)
    if "<!--" not in text.replace("<!-- remark -->", "") and '"' not in text and "<p" not in text.replace("<p>", ""):
        assert not any("hidden" in chunk for chunk in found)


@given(
    st.lists(st.sampled_from(["<p>", "</p>", "<div>", "</div>", "<h1>", "</i>", "<b>", "<td>", "<tr>"]), max_size=60)
)
def test_each_word_of_html_is_in_a_chunk_however_its_tags_are_nested(tags: Sequence[str]) -> None:
    text = "".join(f"{tag}word{n} and more of it. " for n, tag in enumerate(tags))
    together = "".join(chunks("html", text, 40)) if text else ""
    assert all(f"word{n} " in together for n in range(len(tags)))


def test_places_stand_before_all_separators_and_what_is_too_long_is_cut_on() -> None:
    text = "one two. three four.\n\n" * 60
    assert [(span.start, span.end) for span in spans_at("short", [[2]], 16)] == [(0, 5)]
    found = spans_at(text, [[22 * 25 + 4]], 300)
    assert [span.start for span in found] == [0, 22 * 25 + 4]
    for places in ([], [[44]], [[44], [22, 44]], [[], [4]]):
        found = spans_at(text, places, 40)
        assert len(found) > 10
        assert max(estimate_tokens(text[span.start : span.end]) for span in found) <= 40


def test_markdown_is_cut_at_headings_and_fences_tables_and_front_matter_stay_whole() -> None:
    chance = random.Random(1)
    front = "---\ntitle: Bees\ntags:\n  - a\n\n  - b\n---"
    fence = "```python\n# no heading\n\n\ndef f():\n\n    return 1\n\n# nor this\n```"
    table = "| a | b |\n| --- | --- |\n" + "\n".join(f"| row {n} | words |" for n in range(6))
    sections = [
        f"{marks} Title {n}\n\n{paragraph(chance, 15)}\n\n{block}\n\n{paragraph(chance, 40)}"
        for n, (marks, block) in enumerate([("#", fence), ("##", table), ("##", fence), ("#", table)] * 3)
    ]
    text = "\n\n".join([front, *sections])
    most = max(map(estimate_tokens, (front, *sections))) + 10
    found = chunks("markdown", text, most)
    assert found[0].startswith("---\ntitle")
    assert all(chunk.startswith("#") for chunk in found[1:])
    small = chunks("markdown", text, max(map(estimate_tokens, (front, fence, table))) + 12)
    assert len(small) > len(found)
    for whole, times in ((front, 1), (fence, 6), (table, 6)):
        assert sum(whole in chunk for chunk in small) == times
    assert not any(re.fullmatch(r"#+ Title \d+", chunk.splitlines()[-1]) for chunk in small)


def test_markdown_lists_are_cut_between_items() -> None:
    chance = random.Random(2)
    items = [f"- {paragraph(chance, 12)}\n\n  {paragraph(chance, 12)}" for _ in range(20)]
    found = chunks("markdown", "\n".join(items), 120)
    assert len(found) > 5
    assert all(chunk.startswith("- ") for chunk in found)


def test_html_is_cut_at_headings_and_blocks_and_what_is_around_words_is_left_out() -> None:
    text = """<!DOCTYPE html><html><head><title>Bees</title><style>b{}</style><meta name="x"></head><body class="page">
    <!-- menu --><nav><a href="/">Home</a> <a href="/b">Bees</a></nav><script>track()</script>
    <h1>Winter</h1><p>They keep <b>warm</b>.</p><p>&nbsp;</p><img src="a.png">
    <h2>Heat</h2><table><tr><td>one<td>two<tr><td>three</table><hr>
    <div class="ad"><script>ad()</script></div><p>The end</p></body></html>"""
    assert chunks("html", text, 1000) == [
        "<title>Bees</title>",
        '<nav><a href="/">Home</a> <a href="/b">Bees</a></nav>',
        '<h1>Winter</h1><p>They keep <b>warm</b>.</p><p>&nbsp;</p><img src="a.png">\n'
        "    <h2>Heat</h2><table><tr><td>one<td>two<tr><td>three",
        "<p>The end</p>",
    ]
    assert chunks("html", text, 44)[2:4] == [
        "<h1>Winter</h1><p>They keep <b>warm</b>.</p>",
        "<h2>Heat</h2><table><tr><td>one<td>two<tr><td>three",
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<script>only()</script>", []),
        ("<div><img src=a><p>&nbsp;</p><!-- remark --></div>", []),
        ("</div></p>", []),
        ("plain < text > &", ["plain < text > &"]),
        ("<div><p>never <b>closed", ["<p>never <b>closed"]),
        ("</p></div>text<p>", ["text"]),
        ("a<script>b", ["a"]),
        ("a<!-- b", ["a"]),
        ("<P>Upper</P><SCRIPT>no</sCRIPT >", ["<P>Upper</P>"]),
        ('<p title="a > b">words</p>', ['<p title="a > b">words</p>']),
        ("<p title=\"never closed>words</p><p>more</p>", ["<p title=\"never closed>words</p><p>more</p>"]),
        ("<<<>>>", ["<<<>>>"]),
        (f"<p>one <img src='{'x' * 500}'> two</p>", ["<p>one", "two</p>"]),
    ],
)  # fmt: skip
def test_broken_html_and_markup_alone(text: str, found: Sequence[str]) -> None:
    assert chunks("html", text, 200) == list(found)


def test_a_table_of_html_stays_whole_where_it_fits() -> None:
    chance = random.Random(3)
    table = "<table>" + "".join(f"<tr><td>row {n}</td><td>words</td></tr>" for n in range(6)) + "</table>"
    text = "".join(f"<h2>Title {n}</h2>{table}<p>{paragraph(chance, 30)}</p> bare words" for n in range(8))
    rows = [chunk.count("<td>") for chunk in chunks("html", text, estimate_tokens(table) + 30)]
    assert rows
    assert all(count % 12 == 0 for count in rows)


CODE = {
    "python": "def f{n}(x):\n    # why\n    if x:\n        return {n}\n\n    return x + {n}\n",
    "go": "// F{n} adds.\nfunc F{n}(x int) int {{\n\tif x > 0 {{\n\t\treturn {n}\n\t}}\n\n\treturn x + {n}\n}}\n",
    "java": "class F{n} {{\n    /** Adds. */\n    int add(int x) {{\n        if (x > 0) {{ return {n}; }}\n\n        return x + {n};\n    }}\n}}\n",
    "rust": "/// Adds.\n#[inline]\nfn f{n}(x: i32) -> i32 {{\n    if x > 0 {{\n        return {n};\n    }}\n\n    x + {n}\n}}\n",
    "csharp": "namespace N{n} {{\n    public sealed class F {{\n        public string Name {{ get; set; }}\n\n        public int Add(int x) => x + {n};\n    }}\n}}\n",
    "javascript": "// Adds.\nexport const f{n} = (x) => {{\n  if (x) {{ return `${{x}}`; }}\n\n  return x + {n};\n}};\n",
    "typescript": "interface I{n} {{ a: number; b?: string }}\n\nexport function f{n}<T extends I{n}>(x: T): number {{\n  return <number>x.a + {n};\n}}\n",
    "tsx": "type P{n} = {{ a: number }};\n\nexport const F{n} = ({{ a }}: P{n}): Node => (\n  <div className=\"x\">{{a as number}}</div>\n);\n",
    "c": "/* Adds. */\nstatic int f{n}(struct s *x) {{\n    if (x->a) {{\n        return {n};\n    }}\n\n    return x->b + {n};\n}}\n",
    "cpp": "template <typename T> class F{n} : public Base<T> {{\npublic:\n    explicit F{n}(T x) : x_(std::move(x)) {{}}\n\n    T get() const {{ return x_; }}\n}};\n",
    "ruby": "# Adds.\ndef f{n}(x)\n  return {n} if x.nil?\n\n  x.each {{ |y| puts y }} unless x == :a\nend\n",
    "php": "/** Adds. */\nfunction f{n}(int $x): int {{\n    if ($x > 0) {{ return {n}; }}\n\n    return $x + {n};\n}}\n",
}  # fmt: skip


@pytest.mark.parametrize("language", GRAMMARS)
@pytest.mark.parametrize("guessed", [False, True])
def test_code_of_each_language_is_cut_between_its_functions(language: str, guessed: bool) -> None:
    parts = [CODE[language].format(n=n) for n in range(40)]
    text = ("<?php\n" if language == "php" else "") + "\n".join(parts)
    begins = {part.splitlines()[0] for part in parts} | {"<?php"}
    begins |= {line for line in text.splitlines() if line.startswith("export ")}
    found = chunks("code" if guessed else f"code-{language}", text, 200)
    assert len(found) > 8
    assert all(chunk.splitlines()[0] in begins for chunk in found)


def test_remarks_stay_with_the_function_below_and_a_long_class_is_cut_between_its_methods() -> None:
    method = "    # Of the {n}th.\n    # It adds.\n    @cached\n    def m{n}(self, x):\n        if x:\n            return {n}\n\n        return x\n"
    text = "import a\nimport b\n\n\nclass A:\n" + "\n".join(method.format(n=n) for n in range(30))
    found = chunks("code-python", text, 200)
    assert len(found) > 8
    assert all(chunk.startswith("# Of the") for chunk in found[1:])


def test_what_is_no_code_is_cut_as_text() -> None:
    text = "\n\n".join(f"# Title\n\n{each}" for each in document(random.Random(4), 40))
    assert chunks("code", text, 120) == chunks("text", text, 120)


def as_markdown(words: str) -> str:
    kind = int(words[-3]) if words[-3].isdigit() else 0
    if kind == 0:
        return f"## {words[:20]}\n\n{words}"
    return f"```text\n{words}\n\n# {words}\n```" if kind == 1 else words


def as_html(words: str) -> str:
    kind = int(words[-3])
    if kind == 0:
        return f"<h2>{words[:20]}</h2><p>{words}</p>"
    return f"<ul><li>{words}</li><li>{words}</li></ul>" if kind == 1 else f"<p class='a'>{words}</p><!-- remark -->"


def as_code(words: str) -> str:
    return f'def f_{words[-7:-1]}():\n    """{words}"""\n    return {words[-7:-1]}\n\n'


KINDS: dict[str, tuple[Callable[[str], str], str, str]] = {
    "markdown": (as_markdown, "# Title\n\n{}", "\n\n"),
    "html": (as_html, "<html><body><div class='page'><h1>Title</h1>{}</div></body></html>", "\n"),
    "code": (as_code, "import a\n\n{}", "\n"),
    "code-python": (as_code, "import a\n\n{}", "\n"),
}
CHANGES: Sequence[Callable[[random.Random, list[str]], None]] = (edit, insert, delete, move)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.first(2)
def test_a_changed_part_makes_at_most_three_new_chunks_of_a_hundred_in_nearly_all_texts(name: str) -> None:
    of_part, page, between = KINDS[name]
    more, new_chunks, times = dict.fromkeys(CHANGES, 0), 0, 30
    for seed in range(times):
        chance = random.Random(seed)
        doc = document(chance, 120)
        before = set(chunks(name, page.format(between.join(map(of_part, doc))), 200))
        assert len(before) > 30
        drawn = chance.getstate()
        for change in CHANGES:
            chance.setstate(drawn)
            changed = list(doc)
            change(chance, changed)
            after = chunks(name, page.format(between.join(map(of_part, changed))), 200)
            new = [chunk for chunk in after if chunk not in before]
            new_chunks += len(new)
            more[change] += len(new) > 3
            assert len(new) <= 6
    assert all(count <= times / 10 for count in more.values()), more
    assert new_chunks <= 2 * times * len(CHANGES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "text",
    ["<a " * 30_000, "<div>" * 20_000 + "x", "<p>x</b>" * 15_000, "{\n" * 20_000, "[" * 30_000, "> " * 10_000 + "x" * 9_000,
     "- a\n" * 15_000, "```\n" * 15_000, "x" * 100_000, '"' * 50_000],
    ids=["tags", "open blocks", "wrong ends", "braces", "brackets", "quotes", "items", "fences", "letters", "strings"],
)  # fmt: skip
@pytest.mark.first(6)
def test_a_text_without_end_of_one_thing_is_cut_in_little_time(name: str, text: str) -> None:
    began = time.monotonic()
    chunks(name, text, 1000)
    assert time.monotonic() - began < 20
