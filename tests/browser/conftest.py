"""A real browser before the page, and everything real behind it. Skipped where there is no Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from reindexer import api_keys
from reindexer.core.api_key import Role
from reindexer.postgres.connect import Connection
from reindexer.testing.provider import Call, FakeProvider, Reply, error
from reindexer.testing.waiting import eventually
from tests.support.processes import Processes
from tests.support.tenants import attach_tenants

WIDTHS = {"wide": 1280, "narrow": 390}
REFUSED = "refuse me"
"""A text with this in it is refused by the provider, until `mend` is called."""
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_WATCH = """
    window.__violations = [];
    document.addEventListener("securitypolicyviolation", (e) => window.__violations.push(`${e.violatedDirective} ${e.blockedURI}`));
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The machine's own Chromium. The package's own browsers are never fetched.

    Not for the session: while the package is in use its event loop runs in this thread, and other tests have theirs.
    """
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(_PROGRAMS)} is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@dataclass
class Site:
    """A running installation."""

    url: str
    db: Connection
    provider: FakeProvider

    def key(self, role: Role, name: str | None = None) -> str:
        """A new key."""
        return api_keys.create(self.db, name or role, who="test", role=role).key

    def mend(self) -> None:
        """The provider refuses nothing any more."""
        self.provider.behave = lambda _: None

    def settles(self) -> bool:
        """Whether nothing waits."""
        row = self.db.execute("SELECT (SELECT count(*) FROM reindexer.due) + (SELECT count(*) FROM reindexer.outbox)"
                              " + (SELECT count(*) FROM reindexer.run WHERE finished_at IS NULL)").fetchone()  # fmt: skip
        return row == (0,)


@pytest.fixture
def site(processes: Processes, db: Connection, provider: FakeProvider) -> Site:
    """The tenants' notes, indexed but for one that the provider refuses."""

    def refuse(call: Call) -> Reply | None:
        return error(400, "invalid_input") if any(REFUSED in text for text in call.inputs) else None

    provider.behave = refuse
    attach_tenants(db)
    db.execute("UPDATE notes SET body = %s WHERE id = 7", [f"tea that says {REFUSED}"])
    processes.listener()
    processes.start_worker(pool="solo", concurrency=1)
    _, url = processes.api()
    running = Site(url, db, provider)
    eventually(running.settles, within=60)
    return running


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


@pytest.fixture
def look(chromium: Browser, site: Site) -> Iterator[Look]:
    """Opens a window of a width, light or dark."""
    contexts = []

    def open_window(width: int, scheme: Any = "light") -> Looked:
        context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, locale="en-GB")
        context.set_default_timeout(15_000)
        context.add_init_script(_WATCH)
        contexts.append(context)
        looked = Looked(context.new_page(), site.url)

        def said(message: ConsoleMessage) -> None:
            # A browser says so of each answer that is an error, the expected ones too.
            if message.type == "error" and not message.text.startswith("Failed to load resource"):
                looked.errors.append(message.text)

        looked.page.on("request", lambda request: looked.requests.append(request.url))
        looked.page.on("console", said)
        looked.page.on("pageerror", lambda exc: looked.errors.append(str(exc)))
        return looked

    yield open_window
    for context in contexts:
        context.close()


@pytest.fixture
def pictures(request: pytest.FixtureRequest) -> Path | None:
    """Where pictures go. None: nowhere."""
    given = request.config.getoption("--pictures")
    return None if given is None else Path(given)
