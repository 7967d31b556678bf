"""A shop: a table of a user's, the commands, listener and worker as functions, and what the index holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reindexer.backfills.pager import walk_page
from reindexer.core.lanes import Lane
from reindexer.postgres.connect import Connection
from reindexer.queue.drain import drain
from reindexer.sources.store import find_source
from reindexer.worker.worker import Worker
from tests.support.commands import Done
from tests.support.index_reader import IndexReader

SHOP = """
    CREATE SCHEMA shop;
    CREATE TABLE shop.products (
        sku text PRIMARY KEY, name text NOT NULL, description text, price numeric(10, 2), in_stock boolean,
        tags text[], added date, internal_note text, published boolean DEFAULT true
    );
    INSERT INTO shop.products VALUES
        ('b1', 'Bicycle', 'two wheels', 199.90, true, '{sport,city}', '2026-01-31', 'from Anna', true),
        ('t1', 'Tandem', NULL, 450, false, '{}', NULL, NULL, true),
        ('x1', 'Prototype', 'three wheels', NULL, NULL, NULL, NULL, NULL, false)
"""
ATTACH = (
    "attach", "products", "--table", "shop.products", "--text", "name,description",
    "--payload", "price, in_stock", "--payload", "tags,added",
)  # fmt: skip


@dataclass
class Shop:
    """What a user of the table sees, and commands."""

    db: Connection
    worker: Worker
    index: IndexReader
    run: Callable[..., Done]

    def reindexer(self, *arguments: str, code: int = 0) -> str:
        """Runs a command; returns what it says, of an error its one line."""
        done = self.run(*arguments)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        assert code == 0 or done.stderr.count("\n") == 1, done.stderr
        return done.stdout if code == 0 else done.stderr

    def settle(self) -> None:
        """Listener and worker, until there is nothing to do."""
        while drain(self.db).changes or walk_page(self.db, lambda name, _: find_source(self.db, name)):
            pass
        self.worker.run_lane(Lane.LIVE, budget_s=5)
        self.worker.run_lane(Lane.BULK, budget_s=5)
        walk_page(self.db, lambda name, _: find_source(self.db, name))

    def indexed(self) -> dict[str, Any]:
        """Payloads of all points, by item id."""
        if not self.index.exists():
            return {}
        records, more = self.index.client.scroll(self.index.alias, limit=1000, with_payload=True)
        assert more is None
        payloads = [dict(record.payload or {}) for record in records]
        return {payload.pop("_reindexer")["item_id"]: payload for payload in payloads}
