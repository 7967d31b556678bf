"""Whatever is related how, and whatever is done to any of the tables: the index equals a plain SELECT … GROUP BY."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from reindexer.core.items import point_id
from reindexer.core.related import Link, Related
from reindexer.core.source import Source
from reindexer.embedded.children import Child
from reindexer.postgres.connect import Connection
from reindexer.sources.attach import attach
from reindexer.sources.detach import detach
from reindexer.sources.store import find_source
from reindexer.testing.provider import vector_of
from reindexer.testing.waiting import eventually
from tests.support.flow import idle
from tests.support.index_reader import IndexReader
from tests.support.processes import Processes

TABLES = """
CREATE SCHEMA p;
CREATE TABLE p.root (id int PRIMARY KEY, body text, one_id int, a int, b int, parent_id int);
CREATE TABLE p.one (id int PRIMARY KEY, label text, next_id int);
CREATE TABLE p.next (id int PRIMARY KEY, label text);
CREATE TABLE p.twin (root_id int UNIQUE NOT NULL, label text);
CREATE TABLE p.many (id int PRIMARY KEY, root_id int, label text, one_id int);
CREATE TABLE p.tag (id int PRIMARY KEY, label text, shown boolean);
CREATE TABLE p.link (root_id int, tag_id int);
CREATE TABLE p.pair (a int, b int, label text, PRIMARY KEY (a, b));
"""


def related(name: str, *links: tuple[str, str, str], **more: Any) -> Related:
    made = tuple(Link("p", table, tuple(near.split()), tuple(far.split())) for table, near, far in links)
    return Related(name, made, **{"key_columns": ("id",), **more})


MENU: Mapping[str, Related] = {
    "one": related("one", ("one", "one_id", "id")),
    "twin": related("twin", ("twin", "id", "root_id"), key_columns=("root_id",)),
    "pair": related("pair", ("pair", "a b", "a b"), key_columns=("a", "b")),
    "parent": related("parent", ("root", "parent_id", "id")),
    "many": related("many", ("many", "id", "root_id"), many=True, order=("label",)),
    "children": related("children", ("root", "id", "parent_id"), many=True, separator=" + "),
    "tag": related(
        "tag", ("link", "id", "root_id"), ("tag", "tag_id", "id"),
        many=True, order=("label",), condition="shown", condition_columns=("shown",),
    ),
    "next": related("next", ("next", "next_id", "id"), of="one"),
    "far": related("far", ("one", "one_id", "id"), of="many"),
    "three": related("three", ("many", "id", "root_id"), many=True, limit=3),
}  # fmt: skip
LABELS = {"parent": "body", "children": "body"}
"""What is read of each; `label` where nothing stands."""

ORACLE: Mapping[str, str] = {
    "one": "SELECT r.id, array_agg(x.label) FROM p.root r JOIN p.one x ON x.id = r.one_id GROUP BY r.id",
    "twin": "SELECT x.root_id, array_agg(x.label) FROM p.twin x GROUP BY x.root_id",
    "pair": "SELECT r.id, array_agg(x.label) FROM p.root r JOIN p.pair x ON x.a = r.a AND x.b = r.b GROUP BY r.id",
    "parent": "SELECT r.id, array_agg(x.body) FROM p.root r JOIN p.root x ON x.id = r.parent_id GROUP BY r.id",
    "many": "SELECT root_id, array_agg(label ORDER BY label, id) FROM p.many GROUP BY root_id",
    "children": "SELECT parent_id, array_agg(body ORDER BY id) FROM p.root GROUP BY parent_id",
    "tag": "SELECT l.root_id, array_agg(x.label ORDER BY x.label, x.id) FROM p.link l JOIN p.tag x ON x.id = l.tag_id"
    " WHERE x.shown GROUP BY l.root_id",
    "next": "SELECT r.id, array_agg(n.label) FROM p.root r JOIN p.one x ON x.id = r.one_id JOIN p.next n ON n.id = x.next_id"
    " GROUP BY r.id",
    "far": "SELECT m.root_id, array_agg(x.label ORDER BY x.id) FROM p.many m JOIN p.one x ON x.id = m.one_id"
    " GROUP BY m.root_id",
    "three": "SELECT root_id, (array_agg(label ORDER BY id))[:3] FROM p.many GROUP BY root_id",
}
SEVERAL = {"many", "children", "tag", "far", "three"}

ids = st.integers(0, 4)
some = st.one_of(st.none(), ids)
words = st.sampled_from([None, "", " ", "red", "blue", "물", "50% off", "a, b"])
columns: Mapping[str, Mapping[str, st.SearchStrategy[Any]]] = {
    "root": {"id": ids, "body": words, "one_id": some, "a": some, "b": some, "parent_id": some},
    "one": {"id": ids, "label": words, "next_id": some},
    "next": {"id": ids, "label": words},
    "twin": {"root_id": ids, "label": words},
    "many": {"id": st.integers(0, 9), "root_id": some, "label": words, "one_id": some},
    "tag": {"id": ids, "label": words, "shown": st.one_of(st.none(), st.booleans())},
    "link": {"root_id": some, "tag_id": some},
    "pair": {"a": ids, "b": ids, "label": words},
}


@dataclass(frozen=True)
class Statement:
    """What is executed, with its values."""

    query: str
    values: Sequence[Any] = field(default=())


@st.composite
def statements(draw: st.DrawFn) -> Statement:
    table = draw(st.sampled_from(sorted(columns)))
    kinds = columns[table]
    kind = draw(st.sampled_from(["insert", "insert", "insert", "update", "update", "delete", "truncate"]))
    column = draw(st.sampled_from(sorted(kinds)))
    value, key, other = draw(kinds[column]), draw(st.sampled_from(sorted(kinds))), draw(ids)
    if kind == "insert":
        rows = draw(st.lists(st.tuples(*kinds.values()), min_size=1, max_size=4))
        places = ", ".join(f"({', '.join(['%s'] * len(kinds))})" for _ in rows)
        return Statement(
            f"INSERT INTO p.{table} ({', '.join(kinds)}) VALUES {places} ON CONFLICT DO NOTHING",
            [each for row in rows for each in row],
        )
    if kind == "update":
        where = f" WHERE {key} = %s" if key not in ("label", "body", "shown") and draw(st.booleans()) else ""
        return Statement(f"UPDATE p.{table} SET {column} = %s{where}", [value, other] if where else [value])
    if kind == "delete":
        return Statement(
            f"DELETE FROM p.{table} WHERE ctid IN (SELECT ctid FROM p.{table} ORDER BY ctid LIMIT %s)", [other]
        )
    return Statement(f"TRUNCATE p.{table}" if draw(st.integers(0, 3)) == 0 else f"DELETE FROM p.{table}")


@dataclass(frozen=True)
class Transaction:
    """Statements, and whether they are undone."""

    statements: Sequence[Statement]
    undone: bool
    kills: bool


transactions = st.builds(
    Transaction, st.lists(statements(), min_size=1, max_size=3), st.integers(0, 5).map(lambda n: n == 0),
    st.integers(0, 7).map(lambda n: n == 0),
)  # fmt: skip
chosen = st.lists(st.sampled_from(sorted(MENU)), min_size=1, max_size=4, unique=True)
numbers = count(1)


@dataclass(slots=True)
class Stack:
    """A listener and a worker that are there, and killed now and then."""

    processes: Processes
    worker: Child

    def kill(self) -> None:
        """Without a word; another one follows."""
        self.worker.process.send_signal(signal.SIGKILL)
        self.worker.process.wait(timeout=10)
        self.worker = self.processes.worker(pool="threads", concurrency=2)


@pytest.fixture
def stack(processes: Processes) -> Stack:
    processes.env["REINDEXER_LEASE_S"] = "5"
    processes.listener()
    return Stack(processes, processes.worker(pool="threads", concurrency=2))


def defined(names: Sequence[str], in_text: Sequence[str]) -> Source:
    wanted = dict.fromkeys(names)
    for name in names:
        if (of := MENU[name].of) is not None:
            wanted[of] = None
    chain = [name for name in MENU if name in wanted]
    read = [f"{name}.{LABELS.get(name, 'label')}" for name in chain]
    text = ("body", *(each for each in read if each.partition(".")[0] in in_text))
    return Source(
        f"drawn_{next(numbers)}", "p", "root", ("id",), text, tuple(read), related=tuple(MENU[name] for name in chain)
    )


def expected(db: Connection, source: Source) -> dict[str, tuple[str, dict[str, Any]]]:
    """The text and the payload of each row that has a text."""
    lists: dict[str, dict[Any, Any]] = {
        each.name: dict(db.execute(ORACLE[each.name].encode()).fetchall()) for each in source.related
    }
    found = {}
    for root_id, body in db.execute("SELECT id, body FROM p.root").fetchall():
        texts, payload = [body or ""], dict[str, Any]()
        for each in source.related:
            column = LABELS.get(each.name, "label")
            there = lists[each.name].get(root_id)
            if each.name in SEVERAL:
                payload[each.name] = {column: [label for label in there or [] if label is not None]}
                text = each.separator.join(label for label in there or [] if (label or "").strip())
            else:
                payload[each.name] = None if there is None else {column: there[0]}
                text = (there or [""])[0] or ""
            if f"{each.name}.{column}" in source.text_columns:
                texts.append(text)
        if lines := [each.strip() for each in texts if each.strip()]:
            found[str(root_id)] = "\n".join(lines), payload
    return found


def indexed(index: IndexReader, source: Source) -> dict[str, tuple[Any, dict[str, Any]]]:
    records, _ = index.client.scroll(source.collection, limit=1000, with_vectors=True)
    found = {}
    for record in records:
        payload = dict(record.payload or {})
        item_id = payload.pop("_reindexer")["item_id"]
        assert str(record.id) == point_id(source.name, item_id, 0)
        found[item_id] = record.vector, payload
    return found


def compare(db: Connection, index: IndexReader, source: Source) -> None:
    wanted = expected(db, source)
    there = indexed(index, source) if index.client.collection_exists(source.collection) else {}
    assert {item_id: payload for item_id, (_, payload) in there.items()} == {
        item_id: payload for item_id, (_, payload) in wanted.items()
    }
    for item_id, (text, _) in wanted.items():
        assert np.allclose(there[item_id][0], vector_of(text), atol=1e-4), (item_id, text)


def do(db: Connection, transaction: Transaction) -> None:
    """A duplicate key undoes it, too."""
    try:
        with db.transaction(force_rollback=transaction.undone):
            for each in transaction.statements:
                db.execute(each.query.encode(), each.values)
    except (psycopg.IntegrityError, psycopg.DataError):
        pass


def runs(db: Connection, index: IndexReader, stack: Stack, source: Source, drawn: Sequence[Transaction]) -> None:
    db.execute("DROP SCHEMA IF EXISTS p CASCADE")
    db.execute(TABLES)
    for each in drawn[: len(drawn) // 3]:
        do(db, each)
    attach(db, source)
    try:
        for each in drawn[len(drawn) // 3 :]:
            do(db, each)
            if each.kills:
                stack.kill()
        eventually(lambda: idle(db), within=60)
        compare(db, index, source)
    finally:
        detach(db, find_source(db, source.name), who="test", lease_s=5)
        index.client.delete_collection(source.collection)


few = effort(
    max_examples=10, deadline=None, database=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
many = effort(few, max_examples=200, derandomize=False)


@pytest.mark.timeout(300)
@few
@given(names=chosen, in_text=chosen, drawn=st.lists(transactions, min_size=6, max_size=18))
def test_the_index_equals_a_select_whatever_is_done(
    db: Connection, index: IndexReader, stack: Stack, names: list[str], in_text: list[str], drawn: list[Transaction]
) -> None:
    runs(db, index, stack, defined(names, in_text), drawn)


@pytest.mark.long
@pytest.mark.timeout(3000)
@many
@given(names=chosen, in_text=chosen, drawn=st.lists(transactions, min_size=6, max_size=18))
def test_the_same_two_hundred_times(
    db: Connection, index: IndexReader, stack: Stack, names: list[str], in_text: list[str], drawn: list[Transaction]
) -> None:
    runs(db, index, stack, defined(names, in_text), drawn)
