"""Changes that need no provider are settled while it is away."""

from __future__ import annotations

from psycopg.types.json import Jsonb

from reindexer.backfills.pager import walk_page
from reindexer.core.profile import Profile
from reindexer.core.source import Source
from reindexer.core.text.tokens import estimate_tokens
from reindexer.postgres.connect import Connection
from reindexer.queue.breaker import open_breakers
from reindexer.queue.drain import drain
from reindexer.sources.attach import attach
from reindexer.sources.store import find_source
from reindexer.testing.provider import Call, FakeProvider, error, vector_of
from reindexer.worker.execution import WorkLimits
from reindexer.worker.worker import Worker
from tests.support.away import Away, change, facts, marked, payload
from tests.support.flow import insert, status, work
from tests.support.index_reader import IndexReader


def test_deletions_blanks_payloads_and_what_is_unchanged_are_settled_while_the_provider_is_away_and_many_texts_wait(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, away: Away
) -> None:
    deleted, blank, paid, same = (insert(db, f"text {n}") for n in range(4))
    work(db, worker)
    away.goes()
    worker.limits = WorkLimits(batch_size=50)
    db.execute("INSERT INTO context_items (content) SELECT 'waits ' || n FROM generate_series(1, 300) n")
    db.execute("DELETE FROM context_items WHERE id = %s", [deleted])
    db.execute("UPDATE context_items SET content = '' WHERE id = %s", [blank])
    change(db, paid, "text 2", "b")
    db.execute("INSERT INTO reindexer.outbox (source, item_id) VALUES ('context_items', %s)", [same])
    assert work(db, worker) == 4
    assert index.count() == 2
    assert payload(index, paid)["metadata"] == {"tenant": "b"}
    assert [status(db, each) for each in (deleted, blank, paid, same)] == [None, *[("COMPLETED", None)] * 3]
    assert len(marked(db)) == 301
    assert not provider.calls
    away.returns()
    assert index.count() == 303


def test_a_payload_that_changed_with_its_text_is_written_beside_the_older_vector_and_the_text_follows(
    db: Connection, worker: Worker, index: IndexReader, away: Away
) -> None:
    item_id = insert(db, "A")
    work(db, worker)
    before = facts(index, item_id)
    away.goes()
    change(db, item_id, "B", "b")
    work(db, worker)
    assert payload(index, item_id)["metadata"] == {"tenant": "b"}
    assert facts(index, item_id) == before, "it says what text its vector is of"
    assert index.holds(item_id, vector_of("A"))
    away.returns()
    assert index.holds(item_id, vector_of("B"))
    assert facts(index, item_id) != before
    assert payload(index, item_id)["metadata"] == {"tenant": "b"}


def test_a_text_and_payload_that_go_back_while_the_provider_is_away_end_as_they_were(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, away: Away
) -> None:
    """(A, p1) is indexed; (B, p2), of which p2 is written; back to (A, p1), which looks unchanged to who forgot p2."""
    item_id = insert(db, "A")
    change(db, item_id, "A", "p1")
    work(db, worker)
    away.goes()
    change(db, item_id, "B", "p2")
    work(db, worker)
    assert payload(index, item_id)["metadata"] == {"tenant": "p2"}
    change(db, item_id, "A", "p1")
    work(db, worker)
    assert payload(index, item_id)["metadata"] == {"tenant": "p1"}
    assert index.holds(item_id, vector_of("A"))
    assert status(db, item_id) == ("COMPLETED", None)
    assert not provider.calls


def test_a_payload_of_an_item_in_doubt_reaches_all_points_that_its_lost_claim_may_have_made(
    db: Connection, worker: Worker, index: IndexReader, away: Away
) -> None:
    db.execute("UPDATE reindexer.generation SET definition = definition || '{\"chunk_tokens\": 40}'")
    item_id = insert(db, " ".join(f"word{n}" for n in range(100)))
    work(db, worker)
    chunks = index.count()
    assert chunks > 3
    db.execute("UPDATE reindexer.ledger SET chunks = 1")  # as where a claim that was lost wrote more than was settled
    away.goes()
    change(db, item_id, "short", "b")
    drain(db)
    db.execute("UPDATE reindexer.due SET doubtful = true WHERE item_id = %s", [item_id])
    work(db, worker)
    assert {str(payload(index, item_id, n)["metadata"]) for n in range(chunks)} == {"{'tenant': 'b'}"}
    away.returns()
    assert index.payload(item_id, 1) is None
    assert index.holds(item_id, vector_of("short"))


def test_paragraphs_that_are_dropped_leave_the_index_while_the_provider_is_away(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, away: Away
) -> None:
    paragraphs = [f"## Part {n}\n" + " ".join([f"word{n}"] * 25) for n in range(4)]
    room = max(map(estimate_tokens, paragraphs)) * 3 // 2  # for one, and not for two
    db.execute("UPDATE reindexer.generation SET definition = definition || %s", [Jsonb({"chunk_tokens": room})])
    item_id = insert(db, "\n\n".join(paragraphs))
    work(db, worker)
    before = index.count()
    away.goes()
    db.execute("UPDATE context_items SET content = %s WHERE id = %s", ["\n\n".join(paragraphs[:2]), item_id])
    work(db, worker)
    assert index.count() < before, "the rest is there already, and no vector is wanting"
    assert status(db, item_id) == ("COMPLETED", None)
    assert not provider.calls


def test_a_row_that_leaves_the_condition_leaves_the_index_while_the_provider_is_away(
    db: Connection, worker: Worker, index: IndexReader, away: Away
) -> None:
    condition = {"condition": "title = 'public'", "condition_columns": ["title"]}
    db.execute("UPDATE reindexer.generation SET definition = definition || %s", [Jsonb(condition)])
    item_id = insert(db, "text", "public")
    work(db, worker)
    assert index.count() == 1
    away.goes()
    db.execute("UPDATE context_items SET title = 'secret', content = 'and another text' WHERE id = %s", [item_id])
    work(db, worker)
    assert index.count() == 0


def test_one_accounts_outage_does_not_stop_the_sources_of_another(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider, away: Away
) -> None:
    db.execute("CREATE TABLE notes (id int PRIMARY KEY, note text)")
    other = FakeProvider()
    attach(db, Source("notes", "public", "notes", ("id",), ("note",), alias="context_items_notes",
                      profile=Profile(base_url=other.url, dimensions=32)))  # fmt: skip
    try:
        away.goes()
        insert(db, "waits")
        db.execute("INSERT INTO notes VALUES (1, 'does not wait')")
        while walk_page(db, lambda name, _: find_source(db, name)):
            pass
        work(db, worker)
        assert other.inputs == ["does not wait"]
        assert IndexReader(index.client, "context_items_notes").count() == 1
        assert len(marked(db)) == 2
        other.behave = lambda call: error(502)
        db.execute("UPDATE notes SET note = 'another text'")
        work(db, worker)
        assert len(open_breakers(db)) == 2, "each has its own"
        assert len({each.account for each in open_breakers(db)}) == 2
        other.behave = lambda call: None
        db.execute(
            "UPDATE reindexer.breaker SET probe_at = now() WHERE account = (SELECT account FROM reindexer.source WHERE name = 'notes')"
        )
        db.execute("UPDATE reindexer.due SET not_before = now() WHERE lease_until IS NULL")
        work(db, worker)
        assert other.inputs[-1] == "another text"
        assert len(open_breakers(db)) == 1
        assert len(marked(db)) == 2
    finally:
        other.close()


def test_in_one_claim_what_needs_no_provider_is_done_before_it_is_asked(
    db: Connection, worker: Worker, index: IndexReader, provider: FakeProvider
) -> None:
    deleted, paid = insert(db, "deleted"), insert(db, "paid")
    work(db, worker)
    insert(db, "new")
    db.execute("DELETE FROM context_items WHERE id = %s", [deleted])
    change(db, paid, "paid", "b")
    seen: list[object] = []

    def looks(call: Call) -> None:
        seen.append((index.count(), payload(index, paid)["metadata"]))

    provider.behave = looks
    assert work(db, worker) == 3
    assert seen == [(1, {"tenant": "b"})]
