"""A source's texts are cut by the chunker that it names, by whoever cuts them; what one does wrong fails an item."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from reindexer import registry
from reindexer.core.lanes import Lane
from reindexer.monitoring.status import status
from reindexer.postgres.connect import Connection
from reindexer.queue.drain import drain
from reindexer.sources.store import find_source
from reindexer.testing.provider import FakeProvider
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.commands import Done
from tests.support.distributions import install
from tests.support.flow import Flow
from tests.support.index_reader import IndexReader

MODULE = """
import re

from reindexer.core.text.chunks import Span, spans


def lines(text, max_tokens, overlap_tokens):
    if "raises" in text:
        raise ValueError(text)
    if "outside" in text:
        return [Span(0, len(text) + 1)]
    return [Span(found.start(), found.end()) for found in re.finditer("[^\\\\n]+", text)]


def same(text, max_tokens, overlap_tokens):
    return spans(text, max_tokens, overlap_tokens)
"""
OF_LINES = "the chunker 'lines' of the package lines-plugin"
BAD = {"raises": f"{OF_LINES} fails: ValueError",
       "outside": f"{OF_LINES} gives a span that is outside of the text: 0 to 9, in 8 characters"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Things:
    """A table whose texts a package's chunker cuts."""

    db: Connection
    flow: Flow
    index: IndexReader
    run: Callable[..., Done]
    env: Mapping[str, str]

    def reindexer(self, *arguments: str, code: int = 0) -> str:
        done = self.run(*arguments, env=self.env)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    def attach(self, *options: str) -> str:
        told = self.reindexer("attach", "things", "--table", "things", "--text", "body", "--yes", *options)
        eventually(self.flow.settles)
        return told

    def outcomes(self) -> dict[str, tuple[str, str | None]]:
        rows = self.db.execute("SELECT item_id, status, error FROM reindexer.item_status WHERE source = 'things'")
        return {item_id: (outcome, error) for item_id, outcome, error in rows}

    def points(self) -> int:
        return IndexReader(self.index.client, "things").count()

    def differences(self, code: int = 0) -> dict[str, int]:
        done = self.run("reconcile", "things", "--json", env=self.env)
        assert done.returncode == code, done.stdout + done.stderr
        assert done.stdout, done.stderr
        return {key: json.loads(done.stdout)[key] for key in ("rows", "unreadable", "missing", "stale", "orphaned")}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The installed package."""
    chunkers = {"lines": "lines_plugin:lines", "same": "lines_plugin:same"}
    install(tmp_path, "lines-plugin", {"reindexer.chunkers": chunkers}, {"lines_plugin": MODULE})
    monkeypatch.syspath_prepend(str(tmp_path))
    _look_anew()
    yield tmp_path
    _look_anew()
    sys.modules.pop("lines_plugin", None)


def _look_anew() -> None:
    vars(registry.CHUNKERS).pop("_found", None)
    registry.chunker.cache_clear()


@pytest.fixture
def things(
    site: Path, db: Connection, worker: Worker, index: IndexReader, here: Callable[..., Done], env: Mapping[str, str]
) -> Things:
    db.execute("CREATE TABLE things (id int PRIMARY KEY, body text)")
    db.execute("INSERT INTO things SELECT n, format(E'one %s\\ntwo %s\\nthree', n, n) FROM generate_series(1, 4) AS n")
    return Things(db, Flow(db, worker), index, here, env)


def test_all_who_cut_use_the_sources_chunker_and_a_changed_one_re_reads_all_rows(
    things: Things, provider: FakeProvider
) -> None:
    things.attach()
    assert things.points() == 4
    assert "chunker  not set → lines\n" in things.attach("--chunker", "lines")
    assert find_source(things.db, "things").chunker == "lines"
    assert things.points() == 12
    assert things.differences() == {"rows": 4, "unreadable": 0, "missing": 0, "stale": 0, "orphaned": 0}
    assert json.loads(things.reindexer("estimate", "things", "--json"))["changed"] == 0
    why = json.loads(things.reindexer("why", "things", "2", "--json"))
    assert (why["chunks"], why["indexed"]) == (3, why["wanted"])
    things.db.execute("UPDATE things SET body = E'one 2\\nnew\\nthree' WHERE id = 2")
    provider.calls.clear()
    eventually(things.flow.settles)
    assert [text for call in provider.calls for text in call.inputs] == ["new"]
    things.attach("--unset", "chunker")
    assert find_source(things.db, "things").chunker == "text"
    assert things.points() == 4
    assert things.differences()["stale"] == 0


def test_texts_that_another_chunker_cuts_alike_are_not_embedded_again(things: Things, provider: FakeProvider) -> None:
    things.attach()
    provider.calls.clear()
    assert "changed; a fill is started" in things.attach("--chunker", "same")
    assert provider.calls == []
    assert things.differences() == {"rows": 4, "unreadable": 0, "missing": 0, "stale": 0, "orphaned": 0}


@pytest.mark.parametrize("word", BAD)
def test_a_text_that_a_chunker_can_not_cut_fails_alone_and_is_named(things: Things, word: str) -> None:
    things.attach("--chunker", "lines")
    things.db.execute("UPDATE things SET body = %s WHERE id = 3", [word.ljust(8, "x")])
    drain(things.db)
    assert json.loads(things.reindexer("why", "things", "3", "--json"))["waits_for"] == BAD[word]
    things.db.execute("UPDATE things SET body = body || ' more' WHERE id <> 3")
    eventually(things.flow.settles)
    assert things.outcomes() == {str(n): ("COMPLETED", None) if n != 3 else ("FAILED", BAD[word]) for n in range(1, 5)}
    assert things.differences(code=1) == {"rows": 3, "unreadable": 1, "missing": 0, "stale": 0, "orphaned": 0}
    estimated = json.loads(things.reindexer("estimate", "things", "--json"))
    assert (estimated["rows"], estimated["unreadable"], estimated["changed"]) == (3, 1, 0)
    things.db.execute("UPDATE things SET body = 'well' WHERE id = 3")
    eventually(things.flow.settles)
    assert things.outcomes()["3"] == ("COMPLETED", None)
    assert things.points() == 10


@pytest.mark.long
def test_a_host_without_the_package_reports_a_problem_of_the_source(things: Things, site: Path) -> None:
    things.attach("--chunker", "lines")
    assert "there is no chunker 'lnies'; did you mean 'lines'?" in things.reindexer(
        "attach", "things", "--chunker", "lnies", code=2
    )
    (site / "lines_plugin-1.0.dist-info" / "entry_points.txt").unlink()
    _look_anew()
    things.db.execute("UPDATE things SET body = 'edited' WHERE id = 1")
    drain(things.db)
    things.flow.worker.run_lane(Lane.LIVE, budget_s=0.5)
    problem = (
        f"source 'things': there is no chunker 'lines'; there are {', '.join(registry.CHUNKERS.names())}; "
        "docs/extend.md tells how a package adds one"
    )
    assert status(things.db).sources["things"].problem == problem
    assert problem in things.reindexer("why", "things", "1", code=1)
    things.attach("--unset", "chunker")
    eventually(things.flow.settles)
    assert things.outcomes()["1"] == ("COMPLETED", None)
