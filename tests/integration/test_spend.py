"""What requests cost, as the tables, the command, the API and /metrics tell it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from structlog.testing import capture_logs

from api.main import create_app
from reindexer import wiring
from reindexer.core.errors import MayNotSpend, NotAsked, RateLimited, TransientError
from reindexer.core.source import CONTEXT_ITEMS
from reindexer.core.spend import Charged
from reindexer.embedding import purse as purses
from reindexer.embedding.purse import BLOCK, Purse
from reindexer.monitoring.spend import count_the_dead, spent, summed
from reindexer.postgres.connect import Connection, connect
from reindexer.settings import Settings
from reindexer.testing.provider import Call, FakeProvider, Reply, error
from reindexer.worker.worker import Worker
from tests.support.commands import Done
from tests.support.flow import fill, insert, work
from tests.support.spending import in_table

CHARGED = Charged("notes", "account", "model", 0.02)


class Connections:
    """Connects to a database, and counts how often."""

    def __init__(self, url: str) -> None:
        self.url, self.number = url, 0

    @contextmanager
    def __call__(self) -> Iterator[Connection]:
        self.number += 1
        with connect(self.url, application_name="test purse") as connection:
            yield connection


@pytest.fixture
def connections(database: str) -> Connections:
    return Connections(database)


@pytest.fixture
def purse(connections: Connections, monkeypatch: pytest.MonkeyPatch) -> Iterator[Purse]:
    """Settles only when it is told to."""
    monkeypatch.setattr(purses, "SETTLE_S", 60.0)
    made = Purse(connections)
    yield made
    made.close()


def use(purse: Purse, most: int, tokens: int) -> None:
    reserved = purse.reserve(CHARGED, "edit", most)
    assert reserved is not None
    reserved.counted(tokens)


def test_requests_need_no_statement_beside_the_first(purse: Purse, connections: Connections, db: Connection) -> None:
    use(purse, 100, 25)
    for _ in range(100):
        use(purse, 100, 25)
    assert connections.number == 1
    assert in_table(db) == (0, 0, BLOCK + 100)
    purse.settle()
    purse.settle()
    assert connections.number == 2
    assert in_table(db) == (101 * 25, 0, BLOCK)
    use(purse, 100, 25)
    assert connections.number == 2
    purse.close()
    assert in_table(db) == (102 * 25, 0, 0)


def test_what_is_in_flight_stays_set_aside_until_it_is_answered(purse: Purse, db: Connection) -> None:
    slow, lost = purse.reserve(CHARGED, "edit", 1000), purse.reserve(CHARGED, "edit", 500)
    assert slow is not None
    assert lost is not None
    use(purse, 100, 30)
    purse.settle()
    assert in_table(db)[:2] == (30, 0)
    assert in_table(db)[2] >= 1500
    purse.close()
    assert in_table(db) == (30, 0, 1500)
    slow.counted(400)
    lost.unconfirmed(7)
    purse.close()
    assert in_table(db) == (437, 500, 0)


def test_the_block_of_a_process_that_died_is_counted_as_spent(purse: Purse, db: Connection) -> None:
    use(purse, 1000, 900)
    assert count_the_dead(db) == 0
    db.execute("UPDATE reindexer.spend_reservation SET renewed_at = renewed_at - interval '2 minutes'")
    assert count_the_dead(db) == BLOCK + 1000
    assert in_table(db) == (0, BLOCK + 1000, 0)
    use(purse, 1000, 900)  # it only stood still: what is left of its block is paid for
    purse.settle()
    assert in_table(db) == (0, BLOCK + 1000, 0)
    use(purse, 1000, 900)
    purse.settle()
    assert in_table(db)[:2] == (900, BLOCK + 1000)


def test_a_statement_of_which_nobody_knows_whether_it_was_executed_leaves_its_block_as_spent(
    purse: Purse, connections: Connections, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(purse, 1000, 900)

    @contextmanager
    def cut() -> Iterator[Connection]:
        with connections() as connection:
            yield connection
            connection.pgconn.finish()
            connection.execute("SELECT 1")

    monkeypatch.setattr(purse, "_connecting", cut)
    purse.settle()
    monkeypatch.setattr(purse, "_connecting", connections)
    assert sum(in_table(db)) >= 900
    use(purse, 1000, 900)
    purse.close()
    db.execute("UPDATE reindexer.spend_reservation SET renewed_at = renewed_at - interval '2 minutes'")
    count_the_dead(db)
    assert sum(in_table(db)) >= 1800


def test_while_postgres_is_away_what_was_used_waits_and_no_line_of_the_log_says_so(
    purse: Purse, connections: Connections, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(purse, 1000, 900)
    url = connections.url
    monkeypatch.setattr(connections, "url", "postgresql://127.0.0.1:1/none")
    with capture_logs() as logged:
        purse.settle()
    assert logged == []
    monkeypatch.setattr(connections, "url", url)
    purse.settle()
    assert in_table(db)[0] == 900


def test_without_postgres_nothing_is_asked(database: str) -> None:
    @contextmanager
    def away() -> Iterator[Connection]:
        with connect("postgresql://127.0.0.1:1/none", application_name="test") as connection:
            yield connection

    with pytest.raises(NotAsked):  # not as if the provider were away
        Purse(away).reserve(CHARGED, "edit", 10)


def test_a_request_is_reserved_before_the_provider_is_asked(
    db: Connection, worker: Worker, provider: FakeProvider, database: str
) -> None:
    found: list[tuple[int, int]] = []

    def look(call: Call) -> Reply:
        reply = provider.vectors(call)
        with connect(database, application_name="test") as connection:
            found.append((sum(in_table(connection)), provider.tokens))
        return reply

    provider.behave = look
    fill(db)
    work(db, worker)
    assert found
    assert all(table >= counted for table, counted in found)


def test_the_table_holds_what_the_provider_counted_by_source_and_purpose(
    db: Connection, worker: Worker, settings: Settings, provider: FakeProvider
) -> None:
    fill(db)
    work(db, worker)
    edited = provider.tokens
    db.execute(
        "INSERT INTO context_items (title, content) SELECT n::text, 'text ' || n FROM generate_series(1, 1100) n"
    )
    work(db, worker)
    filled = provider.tokens - edited
    worker.purse.close()
    searching = wiring.purse(settings)
    wiring.query_embedder_of(settings, paying=searching)(CONTEXT_ITEMS).embed(["a query"], timeout_s=5)
    searching.close()
    lines = {each.purpose: each for each in spent(db, 1)}
    assert {name: each.tokens for name, each in lines.items()} == {
        "edit": edited, "backfill": filled, "search": provider.tokens - edited - filled,
    }  # fmt: skip
    assert in_table(db) == (provider.tokens, 0, 0)
    assert {(each.day, each.source, each.model) for each in lines.values()} == {
        (datetime.now(UTC).date(), "context_items", "text-embedding-3-small")
    }
    assert sum(each.requests for each in lines.values()) == len(provider.calls)
    assert {each.unpriced_tokens for each in lines.values()} == {line.tokens for line in lines.values()}


@pytest.mark.parametrize(
    ("behave", "unconfirmed"),
    [
        (lambda _: error(429, "rate_limit_exceeded"), False),
        (lambda _: error(500), False),
        (lambda _: error(504), True),
        (lambda _: Reply(200, {"data": []}), True),
        (lambda _: Reply(200, {"data": []}, cut_at=5), True),
    ],
    ids=["429", "500", "504", "unreadable", "cut"],
)
def test_a_request_without_a_count_costs_its_upper_bound_unless_the_provider_refused_it(
    db: Connection, worker: Worker, provider: FakeProvider, behave: Callable[[Call], Reply], unconfirmed: bool
) -> None:
    provider.behave = behave
    embedder = worker.embedder_of(CONTEXT_ITEMS)
    with pytest.raises((TransientError, RateLimited)):
        embedder.embed(["ten letters"], timeout_s=5)
    worker.purse.close()
    assert in_table(db) == (0, 15 if unconfirmed else 0, 0)


def test_harmless_texts_that_are_sent_after_a_refusal_are_counted_to_the_token(
    db: Connection, worker: Worker, provider: FakeProvider
) -> None:
    provider.behave = lambda call: error(400, "invalid_input") if any("bad" in text for text in call.inputs) else None
    insert(db, "good text")
    insert(db, "bad text")
    work(db, worker)
    worker.purse.close()
    assert provider.tokens > 3
    assert in_table(db) == (provider.tokens, 0, 0)


def test_prices_come_from_a_file_and_stay_as_they_were(
    db: Connection, env: Mapping[str, str], tmp_path: Path, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch,
    here: Callable[..., Done],
) -> None:  # fmt: skip
    prices = tmp_path / "prices.toml"
    prices.write_text(
        '[[price]]\nmodel = "text-embedding-3-small"\ndollars_per_million_tokens = 7\n'
        f'[[price]]\nmodel = "text-embedding-3-small"\nbase_url = "{provider.url}"\ndollars_per_million_tokens = 0.5\n',
        encoding="utf-8",
    )
    for name, value in {**env, "REINDEXER_PRICES": str(prices)}.items():
        monkeypatch.setenv(name, value)
    dear = Settings.load()
    for settings in (dear, dear.model_copy(update={"prices": None, "price_per_million_tokens": 3.0})):
        purse = wiring.purse(settings)
        wiring.query_embedder_of(settings, paying=purse)(CONTEXT_ITEMS).embed(["12345678"], timeout_s=5)
        purse.close()
    (line,) = spent(db, 1)
    assert (line.tokens, line.unpriced_tokens) == (6, 0)
    assert line.dollars == pytest.approx((3 * 0.5 + 3 * 3.0) / 1e6)

    told = json.loads(here("spend", "--by", "model", "--json", env=env).stdout)
    (by_model,) = told["spent"]
    assert (by_model["name"], by_model["tokens"]) == ("text-embedding-3-small", 6)
    assert told["reserved"] == {"tokens": 0, "dollars": 0.0}
    assert here("spend", env=env).stdout == f"{line.day}\t2\t6\t0\t0\t0.000010\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[price]]\nmodel = 3\n", "price 1: it names no `model`"),
        ('[[price]]\nmodel = "m"\ndollars_per_million_tokens = -1\n', "is no amount of dollars"),
        ('[[price]]\nmodel = "m"\nprice = 1\n', "'price' is not known"),
        ('[[price]]\nmodel = "m"\nbase_url = "x"\ndollars_per_million_tokens = 1\n', "`base_url` is no URL"),
        ("[[price]\n", "Expected"),
    ],
)
def test_a_wrong_file_of_prices_is_told_in_one_line(
    here: Callable[..., Done], env: Mapping[str, str], tmp_path: Path, text: str, why: str
) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text(text, encoding="utf-8")
    done = here("spend", env={**env, "REINDEXER_PRICES": str(prices)})
    assert done.returncode == 2
    assert why in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_api_and_metrics_tell_what_was_spent(
    db: Connection, worker: Worker, settings: Settings, provider: FakeProvider
) -> None:
    fill(db)
    work(db, worker)
    worker.purse.close()
    headers = {"X-API-Key": "test-admin-key"}
    with TestClient(create_app(settings)) as client:
        told = client.get("/admin/spend", params={"by": "purpose"}, headers=headers).json()
        scraped = client.get("/metrics").text
    assert [(each["name"], each["tokens"]) for each in told["spent"]] == [("edit", provider.tokens)]
    labels = 'model="text-embedding-3-small",purpose="edit",source="context_items"'
    assert f'reindexer_spent_tokens{{count="confirmed",{labels}}} {float(provider.tokens)}' in scraped
    assert f"reindexer_spent_dollars{{{labels}}} 0.0" in scraped


def test_a_role_that_only_reads_may_search(db: Connection, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    db.execute("DROP ROLE IF EXISTS spend_reader")
    db.execute("CREATE ROLE spend_reader")
    db.execute("GRANT USAGE ON SCHEMA reindexer TO spend_reader")

    @contextmanager
    def reading() -> Iterator[Connection]:
        with connect(database, application_name="test") as connection:
            connection.execute("SET ROLE spend_reader")
            yield connection

    with pytest.raises(MayNotSpend, match="may not write"):
        Purse(reading).reserve(CHARGED, "edit", 10)
    assert Purse(reading, required=False).reserve(CHARGED, "search", 10) is None
    db.execute("DROP OWNED BY spend_reader")
    db.execute("DROP ROLE spend_reader")


def test_sums_are_by_one_name(db: Connection, purse: Purse) -> None:
    for source in ("b", "a"):
        for model in ("x", "y"):
            reserved = purse.reserve(Charged(source, "account", model, None), "edit", 10)
            assert reserved is not None
            reserved.counted(4)
    purse.close()
    assert [(each.name, each.tokens, each.unpriced_tokens) for each in summed(spent(db, 1), "source")] == [
        ("a", 8, 8), ("b", 8, 8),
    ]  # fmt: skip
