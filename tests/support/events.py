"""What receivers must have been told, noted by a trigger of the test's own; and edits of every kind."""

from __future__ import annotations

import random
from collections.abc import Sequence

from reindexer.events import receivers
from reindexer.index.ownership import identity
from reindexer.postgres.connect import Connection
from tests.support.receiver import Receiver

NOTED = """
    CREATE TABLE noted (item_id text, token bigint, type text);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO noted VALUES (new.item_id, new.token, CASE
            WHEN new.outcome = 'FAILED' THEN 'item.failed'
            WHEN new.outcome = 'COMPLETED' AND new.chunks > 0 THEN 'item.searchable'
            ELSE 'item.deleted' END);
        RETURN NULL;
    END $$;
    CREATE TRIGGER first AFTER INSERT ON reindexer.ledger FOR EACH ROW
        WHEN (new.chunks > 0 OR new.outcome = 'FAILED') EXECUTE FUNCTION note();
    CREATE TRIGGER later AFTER UPDATE ON reindexer.ledger FOR EACH ROW
        WHEN ((old.outcome = 'FAILED') <> (new.outcome = 'FAILED') OR (old.chunks > 0) <> (new.chunks > 0)
            OR (new.outcome = 'COMPLETED' AND old.text_fingerprint IS DISTINCT FROM new.text_fingerprint AND new.chunks > 0))
        EXECUTE FUNCTION note();
"""


def listen(db: Connection, receiver: Receiver, source: str = "context_items", name: str = "hook") -> None:
    """Let the receiver be told of all events of the source."""
    made = receivers.add(db, name, who="test", identity=identity(db, None), url=receiver.url, sources=[source])
    receiver.secret = str(made.secret)


def note(db: Connection) -> None:
    """Note from now on what the ledger says of each item."""
    db.execute(NOTED.encode())


def edit(db: Connection, random: random.Random, ids: list[str], number: int) -> None:
    """Insert a row, edit one, blank one, or delete one; each text is another."""
    kind = random.choices(("insert", "edit", "blank", "delete"), (3, 10, 1, 1))[0]
    if kind == "insert" or not ids:
        row = db.execute(
            "INSERT INTO context_items (content) VALUES (%s) RETURNING id::text", [f"new {number}"]
        ).fetchone()
        assert row is not None
        ids.append(row[0])
    elif kind == "delete":
        db.execute("DELETE FROM context_items WHERE id = %s", [ids.pop(random.randrange(len(ids)))])
    else:
        content = "" if kind == "blank" else f"edited {number}"
        db.execute("UPDATE context_items SET content = %s WHERE id = %s", [content, random.choice(ids)])


def wrong(db: Connection, receiver: Receiver) -> Sequence[str]:
    """What the receiver was told last of an item, where that is not what the ledger said last."""
    last = receiver.last()
    found = []
    for item_id, token, kind in db.execute(
        "SELECT DISTINCT ON (item_id) item_id, token, type FROM noted ORDER BY item_id, token DESC"
    ).fetchall():
        told = last.get(item_id)
        if told is None or told.type != kind or told.data["version"] < token:
            found.append(f"{item_id}: {kind} by {token}, told {told and (told.type, told.data['version'])}")
    return found
