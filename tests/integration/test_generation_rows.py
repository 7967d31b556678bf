"""What is true of one generation only: a fault, a backlog or an outcome of another one never stops or answers it.

A second generation is made by hand here: a row of `reindexer.generation`, and items that are due for it.
"""

from __future__ import annotations

from typing import cast

import pytest
from psycopg.types.json import Jsonb

from reindexer.backfills import runs
from reindexer.backfills.pager import MAX_BACKLOG, rebuild_if_lost, walk_page
from reindexer.core.lanes import Lane
from reindexer.core.source import CONTEXT_ITEMS
from reindexer.monitoring.status import status
from reindexer.ports import Broker
from reindexer.postgres.connect import Connection
from reindexer.postgres.queries import load
from reindexer.queue.claim import claim_batch
from reindexer.queue.dead_letters import heal
from reindexer.queue.dispatch import Dispatch
from reindexer.queue.drain import drain
from reindexer.queue.requests import ReindexRequest, record
from reindexer.queue.settle import Finished, finish
from reindexer.sources.store import find_source, set_problem
from reindexer.worker.worker import Worker
from tests.support.flow import insert, work
from tests.support.index_reader import IndexReader

NAME = "context_items"


@pytest.fixture
def second(db: Connection) -> int:
    """The number of a second generation of the source."""
    db.execute(
        "INSERT INTO reindexer.generation (source, number, state, definition)"
        " SELECT source, 2, 'standby', definition FROM reindexer.generation"
    )
    return 2


def due_for(db: Connection, generation: int, *item_ids: str, lane: str = "bulk") -> None:
    db.cursor().executemany(
        "INSERT INTO reindexer.due (source, item_id, generation, lane) VALUES (%s, %s, %s, %s)",
        [(NAME, item_id, generation, lane) for item_id in item_ids],
    )


def pages(db: Connection) -> None:
    """Queue the pages of all runs, and finish the runs that are through."""
    while walk_page(db, lambda name, _: find_source(db, name)):
        pass


class Recorded:
    """A broker that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[Lane, int]] = []

    def depth(self, lane: Lane) -> int:
        return 0

    def send_work(self, lane: Lane, messages: int) -> None:
        self.sent.append((lane, messages))


def test_a_problem_of_another_generation_is_not_the_sources(db: Connection, second: int) -> None:
    set_problem(db, NAME, second, "its provider is gone")
    assert status(db).sources[NAME].problem is None
    set_problem(db, NAME, 1, "the table is gone")
    assert status(db).sources[NAME].problem == "the table is gone"
    former = db.execute("SELECT problem FROM reindexer.source").fetchone()
    assert former == ("the table is gone",)


def test_what_is_due_for_another_generation_is_not_in_the_backlog(db: Connection, worker: Worker, second: int) -> None:
    insert(db, "text")
    work(db, worker)
    while walk_page(db, lambda name, _: find_source(db, name)):
        work(db, worker)
    due_for(db, second, *map(str, range(100)))
    found = status(db)
    assert (found.pending, found.processing, found.oldest_change_age_s) == (0, 0, 0.0)


def test_the_backlog_of_another_generation_holds_up_no_run(db: Connection, second: int) -> None:
    insert(db, "text")
    db.execute("TRUNCATE reindexer.outbox")
    runs.start(db, CONTEXT_ITEMS, who="test")
    db.execute(
        "INSERT INTO reindexer.due (source, item_id, generation, lane)"
        " SELECT %s, n::text, 2, 'bulk' FROM generate_series(1, %s) n",
        [NAME, MAX_BACKLOG + 1],
    )
    assert walk_page(db, lambda name, _: find_source(db, name))
    assert db.execute("SELECT count(*) FROM reindexer.due WHERE generation = 1").fetchone() == (1,)


def test_a_look_at_the_whole_source_makes_items_due_for_every_generation(db: Connection, second: int) -> None:
    item = insert(db, "text")
    db.execute("TRUNCATE reindexer.outbox")
    db.execute("INSERT INTO reindexer.run (source, kind) VALUES (%s, 'whole_source')", [NAME])
    pages(db)
    found = db.execute("SELECT item_id, generation FROM reindexer.due ORDER BY generation").fetchall()
    assert found == [(item, 1), (item, second)]


def test_a_change_makes_an_item_due_for_every_generation_that_is_kept(db: Connection, second: int) -> None:
    item = insert(db, "text")
    drain(db)
    due = "SELECT item_id, generation, lane FROM reindexer.due ORDER BY generation"
    assert db.execute(due).fetchall() == [(item, 1, "live"), (item, second, "bulk")]
    db.execute("TRUNCATE reindexer.due; UPDATE reindexer.generation SET state = 'broken' WHERE number = 2")
    db.execute("UPDATE context_items SET content = 'another'")
    drain(db)
    assert db.execute(due).fetchall() == [(item, 1, "live")]


def test_each_generation_is_filled_by_its_own_definition_and_the_alias_stays(
    db: Connection, worker: Worker, second: int, index: IndexReader
) -> None:
    db.execute(
        "UPDATE reindexer.generation SET definition = definition || %s WHERE number = 2",
        [Jsonb({"payload_columns": ["title"]})],
    )
    item = insert(db, "text", "its title")
    work(db, worker)
    found = {}
    for number in (1, second):
        assert index.client.collection_exists(f"{NAME}__g{number}")
        points, _ = index.client.scroll(f"{NAME}__g{number}", with_payload=True)
        found[number] = [{key for key in point.payload or {} if key != "_reindexer"} for point in points]
    assert found == {1: [{"title", "metadata"}], second: [{"title"}]}
    assert [each.collection_name for each in index.client.get_aliases().aliases] == [f"{NAME}__g1"]
    db.execute("DELETE FROM context_items WHERE id = %s", [item])
    work(db, worker)
    for number in (1, second):
        assert index.client.count(f"{NAME}__g{number}").count == 0


def test_a_definition_that_fits_the_table_no_longer_stops_its_own_generation_only(
    db: Connection, worker: Worker, second: int
) -> None:
    db.execute(
        "UPDATE reindexer.generation SET definition = definition || %s WHERE number = 2",
        [Jsonb({"payload_columns": ["gone"]})],
    )
    item = insert(db, "text")
    work(db, worker)
    assert status(db).sources[NAME].problem is None
    problems = db.execute("SELECT problem IS NULL FROM reindexer.generation ORDER BY number").fetchall()
    assert problems == [(True,), (False,)]
    done = db.execute("SELECT item_id, generation, outcome FROM reindexer.ledger").fetchall()
    assert done == [(item, 1, "COMPLETED")]


def test_what_failed_heals_in_every_generation(db: Connection, second: int) -> None:
    db.execute(
        "INSERT INTO reindexer.ledger (source, item_id, generation, outcome, token, heal_at)"
        " SELECT %s, 'one', number, 'FAILED', 1, now() FROM reindexer.generation",
        [NAME],
    )
    assert heal(db) == 2
    assert db.execute("SELECT generation FROM reindexer.due ORDER BY 1").fetchall() == [(1,), (second,)]


def test_a_truncate_reaches_the_active_one_while_a_run_of_another_is_open(db: Connection, second: int) -> None:
    item = insert(db, "text")
    db.execute("TRUNCATE reindexer.outbox")
    db.execute("INSERT INTO reindexer.run (source, kind, generation) VALUES (%s, 'whole_source', 2)", [NAME])
    db.execute("INSERT INTO reindexer.outbox (source) VALUES (%s)", [NAME])
    drain(db)
    pages(db)
    found = db.execute("SELECT item_id, generation FROM reindexer.due ORDER BY generation").fetchall()
    assert found == [(item, 1), (item, second)]


def test_two_lost_collections_are_both_filled_again(db: Connection, second: int) -> None:
    item = insert(db, "text")
    db.execute("TRUNCATE reindexer.outbox; UPDATE reindexer.generation SET collection_id = 'former'")
    assert rebuild_if_lost(db, NAME, second, "new second")
    assert rebuild_if_lost(db, NAME, 1, "new first")
    pages(db)
    found = db.execute("SELECT item_id, generation FROM reindexer.due ORDER BY generation").fetchall()
    assert found == [(item, 1), (item, second)]


def test_a_run_over_every_generation_ends_when_the_active_one_is_through(db: Connection, second: int) -> None:
    insert(db, "text")
    db.execute("TRUNCATE reindexer.outbox")
    db.execute("INSERT INTO reindexer.run (source, kind) VALUES (%s, 'whole_source')", [NAME])
    pages(db)
    run = next(run for run in runs.recent(db, NAME) if run.kind == "whole_source")
    assert (run.state, run.queued, run.done) == ("running", 1, 0)
    db.execute("DELETE FROM reindexer.due WHERE generation = 1")
    pages(db)
    run = next(run for run in runs.recent(db, NAME) if run.kind == "whole_source")
    assert (run.state, run.queued, run.done) == ("finished", 1, 1)
    assert status(db).oldest_change_age_s == 0.0


def test_an_embedder_that_this_process_lacks_is_left_to_others_for_its_own_generation_only(
    db: Connection, worker: Worker, second: int
) -> None:
    db.execute("UPDATE reindexer.generation SET embedder = 'other:model:3' WHERE number = 2")
    due_for(db, second, insert(db, "first"))
    worker.run_lane(Lane.BULK, budget_s=0)
    item = insert(db, "second")
    drain(db)
    worker.run_lane(Lane.LIVE, budget_s=0)
    done = db.execute("SELECT outcome FROM reindexer.ledger WHERE item_id = %s", [item]).fetchall()
    assert done == [("COMPLETED",)]


@pytest.mark.parametrize("state", ["broken", "dropped"])
def test_nothing_of_a_generation_that_is_not_kept_is_claimed_or_counted_as_ready(
    db: Connection, second: int, state: str
) -> None:
    due_for(db, second, "one")
    db.execute("UPDATE reindexer.generation SET state = %s WHERE number = 2", [state])
    assert claim_batch(db, Lane.BULK, 10, 60.0) is None
    broker = Recorded()
    Dispatch(cast(Broker, broker), 10, 10).top_up(db)
    assert broker.sent == []


def test_the_leader_looks_for_what_is_to_be_rechecked_by_an_index(db: Connection) -> None:
    db.execute(
        "INSERT INTO reindexer.ledger (source, item_id, generation, outcome, token)"
        " SELECT %s, n::text, 1, 'COMPLETED', 1 FROM generate_series(1, 50000) n",
        [NAME],
    )
    db.execute("ANALYZE reindexer.ledger")
    plan = db.execute("EXPLAIN " + load("maintenance.sql")["recheck"].split(";")[0], {"limit": 5_000}).fetchall()
    assert "ledger_recheck" in str(plan)


def test_an_outcome_in_another_generation_answers_no_request(db: Connection, second: int) -> None:
    item = insert(db, "text")
    record(db, NAME, [ReindexRequest("task", item)], lane=Lane.BULK, sent=True)
    due_for(db, second, item)
    db.execute("UPDATE reindexer.due SET not_before = 'infinity' WHERE generation = 1")
    claim = claim_batch(db, Lane.BULK, 10, 60.0, [])
    assert claim is not None
    assert claim.generation == second
    finish(db, claim, [Finished(each, "COMPLETED", "text", "payload", 1) for each in claim.items])
    assert db.execute("SELECT succeeded FROM reindexer.request").fetchone() == (None,)
    db.execute("UPDATE reindexer.due SET not_before = now()")
    claim = claim_batch(db, Lane.BULK, 10, 60.0, [])
    assert claim is not None
    assert claim.generation == 1
    finish(db, claim, [Finished(each, "COMPLETED", "text", "payload", 1) for each in claim.items])
    assert db.execute("SELECT succeeded FROM reindexer.request").fetchone() == (True,)


def test_a_provider_that_is_silent_holds_up_the_marked_items_of_its_own_generation_only(
    db: Connection, second: int
) -> None:
    db.execute(
        "INSERT INTO reindexer.breaker (dependency, account, failures, reason, opened_at, probe_at)"
        " VALUES ('provider', 'gone', 9, 'away', now(), now() + interval '1 hour')"
    )
    db.execute("UPDATE reindexer.generation SET account = CASE number WHEN 2 THEN 'gone' ELSE 'well' END")
    due_for(db, second, *map(str, range(10)))
    due_for(db, 1, "one")
    db.execute("UPDATE reindexer.due SET marked = true")
    claim = claim_batch(db, Lane.BULK, 10, 60.0, [])
    assert claim is not None
    assert (claim.generation, [each.item_id for each in claim.items]) == (1, ["one"])
    assert claim_batch(db, Lane.BULK, 10, 60.0, []) is None
