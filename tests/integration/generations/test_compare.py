"""What searches find in two generations, beside each other."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reindexer.core.profile import Profile
from reindexer.generations import lifecycle, promotion
from reindexer.postgres.connect import Connection
from reindexer.sources.store import find_source
from reindexer.testing.provider import Call, FakeProvider, Reply
from reindexer.worker.worker import Worker
from tests.integration.generations.settling import NAME, SOON, rebuilt, settle, started
from tests.support.commands import Done
from tests.support.flow import fill, insert

OTHER = "another-model"
Command = Callable[..., Done]


@pytest.fixture
def filled(db: Connection, worker: Worker, provider: FakeProvider) -> Connection:
    """Sixty rows in generation 1; of another model all vectors are those of other texts."""

    def behave(call: Call) -> Reply | None:
        if call.body["model"] != OTHER:
            return None
        return provider.vectors(replace(call, inputs=tuple(f"not {text}" for text in call.inputs)))

    provider.behave = behave
    for n in range(60):
        insert(db, f"What is number {n} about? It goes on and on.", f"number {n}")
    settle(db, worker)
    provider.calls.clear()
    return db


def by_another_model(db: Connection, worker: Worker) -> None:
    source = find_source(db, NAME)
    name, _, dimensions = str(source.made_by).split(":")
    wanted = replace(source, profile=Profile(model=OTHER), made_by=None)
    lifecycle.rebuild(db, wanted, f"{name}:{OTHER}:{dimensions}", who="test")
    settle(db, worker)


def compared(here: Command, env: Mapping[str, str], *arguments: str) -> dict[str, Any]:
    done = here("compare", NAME, "--json", *arguments, env=env)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_a_generation_is_like_itself(
    filled: Connection, here: Command, env: Mapping[str, str], provider: FakeProvider
) -> None:
    found = compared(here, env, "--generation", "1")
    assert (found["overlap"], found["overlap_exact"], found["changed"]) == (1.0, 1.0, [])
    assert found["queries"] == 50
    assert [each["generation"] for each in found["generations"]] == [1, 1]
    assert len(provider.calls) == 1, "one request for all queries"
    assert re.fullmatch(r"number \d+ What is number \d+ about\?", provider.inputs[0])


def test_a_model_that_puts_texts_elsewhere_finds_others(
    filled: Connection, worker: Worker, here: Command, env: Mapping[str, str], provider: FakeProvider
) -> None:
    by_another_model(filled, worker)
    provider.calls.clear()
    found = compared(here, env)
    assert found["overlap"] < 0.4  # by chance 10 of 60 are the same
    assert found["overlap"] == found["overlap_exact"]
    assert [each["overlap_with_exact"] for each in found["generations"]] == [1.0, 1.0]
    assert len(found["changed"]) == 20
    shares = [each["overlap"] for each in found["changed"]]
    assert shares == sorted(shares)
    assert [len(ids) for ids in found["changed"][0]["found"]] == [10, 10]
    assert [call.body["model"] for call in provider.calls] == [provider.calls[0].body["model"], OTHER]
    again = compared(here, env)
    assert [each["query"] for each in again["changed"]] == [each["query"] for each in found["changed"]]


def test_what_differs_in_storage_alone_finds_the_same_and_its_size_is_told(
    filled: Connection, worker: Worker, here: Command, env: Mapping[str, str], provider: FakeProvider
) -> None:
    rebuilt(filled, worker, profile=Profile(collection={"datatype": "float16"}))
    found = compared(here, env, "--sample", "5")
    one, other = found["generations"]
    assert found["overlap_exact"] > 0.9
    assert found["queries"] == 5
    assert (one["points"], other["points"]) == (60, 60)
    assert one["bytes_estimate"] - other["bytes_estimate"] == 60 * 32 * 2
    assert one["p99_ms"] >= one["p50_ms"] > 0
    assert one["recall"] is None
    assert one["tokens_estimate"] > 60 * 5
    assert len(provider.calls) == 1, "both are of one model"


def test_a_golden_file_tells_recall_and_rank(
    filled: Connection, worker: Worker, here: Command, env: Mapping[str, str], tmp_path: Path
) -> None:
    by_another_model(filled, worker)
    ids = [str(item_id) for (item_id,) in filled.execute("SELECT id FROM context_items ORDER BY substr(title, 8)::int")]
    text = "number {n}\nWhat is number {n} about? It goes on and on."
    golden = tmp_path / "golden.jsonl"
    entries = [{"query": text.format(n=n), "expected": [ids[n].upper()]} for n in range(3)]
    golden.write_text("\n\n".join(map(json.dumps, entries)) + "\n")
    toml = tmp_path / "golden.toml"
    toml.write_text("\n".join(f"[[queries]]\nquery = {json.dumps(each['query'])}\nexpected = {json.dumps(each['expected'])}"
                              for each in entries))  # fmt: skip
    for file in (golden, toml):
        found = compared(here, env, "--queries", str(file))
        assert found["from"] == "file"
        assert [(each["recall"], each["mrr"]) for each in found["generations"]] == [(1.0, 1.0), (1.0, 1.0)]
    missing = {"query": text.format(n=5), "expected": [ids[5], "00000000-0000-0000-0000-000000000000"]}
    golden.write_text(json.dumps(missing))
    assert compared(here, env, "--queries", str(golden))["generations"][0]["recall"] == 0.5


def test_the_next_generation_is_compared_before_a_former_one(
    filled: Connection, worker: Worker, here: Command, env: Mapping[str, str]
) -> None:
    rebuilt(filled, worker)
    promotion.promote(filled, NAME, who="test", terms=SOON)
    assert [each["state"] for each in compared(here, env)["generations"]] == ["active", "standby"]
    started(filled)
    assert [each["state"] for each in compared(here, env)["generations"]] == ["active", "filling"]
    settle(filled, worker)
    assert [each["generation"] for each in compared(here, env)["generations"]] == [2, 3]


def test_the_report_can_be_read_on_a_terminal(
    filled: Connection, worker: Worker, here: Command, env: Mapping[str, str]
) -> None:
    by_another_model(filled, worker)
    filled.execute("UPDATE context_items SET title = E'a \\x1b[31m row' WHERE title = 'number 7'")
    settle(filled, worker)
    done = here("compare", NAME, "--sample", "60", env=env)
    assert done.returncode == 0, done.stderr
    assert "60 queries from the first sentences of rows" in done.stdout
    assert re.search(r"^overlap@10 +0\.\d{3}$", done.stdout, re.MULTILINE)
    assert "bytes in the index (estimate)\t" in done.stdout
    assert "20 queries that changed most" in done.stdout
    assert "\x1b" not in done.stdout


def test_wrong_input_is_told_in_one_line(
    db: Connection, worker: Worker, here: Command, env: Mapping[str, str], tmp_path: Path
) -> None:
    golden, toml = tmp_path / "golden.jsonl", tmp_path / "golden.toml"

    def refused(*arguments: str, name: str = NAME) -> str:
        done = here("compare", name, *arguments, env=env)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        return done.stderr

    assert "there is no source 'nothing'" in refused(name="nothing")
    assert "'context_items' has one generation" in refused()
    assert "there is no generation 7 of 'context_items' to compare with; there are 1 (active)" in refused(
        "--generation", "7"
    )
    assert "nothing of 'context_items' is indexed" in refused("--generation", "1")
    fill(db)
    settle(db, worker)
    asked = ("--generation", "1", "--queries", str(golden))
    assert "golden.jsonl: can't be read: No such file" in refused(*asked)
    good = json.dumps({"query": "x", "expected": ["00000000-0000-0000-0000-000000000000"]})
    for text, words in {
        "": "holds no query",
        f"{good}\nno json": "golden.jsonl:2: this line is not JSON",
        f"{good}\n\n[1]": "golden.jsonl:3: this is no object",
        '{"query": " ", "expected": ["x"]}': "golden.jsonl:1: `query` is missing",
        '{"query": "x"}': "golden.jsonl:1: `expected` is missing",
        '{"query": "x", "expected": ["y"]}': "golden.jsonl:1: id 1 of `expected` is no key of the source (uuid)",
    }.items():
        golden.write_text(text)
        assert words in refused(*asked)
    toml.write_text('[[queries]]\nquery = "x"\nexpected = ["00000000-0000-0000-0000-000000000000"]\n\n[[queries]]\n')
    assert "golden.toml:5: `query` is missing" in refused("--generation", "1", "--queries", str(toml))
    toml.write_text('[[queries]]\nquery = x"\n')
    assert "golden.toml:2: not TOML" in refused("--generation", "1", "--queries", str(toml))
    golden.write_bytes(b'\n{"query": "\xff"}')
    assert "golden.jsonl:2: this is not UTF-8" in refused(*asked)
