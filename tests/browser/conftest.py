"""A real browser before the page, and everything real behind it. Skipped where there is no Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, sync_playwright

from reindexer.embedded.children import Children
from reindexer.postgres.connect import connect
from reindexer.testing.provider import FakeProvider
from reindexer.testing.waiting import eventually
from tests.browser.made_up_past import record_past, record_spend
from tests.browser.site import Look, Looked, Site, refusal
from tests.support.fresh import emptied_index, emptied_redis, environment, fresh_database
from tests.support.processes import Processes
from tests.support.servers import Servers
from tests.support.tenants import attach_tenants

REFUSED = "refuse me"
"""A text with this in it is refused by the provider."""
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_WATCH = """
    window.__violations = [];
    document.addEventListener("securitypolicyviolation", (e) => window.__violations.push(`${e.violatedDirective} ${e.blockedURI}`));
"""


@pytest.fixture(scope="package")
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


@pytest.fixture(scope="package")
def site(servers: Servers, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The tenants' notes, indexed but for one that the provider refuses. The tests of this folder share it: each
    changes what no other looks at, and what it leaves behind does not matter."""
    logs = tmp_path_factory.mktemp("site")
    with ExitStack() as stack:
        database = stack.enter_context(fresh_database(servers, template))
        index = stack.enter_context(emptied_index(servers))
        provider = FakeProvider()
        stack.callback(provider.close)
        refused = {REFUSED}
        provider.behave = lambda call: refusal(call, refused)
        db = stack.enter_context(connect(database, application_name="test"))
        children = stack.enter_context(Children(logs))
        processes = Processes(children, environment(database, emptied_redis(servers), servers, provider))
        attach_tenants(db)
        db.execute("UPDATE notes SET body = %s WHERE id = 7", [f"tea that says {REFUSED}"])
        record_spend(db)
        processes.listener()
        processes.start_worker(pool="solo", concurrency=1)
        _, url = processes.api()
        running = Site(url, db, index, logs, refused)
        eventually(running.settles, within=60)
        record_past(db, ("notes", "others"))
        yield running
        children.stop_together()


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
