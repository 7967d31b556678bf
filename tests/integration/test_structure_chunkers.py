"""Sources of Markdown, HTML and source code: an edit of one part embeds that part, and all who cut agree."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pytest

from reindexer import registry
from reindexer.core.lanes import Lane
from reindexer.monitoring.status import status
from reindexer.postgres.connect import Connection
from reindexer.queue.drain import drain
from reindexer.testing.provider import FakeProvider
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.commands import Done
from tests.support.flow import Flow
from tests.support.index_reader import IndexReader

WORDS = "Bees keep the cluster warm in winter, and they eat what they have stored in summer and in autumn."


@dataclass(frozen=True, slots=True)
class Form:
    """A form of texts: its page, the parts of it, and what one part looks like."""

    page: str
    part: str
    between: str = "\n\n"

    def text(self, words: Sequence[str]) -> str:
        parts = (self.part.format(n=n, words=each) for n, each in enumerate(words))
        return self.page.format(self.between.join(parts))


FORMS = {
    "markdown": Form("---\ntitle: Bees\n---\n\n# Bees\n\n{}\n", "## Part {n}\n\n{words}\n\n```sh\n# no heading\n\necho {n}\n```"),
    "html": Form(
        "<html><head><title>Bees</title><style>secret{{}}</style></head><body><h1>Bees</h1>{}<script>secret()</script></body></html>",
        "<section class='part'><h2>Part {n}</h2><p>{words}</p><!-- remark --></section>", "\n<script>secret()</script>\n",
    ),
    "code": Form("import bees\n\n\n{}\n", 'def part_{n}(x):\n    """{words}"""\n    return x + {n}', "\n\n\n"),
    "code-rust": Form("use bees::Bee;\n\n{}\n", '/// Adds.\nfn part_{n}(x: i32) -> i32 {{\n    println!("{words}");\n    x + {n}\n}}'),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pages:
    """A table of texts of one form, attached with its chunker."""

    db: Connection
    flow: Flow
    index: IndexReader
    run: Callable[..., Done]
    env: Mapping[str, str]

    def reindexer(self, *arguments: str, code: int = 0) -> str:
        done = self.run(*arguments, env=self.env)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    def write(self, text: str) -> None:
        self.db.execute("INSERT INTO pages VALUES (1, %s) ON CONFLICT (id) DO UPDATE SET body = excluded.body", [text])

    def differences(self) -> dict[str, int]:
        told = json.loads(self.reindexer("reconcile", "pages", "--json"))
        return {key: told[key] for key in ("missing", "stale", "orphaned", "unreadable")}


@pytest.fixture
def pages(
    db: Connection, worker: Worker, index: IndexReader, here: Callable[..., Done], env: Mapping[str, str]
) -> Pages:
    db.execute("CREATE TABLE pages (id int PRIMARY KEY, body text)")
    return Pages(db, Flow(db, worker), index, here, env)


@pytest.mark.parametrize("name", FORMS)
def test_an_edit_of_one_part_embeds_its_chunk_and_hardly_anything_else(
    pages: Pages, provider: FakeProvider, name: str
) -> None:
    form, words = FORMS[name], [WORDS] * 12
    pages.write(form.text(words))
    attach = ("attach", "pages", "--table", "pages", "--text", "body", "--chunker", name, "--chunk-tokens", "100")
    pages.reindexer(*attach, "--yes")
    eventually(pages.flow.settles)
    embedded = [text for call in provider.calls for text in call.inputs]
    assert IndexReader(pages.index.client, "pages").count() > 6
    assert not any("secret" in text for text in embedded)
    assert sum("art_7" in text or "Part 7" in text for text in embedded) == 1
    provider.calls.clear()
    words[7] = "Drones leave in summer. " + WORDS
    pages.write(form.text(words))
    eventually(pages.flow.settles)
    edited = [text for call in provider.calls for text in call.inputs]
    assert len(edited) <= 2
    assert sum("Drones leave" in text for text in edited) == 1
    assert pages.differences() == {"missing": 0, "stale": 0, "orphaned": 0, "unreadable": 0}


def test_html_without_words_has_no_point(pages: Pages, provider: FakeProvider) -> None:
    pages.reindexer("attach", "pages", "--table", "pages", "--text", "body", "--chunker", "html", "--yes")
    pages.write("<p>words</p>")
    eventually(pages.flow.settles)
    assert IndexReader(pages.index.client, "pages").count() == 1
    provider.calls.clear()
    pages.write("<div><img src='a.png'><script>track()</script></div>")
    eventually(pages.flow.settles)
    assert IndexReader(pages.index.client, "pages").count() == 0
    assert provider.calls == []
    assert pages.differences() == {"missing": 0, "stale": 0, "orphaned": 0, "unreadable": 0}
    assert json.loads(pages.reindexer("estimate", "pages", "--json"))["changed"] == 0


def test_words_that_moved_are_found_where_they_are_and_not_embedded_again(pages: Pages, provider: FakeProvider) -> None:
    pages.reindexer("attach", "pages", "--table", "pages", "--text", "body", "--chunker", "html", "--yes")
    pages.write("<script>a()</script><p>words</p>")
    eventually(pages.flow.settles)
    provider.calls.clear()
    text = "<script>another()</script><!-- remark --><p>words</p>"
    pages.write(text)
    eventually(pages.flow.settles)
    point = IndexReader(pages.index.client, "pages").payload("1")
    assert point is not None
    start, end = point["_reindexer"]["span"]
    assert text[start:end] == "<p>words</p>"
    assert provider.calls == []
    assert pages.differences() == {"missing": 0, "stale": 0, "orphaned": 0, "unreadable": 0}


@pytest.mark.long
def test_a_host_without_the_extra_is_told_at_attach_and_at_work(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = "source 'pages': the chunker 'code' needs other packages: pip install 'reindexer[structure]'"
    attach = ("attach", "pages", "--table", "pages", "--text", "body", "--chunker", "code", "--yes")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "tree_sitter", None)
        assert missing in pages.reindexer(*attach, code=2)
    pages.reindexer(*attach)
    registry.chunker.cache_clear()
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "tree_sitter", None)
        pages.write("words")
        drain(pages.db)
        pages.flow.worker.run_lane(Lane.LIVE, budget_s=0.5)
        assert status(pages.db).sources["pages"].problem == missing
        assert missing in pages.reindexer("why", "pages", "1", code=1)
    eventually(pages.flow.settles)
    assert IndexReader(pages.index.client, "pages").count() == 1
