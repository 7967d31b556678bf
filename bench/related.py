"""Related tables: how soon a revoked group is in Qdrant, what renaming an author of many books costs its writer, and
how fast the books follow. Comparators: an edit of the book itself, the same UPDATE without triggers, the first fill."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import psycopg
from qdrant_client import QdrantClient

from bench.figures import Figures
from bench.freshness import POLL_S, percentile
from bench.stage import Bench, Stage, Unsound, until
from bench.texts import texts
from reindexer.core.items import point_id
from reindexer.core.related import Link, Related
from reindexer.core.source import Source
from reindexer.postgres.connect import connect
from reindexer.postgres.locks import changing_triggers
from reindexer.sources.attach import attach

ALIAS = "context_items_books"
BOOKS = Source(
    "books", "public", "books", ("id",), ("title", "author.name"),
    ("title", "price", "author.country", "groups.id"), ALIAS,
    related=(
        Related("author", (Link("public", "authors", ("author_id",), ("id",)),), key_columns=("id",)),
        Related(
            "groups", (Link("public", "book_groups", ("id",), ("book_id",)),), many=True, key_columns=("book_id", "id"),
            order=("id",),
        ),
    ),
)  # fmt: skip
TABLES = """
CREATE TABLE authors (id int PRIMARY KEY, name text, country text);
CREATE TABLE books (id int PRIMARY KEY, title text, author_id int, price int);
CREATE INDEX ON books (author_id);
CREATE TABLE book_groups (book_id int, id int, PRIMARY KEY (book_id, id));
CREATE TABLE plain (id int PRIMARY KEY, name text, country text);
INSERT INTO authors VALUES (1, 'an author', 'KR'), (2, 'nobody', 'KR');
INSERT INTO plain SELECT * FROM authors;
"""
WITHIN_S = 600.0


def measure(stage: Stage, figures: Figures, *, quick: bool) -> None:
    """All in one stage, with one prefork worker of two processes; the provider takes 0 ms."""
    rows, edits, times = (5_000, 40, 9) if quick else (100_000, 300, 31)
    with stage.fresh() as bench:
        _fill(bench, rows)
        bench.processes.listener()
        bench.processes.worker(pool="prefork", concurrency=2)
        filled = rows / _until_idle_s(bench)
        _freshness(bench, figures, edits)
        _writer(bench, figures, times)
        _fan_out(bench, figures, rows, filled, 1 if quick else 3)


def _fill(bench: Bench, rows: int) -> None:
    bench.db.execute(TABLES)
    with bench.db.cursor() as cursor, cursor.copy("COPY books (id, title, author_id) FROM STDIN") as copy:
        for number, (title, content) in enumerate(texts(rows)):
            copy.write_row((number, f"{title} {content[:200]}", 1))
    with connect(bench.url, application_name="bench") as connection, changing_triggers(connection):
        attach(connection, BOOKS)


def _until_idle_s(bench: Bench) -> float:
    began = time.monotonic()
    until(lambda: not bench.waits(), WITHIN_S, "the books are not through")
    return time.monotonic() - began


def _freshness(bench: Bench, figures: Figures, edits: int) -> None:
    """A group is granted or revoked, and a book is edited, in turns."""
    related, own, client = list[float](), list[float](), bench.stage.qdrant()
    for number in range(edits):
        book = str(number // 2)
        if number % 2:
            bench.db.execute("DELETE FROM book_groups WHERE book_id = %s", [book])
            related.append(_seconds(client, book, lambda payload: payload["groups"]["id"] == []))
        else:
            bench.db.execute("INSERT INTO book_groups VALUES (%s, 7)", [book])
            related.append(_seconds(client, book, lambda payload: payload["groups"]["id"] == [7]))
        title = f"edited {number}"
        bench.db.execute("UPDATE books SET title = %s WHERE id = %s", [title, book])
        own.append(_seconds(client, book, lambda payload, title=title: payload["title"] == title))  # type: ignore[misc]
    client.close()
    for share, of in ((0.5, "p50"), (0.99, "p99")):
        beside = 1000 * percentile(own, share)
        note = f"a group granted or revoked; an edit of the book itself {beside:.1f} ms, in turns; prefork 2"
        figures.add(f"fresh_related_{of}_ms", 1000 * percentile(related, share), note)
    figures.add("fresh_related_ratio", median(related) / median(own), "p50 ÷ that of an edit of the book itself")


def _seconds(client: QdrantClient, item_id: str, is_there: Callable[[dict[str, Any]], bool]) -> float:
    committed, point = time.monotonic(), point_id("books", item_id, 0)
    while True:
        records = client.retrieve(ALIAS, [point], with_payload=True)
        if records and is_there(records[0].payload or {}):
            break
        if time.monotonic() > committed + 30:
            raise Unsound("a change was not in Qdrant within 30 s")
        time.sleep(POLL_S)
    took_s = time.monotonic() - committed
    time.sleep(0.05)
    return took_s


def _writer(bench: Bench, figures: Figures, times: int) -> None:
    """An author without books: what the trigger itself costs. Both in turns, in one session."""
    seconds = dict[str, list[float]](authors=[], plain=[])
    for number in range(times + 1):
        for table, found in seconds.items():
            began = time.monotonic()
            bench.db.execute(f"UPDATE {table} SET name = 'name {number}' WHERE id = 2".encode())
            found.append(time.monotonic() - began)
    ours, beside = (median(found[1:]) for found in seconds.values())
    figures.add("related_update_ratio", ours / beside, f"{1000 * ours:.2f} of {1000 * beside:.2f} ms, commit included")


@dataclass(slots=True)
class _Live:
    """Edits one book a second, and measures how soon each is there."""

    bench: Bench
    ended: threading.Event
    seconds: list[float]

    def run(self) -> None:
        client = self.bench.stage.qdrant()
        with psycopg.connect(self.bench.url, autocommit=True) as db:
            number = 0
            while not self.ended.wait(1.0):
                number += 1
                title = f"live {number}"
                db.execute("UPDATE books SET title = %s WHERE id = 3", [title])
                self.seconds.append(
                    _seconds(client, "3", lambda payload, title=title: payload["title"] == title)  # type: ignore[misc]
                )
        client.close()


def _fan_out(bench: Bench, figures: Figures, rows: int, filled: float, times: int) -> None:
    live = _Live(bench, threading.Event(), [])
    thread = threading.Thread(target=live.run)
    bench.db.execute("UPDATE authors SET name = 'another name' WHERE id = 1")
    thread.start()
    try:
        renamed = rows / _until_idle_of_bulk_s(bench)
    finally:
        live.ended.set()
        thread.join()
    until(lambda: not bench.waits(), WITHIN_S, "the edits are not through")
    asked = bench.stage.provider.stats()["inputs"]
    moved, own = list[float](), list[float]()
    for number in range(times):
        bench.db.execute("UPDATE authors SET country = %s WHERE id = 1", [str(number)])
        moved.append(rows / _until_idle_s(bench))
        bench.db.execute("UPDATE books SET price = %s", [number])
        own.append(rows / _until_idle_s(bench))
    if bench.stage.provider.stats()["inputs"] != asked:
        raise Unsound("a change of the payload alone asks the provider")
    wrong = bench.number("SELECT count(*) FROM reindexer.ledger WHERE source = 'books' AND outcome <> 'COMPLETED'")
    if wrong:
        raise Unsound(f"{wrong} books are not completed")
    figures.add("related_fan_out_rps", renamed, f"first fill {filled:,.0f}; {rows:,} books of one author, renamed")
    figures.add("related_fan_out_ratio", renamed / filled, "rows/s ÷ the first fill's")
    note = f"the author's country; the books' own price {median(own):,.0f}, in turns; the provider is not asked"
    figures.add("related_payload_rps", median(moved), note)
    figures.add("related_payload_ratio", median(moved) / median(own), "rows/s ÷ those of the books' own price")
    if live.seconds:
        note = f"{len(live.seconds)} edits, 1 a second, while the books follow"
        figures.add("fresh_under_fan_out_p99_ms", 1000 * percentile(live.seconds, 0.99), note)


def _until_idle_of_bulk_s(bench: Bench) -> float:
    began = time.monotonic()
    query = """
        SELECT (SELECT count(*) FROM reindexer.fan_out) + (SELECT count(*) FROM reindexer.outbox WHERE lane = 'bulk')
             + (SELECT count(*) FROM reindexer.due WHERE lane = 'bulk')
    """
    until(lambda: bench.number("SELECT count(*) FROM reindexer.fan_out WHERE cursor IS NOT NULL") > 0, 30, "no pages")
    until(lambda: not bench.number(query), WITHIN_S, "the books are not through")
    return time.monotonic() - began
