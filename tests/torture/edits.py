"""The catalogue of edits: what applications do to their rows, by SQL."""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, LiteralString

import psycopg
from psycopg.rows import TupleRow

from tests.torture.checker import text_of
from tests.torture.journal import Entry

KEYS = 300
"""Few, so that writers meet one another and every row is edited often."""
BULK_KEYS = 1_300
"""More than the rows that one statement may change and still be live."""
WORDS = ["amber", "birch", "cedar", "größer", "漢字", "ember", "fjord", "лес", "harbor", "moss", "nectar"]

NEW_ROW = """
INSERT INTO context_items (id, title, content, metadata) VALUES (%(id)s, %(title)s, %(content)s, %(metadata)s)
"""
TEXTS = " RETURNING id::text, title, content"


def key(number: int) -> str:
    """The id of one of the rows."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"torture/{number}"))


@dataclass(slots=True)
class Hand:
    """One writer's: its connection, its chance, and what the transaction has done that is open."""

    connection: psycopg.Connection[TupleRow]
    rng: random.Random
    name: str
    entry: Entry = field(default_factory=Entry)
    earlier: dict[str, list[str]] = field(default_factory=dict)
    """Contents that this writer gave to a row, committed or not."""
    _serial: int = 0

    def key(self) -> str:
        """Of any row, some of them more often."""
        return key(self.rng.randrange(KEYS if self.rng.random() < 0.8 else KEYS // 20))

    def content(self) -> str:
        """A text that never was before; now and then a blank one."""
        self._serial += 1
        if self.rng.random() < 0.04:
            return self.rng.choice(["", " ", "\n\t "])
        words = self.rng.choices(WORDS, k=self.rng.randrange(1, 30))
        return f"{' '.join(words)} {self.name}.{self._serial}{self.rng.choice(['', ' ', chr(10)])}"

    def values(self, item_id: str) -> dict[str, Any]:
        """A whole row."""
        title = self.rng.choice([None, "", f"title {self.rng.randrange(50)}"])
        content = self.content()
        self.earlier.setdefault(item_id, []).append(content)
        return {"id": item_id, "title": title, "content": content, "metadata": self.metadata()}

    def metadata(self) -> str:
        """A payload."""
        return json.dumps({"n": self.rng.randrange(1000), "tags": self.rng.choices(WORDS, k=2), "x": None})

    def write(self, statement: LiteralString, parameters: Any = None) -> None:
        """A statement that gives texts to rows."""
        rows = self.connection.execute(statement + TEXTS, parameters).fetchall()
        self.entry.texts += [(item_id, text_of(title, content)) for item_id, title, content in rows]
        self.entry.rows += len(rows)

    def touch(self, statement: LiteralString, parameters: Any = None) -> None:
        """A statement that gives no row another text."""
        self.entry.rows += max(0, self.connection.execute(statement, parameters).rowcount)


Edit = Callable[[Hand], None]


def insert(hand: Hand) -> None:
    hand.write(NEW_ROW + "ON CONFLICT DO NOTHING", hand.values(hand.key()))


def upsert(hand: Hand) -> None:
    update = "ON CONFLICT (id) DO UPDATE SET content = excluded.content, title = excluded.title"
    hand.write(NEW_ROW + update, hand.values(hand.key()))


def merge(hand: Hand) -> None:
    """MERGE returns nothing before PostgreSQL 17: read what it wrote."""
    item_id = hand.key()
    hand.touch(
        """
        MERGE INTO context_items USING (SELECT %(id)s::uuid AS id) AS new ON context_items.id = new.id
        WHEN MATCHED THEN UPDATE SET content = %(content)s
        WHEN NOT MATCHED THEN INSERT (id, title, content, metadata)
            VALUES (%(id)s, %(title)s, %(content)s, %(metadata)s::jsonb)
        """,
        hand.values(item_id),
    )
    for row in hand.connection.execute("SELECT title, content FROM context_items WHERE id = %s", [item_id]):
        hand.entry.texts.append((item_id, text_of(*row)))


def update(hand: Hand) -> None:
    hand.write("UPDATE context_items SET content = %(content)s WHERE id = %(id)s", hand.values(hand.key()))


def update_title(hand: Hand) -> None:
    hand.write("UPDATE context_items SET title = %(title)s WHERE id = %(id)s", hand.values(hand.key()))


def update_to_an_earlier_text(hand: Hand) -> None:
    item_id = hand.key()
    content = hand.rng.choice(hand.earlier.get(item_id, ["the first one"]))
    hand.write("UPDATE context_items SET content = %s WHERE id = %s", [content, item_id])


def there_and_back(hand: Hand) -> None:
    """To another text, and to the one before when the other may have been indexed."""
    item_id = hand.key()
    before = hand.connection.execute("SELECT content FROM context_items WHERE id = %s", [item_id]).fetchone()
    if before is not None:
        hand.write("UPDATE context_items SET content = %s WHERE id = %s", [hand.content(), item_id])
        time.sleep(hand.rng.choice([0.02, 0.1, 0.3]))
        hand.write("UPDATE context_items SET content = %s WHERE id = %s", [before[0], item_id])


def update_to_the_same_text(hand: Hand) -> None:
    hand.touch("UPDATE context_items SET content = content, updated_at = now() WHERE id = %s", [hand.key()])


def update_payload(hand: Hand) -> None:
    hand.touch("UPDATE context_items SET metadata = %s WHERE id = %s", [hand.metadata(), hand.key()])


def update_several(hand: Hand) -> None:
    ids = [hand.key() for _ in range(hand.rng.randrange(2, 12))]
    hand.write("UPDATE context_items SET content = %s || id WHERE id = ANY(%s)", [hand.content(), ids])


def hammer(hand: Hand) -> None:
    """One row, many times in a row."""
    item_id = hand.key()
    for _ in range(hand.rng.randrange(5, 40)):
        hand.write("UPDATE context_items SET content = %s WHERE id = %s", [hand.content(), item_id])


def delete(hand: Hand) -> None:
    hand.touch("DELETE FROM context_items WHERE id = %s", [hand.key()])


def delete_and_insert(hand: Hand) -> None:
    """The same key, in two statements."""
    item_id = hand.key()
    hand.touch("DELETE FROM context_items WHERE id = %s", [item_id])
    hand.write(NEW_ROW + "ON CONFLICT DO NOTHING", hand.values(item_id))


def copy_anew(hand: Hand) -> None:
    """Rows replaced by COPY."""
    rows = [hand.values(item_id) for item_id in {hand.key() for _ in range(8)}]
    hand.touch("DELETE FROM context_items WHERE id = ANY(%s)", [[row["id"] for row in rows]])
    with (
        hand.connection.cursor() as cursor,
        cursor.copy("COPY context_items (id, title, content, metadata) FROM STDIN") as copy,
    ):
        for row in rows:
            copy.write_row((row["id"], row["title"], row["content"], row["metadata"]))
    hand.entry.texts += [(row["id"], text_of(row["title"], row["content"])) for row in rows]
    hand.entry.rows += len(rows)


def change_key(hand: Hand) -> None:
    """Often refused, as there is such a row."""
    hand.write("UPDATE context_items SET id = %s WHERE id = %s", [hand.key(), hand.key()])


def swap_keys(hand: Hand) -> None:
    """By way of a third."""
    one, other, third = hand.key(), hand.key(), str(uuid.UUID(int=hand.rng.getrandbits(128)))
    for old, new in ((one, third), (other, one), (third, other)):
        hand.write("UPDATE context_items SET id = %s WHERE id = %s", [new, old])


def bulk_write(hand: Hand) -> None:
    hand.write(
        """
        INSERT INTO context_items (id, content)
        SELECT md5('torture bulk' || n)::uuid, %s || ' bulk ' || n FROM generate_series(1, %s) AS n
        ON CONFLICT (id) DO UPDATE SET content = excluded.content
        """,
        [hand.content() or "blank", BULK_KEYS],
    )


def bulk_payload(hand: Hand) -> None:
    hand.touch("UPDATE context_items SET metadata = %s", [hand.metadata()])


def bulk_delete(hand: Hand) -> None:
    hand.touch(
        "DELETE FROM context_items WHERE id IN (SELECT md5('torture bulk' || n)::uuid FROM generate_series(1, %s) AS n)",
        [BULK_KEYS],
    )


def truncate(hand: Hand) -> None:
    hand.touch("TRUNCATE context_items")


def bulk_write_and_truncate(hand: Hand) -> None:
    """Rows go while they are being embedded."""
    bulk_write(hand)
    time.sleep(hand.rng.uniform(0.0, 1.0))
    truncate(hand)


def pause(hand: Hand) -> None:
    """A transaction that stays open: what it wrote is seen late, and its changes have early times and numbers."""
    time.sleep(hand.rng.uniform(0.3, 3.0))


EDITS: dict[Edit, float] = {
    insert: 14,
    upsert: 8,
    merge: 4,
    update: 20,
    update_title: 4,
    update_to_an_earlier_text: 8,
    there_and_back: 6,
    update_to_the_same_text: 4,
    update_payload: 8,
    update_several: 4,
    hammer: 2,
    delete: 14,
    delete_and_insert: 6,
    copy_anew: 1.5,
    change_key: 4,
    swap_keys: 3,
    bulk_write: 0.10,
    bulk_payload: 0.06,
    bulk_delete: 0.10,
    truncate: 0.06,
    bulk_write_and_truncate: 0.06,
    pause: 1.0,
}
"""Each with its weight."""
