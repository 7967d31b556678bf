"""What a stranger does on the page, at two widths, in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from reindexer import api_keys
from tests.browser.site import WIDTHS, Look, Site


def test_a_stranger_finds_the_problem_backfills_and_logs_out(site: Site, look: Look, pictures: Path | None) -> None:
    key = site.key("admin", "stranger")
    for name, width in WIDTHS.items():
        seen = look(width, "light" if name == "wide" else "dark")
        page = seen.page
        page.goto(f"{site.url}/")
        expect(page.get_by_label("Key")).to_be_focused()
        seen.shoot(pictures, f"{name}-login")
        seen.check()
        page.get_by_label("Key").fill("rdx_wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("the key is wrong")
        seen.log_in(key)
        problem = page.get_by_role("article").filter(has_text="notes: 1 failed")
        expect(problem).to_contain_text("Mend: the text (an edit tries again by itself)")
        expect(problem).to_contain_text("Runbook: ReindexerItemsFailed")
        expect(page.get_by_role("row").filter(has_text="worker").first).to_contain_text("ago")
        seen.check()
        seen.shoot(pictures, f"{name}-overview")

        seen.go("Sources")
        page.get_by_role("link", name="notes").click()
        expect(page.get_by_role("heading", name="Source notes")).to_be_visible()
        page.get_by_role("button", name="Backfill").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("40 rows")
        seen.check()
        seen.shoot(pictures, f"{name}-backfill")
        dialog.get_by_label("Embed anew").check()
        dialog.get_by_role("button", name="Start the backfill").click()
        begun = page.get_by_text("has begun")
        expect(begun).to_be_visible()
        run = page.get_by_role("row").filter(has_text=f"{begun.inner_text().split()[1]}: backfill")
        expect(run).to_contain_text("finished", timeout=30_000)
        expect(run).to_contain_text("40 of 40")
        page.get_by_role("button", name="Pause", exact=True).click()
        page.get_by_role("dialog").get_by_role("button", name="Pause").click()
        expect(page.get_by_role("button", name="Resume")).to_be_visible(timeout=15_000)
        seen.shoot(pictures, f"{name}-source")
        seen.check()
        page.get_by_role("button", name="Resume").click()
        expect(page.get_by_role("button", name="Pause", exact=True)).to_be_visible(timeout=15_000)

        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_text("You are logged out.")).to_be_visible()
        page.reload()
        expect(page.get_by_label("Key")).to_be_visible()


@pytest.mark.long
def test_a_page_whose_key_is_revoked_shows_the_login_within_five_seconds(site: Site, look: Look) -> None:
    seen = look(WIDTHS["wide"])
    seen.log_in(site.key("operate", "leaves"))
    seen.go("Sources")
    seen.page.get_by_role("link", name="notes").click()
    expect(seen.page.get_by_text("Your key's role may not: rebuild")).to_be_visible()
    expect(seen.page.get_by_role("button", name="Backfill")).to_be_visible()
    expect(seen.page.get_by_role("button", name="Rebuild")).to_have_count(0)
    api_keys.revoke(site.db, "leaves", who="test")
    expect(seen.page.get_by_text("or its key has")).to_be_visible(timeout=7_000)
    seen.check()


def test_a_search_key_is_refused_in_words(site: Site, look: Look) -> None:
    seen = look(WIDTHS["narrow"])
    seen.page.goto(f"{site.url}/")
    seen.page.get_by_label("Key").fill(site.key("search"))
    seen.page.keyboard.press("Enter")
    expect(seen.page.get_by_role("alert")).to_contain_text("needs one of the role operate or admin")
    assert seen.page.context.cookies() == []


def test_a_stranger_finds_why_an_item_is_not_found_and_replays_it(
    site: Site, look: Look, pictures: Path | None
) -> None:
    seen = look(WIDTHS["narrow"])
    page = seen.page
    seen.log_in(site.key("admin", "stranger"))
    page.get_by_role("link", name="notes: 1 failed").click()
    expect(page.get_by_role("heading", name="Dead letters")).to_be_visible()
    reason = page.get_by_role("row").filter(has_text="invalid_input").first
    expect(reason).to_contain_text("it refuses this input")
    seen.check()
    seen.shoot(pictures, "narrow-failed")

    page.get_by_role("link", name="7", exact=True).click()
    expect(page.get_by_text("It failed: the embedding provider answered 400")).to_be_visible()
    expect(page.get_by_text("It has none: no search finds it.")).to_be_visible()
    expect(page.get_by_text("tea that says refuse me")).to_be_visible()
    seen.check()
    seen.shoot(pictures, "narrow-item")

    site.mend()
    seen.go("Dead letters")
    page.get_by_role("button", name="Replay 7 of notes").click()
    expect(page.get_by_text("1 item will be tried again.")).to_be_visible()
    expect(page.get_by_text("Nothing has failed.")).to_be_visible(timeout=20_000)
    seen.go("Item")
    page.get_by_label("Source").select_option("notes")
    page.get_by_label("Key of the row").fill("7")
    page.get_by_role("button", name="Look").click()
    expect(page.get_by_text("Qdrant holds the text that the row has now.")).to_be_visible(timeout=20_000)
    expect(page.get_by_role("row").filter(has_text="0–23")).to_contain_text("tea that says refuse me")
    page.get_by_role("button", name="Regenerate").click()
    page.get_by_role("dialog").get_by_role("button", name="Regenerate").click()
    expect(page.get_by_role("row").filter(has_text="SUCCESS")).to_be_visible(timeout=20_000)
    seen.check()


@pytest.mark.long
def test_a_stranger_searches_with_a_filter(site: Site, look: Look, pictures: Path | None) -> None:
    key = site.key("admin", "stranger")
    for name, width in WIDTHS.items():
        seen = look(width, "dark" if name == "wide" else "light")
        page = seen.page
        seen.log_in(key)
        seen.go("Search")
        page.get_by_label("Source").select_option("notes")
        page.get_by_label("Query").fill("tea number 4")
        page.get_by_label("Mode").select_option("keywords" if name == "wide" else "hybrid")
        page.get_by_label("Value of tenant").fill("acme")
        page.get_by_label("How stars is compared").select_option("at most")
        page.get_by_label("Value of stars").fill("2")
        page.get_by_role("button", name="Search").click()
        hits = page.get_by_role("article")
        expect(hits.first).to_contain_text("tea number")
        expect(hits.first.locator("mark").first).to_have_text("tea")
        wanted = site.db.execute("SELECT count(*) FROM notes WHERE tenant = 'acme' AND stars <= 2").fetchone()
        assert (hits.count(),) == wanted
        seen.check()
        seen.shoot(pictures, f"{name}-search")


def test_an_operator_sees_no_text(site: Site, look: Look) -> None:
    seen = look(WIDTHS["wide"])
    seen.log_in(site.key("operate"))
    seen.go("Search")
    expect(seen.page.get_by_text("so it does not search")).to_be_visible()
    seen.page.goto(f"{site.url}/#/item/notes/8")
    expect(seen.page.get_by_text("its points are not shown")).to_be_visible()
    assert "tea number 8" not in seen.page.content()
    seen.check()
