"""The history: a row a minute, whoever leads; and what is told of it."""

from __future__ import annotations

import signal

import pytest
from fastapi.testclient import TestClient

from api import histories
from api.main import create_app
from reindexer.monitoring import history
from reindexer.monitoring.buffer import MetricsBuffer
from reindexer.monitoring.history import MAX_HOURS, MAX_STEPS, quantile
from reindexer.monitoring.metrics import FRESHNESS, SETTLED, SOURCE_INPUTS, SOURCE_TOKENS
from reindexer.monitoring.metrics_store import write_metrics
from reindexer.postgres.connect import Connection
from reindexer.settings import Settings
from reindexer.testing.waiting import eventually
from tests.support.flow import insert
from tests.support.processes import Processes

SOURCE = "context_items"


def count(db: Connection, live: int, bulk: int = 0, *, age_s: float = 0.03) -> None:
    """As workers count what they settle."""
    counted = MetricsBuffer()
    counted.add(SETTLED, live, lane="live", outcome="embedded")
    counted.add(SETTLED, bulk, lane="bulk", outcome="skipped")
    counted.observe(FRESHNESS, [age_s] * live, lane="live")
    counted.add(SOURCE_INPUTS, live + bulk, source=SOURCE, embedder="e")
    counted.add(SOURCE_TOKENS, 10 * (live + bulk), source=SOURCE, embedder="e")
    write_metrics(db, counted)


def ago(db: Connection, minutes: float) -> None:
    """All that was recorded was recorded so many minutes earlier."""
    db.execute("UPDATE reindexer.history SET minute = minute - make_interval(mins => 10_000)")  # no key meets another
    db.execute(
        "UPDATE reindexer.history SET minute = minute + make_interval(mins => 10_000) - make_interval(mins => %(m)s),"
        " taken_at = taken_at - make_interval(mins => %(m)s)",
        {"m": minutes},
    )


def recorded(db: Connection) -> int:
    (rows,) = db.execute("SELECT count(*) FROM reindexer.history WHERE source = ''").fetchone() or (0,)
    return int(rows)


def test_a_minute_is_recorded_once_and_told_as_what_came_since_the_one_before(db: Connection) -> None:
    count(db, 100)
    history.record(db)
    ago(db, 1)
    insert(db, "one", "two")
    db.execute("INSERT INTO reindexer.due (source, item_id, generation, lane, changed_at)"
               " VALUES ('context_items', 'a', 1, 'live', now() - interval '90 s')")  # fmt: skip
    db.execute("INSERT INTO reindexer.ledger (source, item_id, generation, outcome, token)"
               " VALUES ('context_items', 'b', 1, 'FAILED', 1)")  # fmt: skip
    count(db, 60, 120)
    history.record(db)
    count(db, 1000)
    history.record(db)  # in the same minute
    assert recorded(db) == 2
    before, now = history.read(db, None, 1).steps
    assert (before.waiting, before.failed, before.lanes) == (0, 0, None)
    (changes,) = db.execute("SELECT count(*) FROM reindexer.outbox").fetchone() or (0,)
    assert changes > 0
    assert (now.waiting, now.failed) == (1 + changes, 1)
    assert now.oldest_s == pytest.approx(90, abs=30)
    assert now.lanes is not None
    assert now.lanes["live"].items_per_s == pytest.approx(1, rel=0.1)
    assert now.lanes["bulk"].items_per_s == pytest.approx(2, rel=0.1)
    assert (now.lanes["live"].changes, now.lanes["bulk"].changes) == (60, 0)
    assert 0.025 <= (now.lanes["live"].p50_s or 0) <= (now.lanes["live"].p99_s or 0) <= 0.05
    assert now.lanes["bulk"].p50_s is None
    of_source = history.read(db, SOURCE, 1).steps[-1]
    assert (of_source.waiting, of_source.failed, of_source.lanes) == (1, 1, None)
    assert of_source.embedded is not None
    assert of_source.embedded.texts_per_s == pytest.approx(3, rel=0.1)
    assert of_source.embedded.tokens_per_s == pytest.approx(30, rel=0.1)


def test_a_missing_minute_is_a_gap_and_no_rate_is_told_over_it(db: Connection) -> None:
    history.record(db)
    ago(db, 3)
    count(db, 600)
    history.record(db)
    told = history.read(db, None, 1)
    assert [each.lanes for each in told.steps] == [None, None]
    assert (told.steps[1].at - told.steps[0].at).total_seconds() == 3 * told.step_s


def test_counting_that_began_anew_is_no_negative_rate(db: Connection) -> None:
    count(db, 100)
    history.record(db)
    ago(db, 1)
    db.execute("TRUNCATE reindexer.counter")
    count(db, 5)
    history.record(db)
    assert history.read(db, None, 1).steps[-1].lanes is None
    assert history.read(db, SOURCE, 1).steps[-1].embedded is None


def test_what_a_clock_that_was_ahead_has_written_is_no_past(db: Connection) -> None:
    count(db, 10)
    history.record(db)
    ago(db, -60)
    assert history.read(db, None, 1).steps == ()
    history.record(db)
    assert recorded(db) == 1
    assert len(history.read(db, None, 1).steps) == 1


def test_what_is_older_than_a_week_is_forgotten_some_at_a_time(db: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    for minutes in (2, 1, 7 * 24 * 60 - 2):
        history.record(db)
        ago(db, minutes)
    history.forget(db)
    assert recorded(db) == 2
    ago(db, 5)
    monkeypatch.setattr(history, "MAX_FORGOTTEN", 1)
    history.forget(db)
    rows = db.execute("SELECT count(*) FROM reindexer.history").fetchone()
    assert rows == (3,)


def test_a_week_is_told_in_steps_that_a_plot_can_show(db: Connection) -> None:
    db.execute(
        "INSERT INTO reindexer.history SELECT '', date_trunc('minute', now()) - make_interval(mins => n),"
        " now() - make_interval(mins => n), n % 7, 0, 0, jsonb_build_object('live', jsonb_build_object('settled', 600 * (11_000 - n)))"
        " FROM generate_series(0, 10_200) n"
    )
    told = history.read(db, None, MAX_HOURS)
    assert MAX_STEPS <= len(told.steps) <= MAX_STEPS + 1
    assert {each.waiting for each in told.steps[1:-1]} == {6}
    assert {round(each.lanes["live"].items_per_s, 6) for each in told.steps if each.lanes} == {10.0}
    assert all(each.lanes for each in told.steps)
    assert len(history.read(db, None, 1).steps) in (60, 61)


def test_two_leaders_write_no_minute_twice_and_the_next_one_goes_on(processes: Processes, db: Connection) -> None:
    first = processes.listener()
    eventually(lambda: recorded(db) == 1, within=10)
    ago(db, 1)
    processes.listener()
    first.process.send_signal(signal.SIGKILL)
    eventually(lambda: recorded(db) == 2, within=20)
    assert history.read(db, None, 1).steps[-1].lanes is not None
    history.record(db)
    assert recorded(db) <= 3  # a minute may have begun


def test_pages_that_ask_for_the_same_cost_one_query(
    db: Connection, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.record(db)
    asked: list[str | None] = []

    def read(connection: Connection, source: str | None, hours: int) -> history.History:
        asked.append(source)
        return history.read(connection, source, hours)

    monkeypatch.setattr(histories, "read", read)
    headers = {"X-API-Key": "test-admin-key"}
    with TestClient(create_app(settings)) as client:
        for _ in range(10):
            told = client.get("/admin/history?hours=1", headers=headers).json()
        assert (told["source"], told["hours"], told["step_s"], len(told["steps"])) == (None, 1, 60, 1)
        assert asked == [None]
        told = client.get(f"/admin/history?source={SOURCE}", headers=headers).json()
        assert (told["source"], told["hours"], told["step_s"]) == (SOURCE, 24, 360)
        assert client.get("/admin/history?source=none", headers=headers).status_code == 404
        assert client.get(f"/admin/history?hours={MAX_HOURS + 1}", headers=headers).status_code == 422
    assert asked == [None, SOURCE]


@pytest.mark.parametrize(
    ("within", "share", "seconds"),
    [
        ({}, 0.5, None),
        ({"0.5": 0.0}, 0.5, None),
        ({"0.5": 4.0}, 0.5, 0.25),
        ({"0.25": 50.0, "0.5": 50.0}, 0.5, 0.25),
        ({"0.25": 50.0, "0.5": 50.0}, 0.75, 0.375),
        ({"+Inf": 1.0, "900.0": 1.0}, 0.99, 900.0),
        ({"10.0": 1.0, "2.5": 99.0}, 0.99, 2.5),
    ],
)
def test_a_share_of_changes_lies_between_two_bounds(within: dict[str, float], share: float, seconds: float) -> None:
    assert quantile(within, share) == (seconds if seconds is None else pytest.approx(seconds))
