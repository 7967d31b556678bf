"""What a stranger does on the page, at two widths, in a real browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect
from psycopg.rows import dict_row

from reindexer import api_keys
from reindexer.core.items import point_id
from reindexer.monitoring import history
from reindexer.testing.waiting import eventually
from tests.browser.site import WIDTHS, Look, Site


def test_a_stranger_finds_the_problem_backfills_and_logs_out(site: Site, look: Look, pictures: Path | None) -> None:
    key = site.key("admin")
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
        expect(page.get_by_role("img", name=re.compile("Texts embedded"))).to_be_visible()
        seen.shoot(pictures, f"{name}-source")
        page.get_by_role("button", name="Backfill").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("40 rows")
        seen.check()
        seen.shoot(pictures, f"{name}-backfill")
        if name == "narrow":
            dialog.get_by_role("button", name="Do nothing").click()
            seen.check()
            continue
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
    site.refused.add("say no")
    site.db.execute("INSERT INTO others VALUES (6, 'acme', 'tea to which they say no')")
    eventually(site.settles, within=20)
    seen = look(WIDTHS["narrow"])
    page = seen.page
    seen.log_in(site.key("admin"))
    page.get_by_role("link", name="others: 1 failed").click()
    expect(page.get_by_role("heading", name="Dead letters")).to_be_visible()
    reason = page.get_by_role("row").filter(has_text="invalid_input").first
    expect(reason).to_contain_text("it refuses this input")
    seen.check()
    seen.shoot(pictures, "narrow-failed")

    page.get_by_role("link", name="6", exact=True).click()
    expect(page.get_by_text("It failed: the embedding provider answered 400")).to_be_visible()
    expect(page.get_by_text("It has none: no search finds it.")).to_be_visible()
    expect(page.get_by_text("tea to which they say no")).to_be_visible()
    seen.check()
    seen.shoot(pictures, "narrow-item")

    site.refused.remove("say no")
    page.go_back()
    page.get_by_role("button", name="Replay 6 of others").click()
    expect(page.get_by_text("1 item will be tried again.")).to_be_visible()
    expect(page.get_by_text("Nothing has failed.")).to_be_visible(timeout=20_000)
    seen.go("Item")
    page.get_by_label("Source").select_option("others")
    page.get_by_label("Key of the row").fill("6")
    page.get_by_role("button", name="Look").click()
    expect(page.get_by_text("Qdrant holds the text that the row has now.")).to_be_visible(timeout=20_000)
    expect(page.get_by_role("row").filter(has_text="0–24")).to_contain_text("tea to which they say no")
    page.get_by_role("button", name="Regenerate").click()
    page.get_by_role("dialog").get_by_role("button", name="Regenerate").click()
    expect(page.get_by_role("row").filter(has_text="SUCCESS")).to_be_visible(timeout=20_000)
    seen.check()


def test_the_past_is_drawn_with_its_gaps_and_told_as_a_table(site: Site, look: Look, pictures: Path | None) -> None:
    seen = look(WIDTHS["narrow"], "dark")
    page = seen.page
    seen.log_in(site.key("operate"))
    fresh = page.get_by_role("figure", name="Commit → searchable of edits")
    expect(fresh.get_by_role("img", name=re.compile(r"over 6 h\. p50: \d+ ms to \d+ ms, last"))).to_be_visible()
    for kind in ("one", "two"):
        expect(fresh.locator(f"path.line.{kind}")).to_have_count(2)  # before the gap, and after it
    fresh.get_by_text("As a table").click()
    expect(fresh.get_by_role("row")).to_have_count(1 + steps_of(site, 6), timeout=1000)
    expect(fresh.get_by_role("columnheader")).to_have_text(["Time", "p50", "p99"])
    with page.expect_response(re.compile(r"/admin/history\?hours=24$")):
        page.get_by_label("The last").select_option("day")
    expect(
        page.get_by_role("img", name=re.compile(r"Items per second, over 24 h\..*bulk: .* to 1\d\d, last"))
    ).to_be_visible()
    seen.check()
    seen.shoot(pictures, "narrow-past")

    page.goto(f"{site.url}/#/source/notes")
    texts = page.get_by_role("figure", name="Texts embedded per second")
    expect(texts.get_by_role("img", name=re.compile("over 24 h"))).to_be_visible()
    expect(texts.locator("path.line")).to_have_count(2)
    box = texts.locator("svg").last.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 60)
    expect(texts.locator(".legend .faint")).to_have_text(re.compile(r"^\d\d:\d\d$"))
    seen.check()
    seen.shoot(pictures, "narrow-source-past")


def test_what_was_spent_is_told_by_day_source_model_and_purpose(site: Site, look: Look, pictures: Path | None) -> None:
    for name, width in WIDTHS.items():
        seen = look(width, "light" if name == "narrow" else "dark")
        page = seen.page
        seen.log_in(site.key("operate"))
        seen.go("Spend")
        with site.db.cursor(row_factory=dict_row) as cursor:
            told = cursor.execute(
                "SELECT sum(tokens) AS tokens, sum(unconfirmed_tokens) AS unconfirmed, sum(micro_dollars) / 1e6 AS dollars,"
                " sum(tokens) FILTER (WHERE source = 'others') AS of_others FROM reindexer.spend"
            ).fetchone()
        assert told is not None
        cards = page.locator(".card")
        expect(cards.filter(has_text="Spent")).to_contain_text(f"${told['dollars']:.2f}")
        expect(cards.filter(has_text="Spent")).to_contain_text(f"{told['tokens']:,} tokens")
        expect(cards.filter(has_text="unconfirmed")).to_contain_text(f"{told['unconfirmed']:,}")
        expect(cards.filter(has_text="set aside")).to_contain_text("for requests not accounted yet")
        by_source = page.get_by_role("region", name="Requests to providers by source")
        expect(by_source.get_by_role("row").filter(has_text="others")).to_contain_text(f"{told['of_others']:,}")
        expect(page.get_by_role("region", name="by purpose").get_by_role("rowheader").first).to_have_text("edit")
        expect(page.get_by_role("img", name=re.compile(r"Dollars a day: the most, \$0\.\d\d, on 2"))).to_be_visible()
        seen.check()
        seen.shoot(pictures, f"{name}-spend")


def test_a_stranger_sets_a_budget_and_is_told_that_it_is_used_up(site: Site, look: Look, pictures: Path | None) -> None:
    seen = look(WIDTHS["narrow"])
    page = seen.page
    seen.log_in(site.key("admin"))
    seen.go("Spend")
    expect(page.get_by_text("Nothing limits what is spent.")).to_be_visible()
    page.get_by_label("For").select_option("searches")
    page.get_by_role("spinbutton", name="Dollars").fill("0")
    page.get_by_role("button", name="Set the budget").click()
    expect(page.get_by_role("dialog")).to_contain_text("searches of all sources together")
    page.get_by_role("dialog").get_by_role("button", name="Set it").click()
    told = page.get_by_role("region", name="What may be spent")
    expect(told.get_by_role("row").filter(has_text="searches")).to_contain_text("open")
    site.db.execute("UPDATE reindexer.budget SET closed_at = now()")  # as the next search would
    seen.go("Overview")
    problem = page.get_by_role(
        "link", name="the daily budget for searches, $0, is used up: over budget until 00:00 UTC"
    )
    expect(problem).to_be_visible(timeout=10_000)
    seen.check()
    problem.click()
    expect(told.get_by_role("row").filter(has_text="searches")).to_contain_text("used up until")
    seen.check()
    seen.shoot(pictures, "narrow-budgets")
    page.get_by_label("For").select_option("searches")
    page.get_by_role("spinbutton", name="Dollars").fill("")
    page.get_by_role("button", name="Set the budget").click()
    page.get_by_role("dialog").get_by_role("button", name="Take it away").click()
    expect(page.get_by_text("Nothing limits what is spent.")).to_be_visible()


def test_a_stranger_compares_a_source_with_qdrant_and_repairs_it(site: Site, look: Look, pictures: Path | None) -> None:
    # By Qdrant's side: a trigger that is turned off is seen, and all rows are looked at before anybody compares.
    point = point_id("others", "2", 0)
    site.index.client.set_payload("others", {"fingerprint": "another"}, [point], key="_reindexer", wait=True)
    seen = look(WIDTHS["narrow"])
    page = seen.page
    seen.log_in(site.key("operate"))
    page.goto(f"{site.url}/#/source/others")
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("dialog").get_by_role("button", name="Compare").click()
    compared = page.get_by_role("region", name="Comparison of others with Qdrant")
    stale = compared.get_by_role("row").filter(has_text="Stale")
    expect(stale).to_contain_text("1", timeout=20_000)
    expect(stale.get_by_role("link", name="2", exact=True)).to_be_visible()
    seen.check()
    seen.shoot(pictures, "narrow-compare")
    compared.get_by_role("button", name="Repair").click()
    expect(page.get_by_role("dialog")).to_contain_text("refused")
    page.get_by_role("dialog").get_by_role("button", name="Repair").click()
    expect(compared.get_by_text("will be mended.")).to_be_visible(timeout=20_000)
    eventually(site.settles, within=20)
    seen.check()


def steps_of(site: Site, hours: int) -> int:
    """How many steps are recorded of the last hours."""
    return len(history.read(site.db, None, hours).steps)


@pytest.mark.long
def test_a_stranger_searches_with_a_filter(site: Site, look: Look, pictures: Path | None) -> None:
    key = site.key("admin")
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


@pytest.mark.long
def test_a_stranger_rebuilds_a_source_and_searches_both_generations_side_by_side(
    site: Site, look: Look, pictures: Path | None
) -> None:
    seen = look(WIDTHS["wide"])
    page = seen.page
    seen.log_in(site.key("admin"))
    page.goto(f"{site.url}/#/source/notes")
    page.get_by_role("button", name="Rebuild").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("each edit is written to both")
    expect(dialog).to_contain_text(re.compile(r"Embeds .* of 40 rows: .* tokens, the price is not known"))
    expect(dialog).to_contain_text(re.compile(r"Takes .* and .* kB.* in Qdrant"))
    expect(dialog).to_contain_text("kept as a way back for 24 h")
    seen.shoot(pictures, "wide-rebuild")
    dialog.get_by_role("button", name="Start the rebuild").click()
    expect(page.get_by_role("button", name="Promote")).to_be_enabled(timeout=40_000)
    for name, width in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": 800})
        seen.go("Search")
        page.get_by_label("Source").select_option("notes")
        page.get_by_label("Query").fill("tea number 4")
        page.get_by_role("spinbutton", name="Hits").fill("5")
        page.get_by_label("Mode").select_option("meaning")
        page.get_by_label("Beside it").select_option("generation 2 (ready)")
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_role("heading", name=re.compile(r"^The active one: 5 hits in \d+ ms$"))).to_be_visible()
        expect(page.get_by_role("heading", name=re.compile(r"^Generation 2 \(ready\): 5 hits"))).to_be_visible()
        expect(page.get_by_text("5 hits in common.")).to_be_visible()
        expect(page.get_by_role("article").first).to_contain_text("same place there")
        seen.check()
        seen.shoot(pictures, f"{name}-beside")
    page.goto(f"{site.url}/#/source/notes")
    page.get_by_role("button", name="Drop the rebuild").click()
    page.get_by_role("dialog").get_by_role("button", name="Drop it").click()
    expect(page.get_by_text("Generation 2 is dropped.")).to_be_visible(timeout=20_000)
