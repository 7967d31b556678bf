"""A running installation, and the page of it in a window."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from reindexer import api_keys
from reindexer.core.api_key import Role
from reindexer.postgres.connect import Connection
from reindexer.testing.provider import Call, Reply, error
from tests.support.index_reader import IndexReader

WIDTHS = {"wide": 1280, "narrow": 390}


def refusal(call: Call, refused: set[str]) -> Reply | None:
    """How the provider behaves: it refuses a text with one of these in it."""
    return error(400, "invalid_input") if any(each in text for text in call.inputs for each in refused) else None


@dataclass
class Site:
    """A running installation."""

    url: str
    db: Connection
    index: IndexReader
    logs: Path
    refused: set[str]
    """Texts with one of these in them are refused by the provider."""

    def key(self, role: Role, name: str | None = None) -> str:
        """A new key."""
        return api_keys.create(self.db, name or f"{role}-{uuid.uuid4().hex[:6]}", who="test", role=role).key

    def settles(self) -> bool:
        """Whether nothing waits."""
        row = self.db.execute("SELECT (SELECT count(*) FROM reindexer.due) + (SELECT count(*) FROM reindexer.outbox)"
                              " + (SELECT count(*) FROM reindexer.run WHERE finished_at IS NULL)").fetchone()  # fmt: skip
        return row == (0,)


@dataclass
class Looked:
    """One page in a window of some width, and what it did."""

    page: Page
    url: str
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def log_in(self, key: str) -> None:
        """Enter the key."""
        self.page.goto(f"{self.url}/")
        self.page.get_by_label("Key").fill(key)
        self.page.get_by_role("button", name="Log in").click()
        expect(self.page.get_by_role("heading", name="Overview")).to_be_visible()

    def go(self, part: str) -> None:
        """Choose a part in the navigation."""
        self.page.get_by_role("navigation").get_by_role("link", name=part).click()

    def check(self) -> None:
        """Nothing left the host, no policy was hurt, axe finds nothing serious, and nothing is wider than the window."""
        assert [each for each in self.requests if not each.startswith(self.url)] == []
        assert self.errors == []
        assert self.page.evaluate("window.__violations") == []
        found = Axe().run(self.page).response["violations"]
        serious = [each for each in found if each["impact"] in ("serious", "critical")]
        assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in serious] == []
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert self.page.evaluate(wide) <= 0

    def shoot(self, directory: Path | None, name: str) -> None:
        """A picture, if pictures are wanted."""
        if directory is not None:
            self.page.screenshot(path=directory / f"{name}.png", full_page=True)


Look = Callable[..., Looked]
