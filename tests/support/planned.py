"""A shop with a sources file, and commands that plan and apply."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reindexer.backfills.pager import walk_page
from reindexer.core.lanes import Lane
from reindexer.postgres.connect import Connection
from reindexer.queue.drain import drain
from reindexer.sources.store import find_source
from reindexer.testing.provider import FakeProvider
from tests.support.commands import Done
from tests.support.shop import Shop

PRODUCTS = """
[sources.products]
table = "shop.products"
text = ["name", "description"]
payload = ["price", "in_stock", "tags", "added"]
"""


@dataclass
class Planned:
    """A shop, its sources file, and what plans say of it."""

    shop: Shop
    file: Path
    out: Path
    env: dict[str, str]
    command: Callable[..., Done]
    provider: FakeProvider
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def db(self) -> Connection:
        return self.shop.db

    def says(self, text: str) -> None:
        self.file.write_text(text, encoding="utf-8")

    def run(self, *arguments: str, **more: str) -> Done:
        return self.command(*arguments, env={**self.env, **self.settings, **more})

    def plan(self, *arguments: str) -> dict[str, Any]:
        """The plan as JSON, also written to `out`."""
        done = self.run("plan", "--json", "--out", str(self.out), *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        told: dict[str, Any] = json.loads(done.stdout)
        assert told == json.loads(self.out.read_text(encoding="utf-8"))
        return told

    def source(self, name: str = "products", *arguments: str) -> dict[str, Any]:
        """The plan of one source."""
        return next(each for each in self.plan(*arguments)["sources"] if each["name"] == name)

    def apply(self, *arguments: str, code: int = 0) -> str:
        done = self.run("apply", str(self.out), *arguments)
        assert done.returncode == code, (done.stdout, done.stderr)
        assert code == 0 or done.stderr.count("\n") == 1, done.stderr
        return done.stdout if code == 0 else done.stderr

    def is_empty(self) -> bool:
        return bool(self.plan()["empty"])

    def settle(self) -> None:
        self.shop.settle()
        self.shop.worker.counters.write()

    def settle_all(self) -> None:
        """The same for every generation."""
        while drain(self.db).changes or walk_page(self.db, lambda name, number: find_source(self.db, name, number)):
            pass
        for lane in Lane:
            self.shop.worker.run_lane(lane, budget_s=5)
        walk_page(self.db, lambda name, number: find_source(self.db, name, number))

    def tokens_billed(self) -> int:
        """By the provider's count of all that it was asked for, but for single letters: the probe of a rebuild."""
        return sum(len(text) // 4 + 1 for text in self.provider.inputs if text != "reindexer")
