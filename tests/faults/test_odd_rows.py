"""Rows that can't be read, or hold what no index can: each is that item's failure, and holds up nobody else."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import pytest

from reindexer.core.source import Source
from reindexer.monitoring import status as flow_status
from reindexer.monitoring.status import status
from reindexer.postgres.connect import Connection
from reindexer.queue.drain import drain
from reindexer.sources.attach import attach
from reindexer.sources.embedding_specs import embedding_spec_of
from reindexer.sources.rows import find_rows
from reindexer.sources.store import find_source
from reindexer.testing.provider import FakeProvider
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.commands import Done
from tests.support.flow import Flow, idle
from tests.support.index_reader import IndexReader

TOO_LARGE = "a payload column holds a number that is larger than a double can be"
TOO_DEEP = "a payload column holds JSON of more than 100 levels"
BAD = {
    "a number of 5,000 digits": ("repeat('9', 5000)::numeric", "to_jsonb(repeat('9', 5000)::numeric)", TOO_LARGE),
    "a number of 5,000 digits in JSON": ("1", "jsonb_build_object('n', repeat('9', 5000)::numeric)", TOO_LARGE),
    "a number of 400 digits": ("repeat('9', 400)::numeric", "'{}'", TOO_LARGE),
    "a fraction beyond a double": ("1", "'[1e400, 0.5]'", TOO_LARGE),
    "JSON of 2,000 levels": ("1", "(repeat('[', 2000) || repeat(']', 2000))::jsonb", TOO_DEEP),
    "JSON of 101 levels": ("1", "(repeat('{\"a\":', 99) || '[1]' || repeat('}', 99))::jsonb", TOO_DEEP),
}


@pytest.fixture
def flow(db: Connection, worker: Worker) -> Flow:
    return Flow(db, worker)


@pytest.fixture
def things(db: Connection) -> Source:
    db.execute("CREATE TABLE things (id int PRIMARY KEY, body text, price numeric, meta jsonb)")
    attach(db, Source("things", "public", "things", ("id",), ("body",), ("price", "meta")))
    return find_source(db, "things")


def outcomes(db: Connection, source: str) -> dict[str, tuple[str, str | None]]:
    rows = db.execute("SELECT item_id, status, error FROM reindexer.item_status WHERE source = %s", [source])
    return {item_id: (outcome, error) for item_id, outcome, error in rows}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.first(3)
def test_a_value_that_no_payload_can_hold_fails_alone_with_the_reason(
    db: Connection, flow: Flow, things: Source, index: IndexReader, bad: str
) -> None:
    price, meta, reason = BAD[bad]
    db.execute("INSERT INTO things SELECT n, 'text ' || n, n, '{}' FROM generate_series(1, 9) AS n")
    db.execute(f"UPDATE things SET price = {price}, meta = {meta} WHERE id = 5".encode())
    eventually(flow.settles)
    assert outcomes(db, "things") == {
        str(n): ("COMPLETED", None) if n != 5 else ("FAILED", reason) for n in range(1, 10)
    }
    assert IndexReader(index.client, "things").count() == 8
    db.execute("UPDATE things SET price = 1, meta = '{}' WHERE id = 5")
    eventually(flow.settles)
    assert outcomes(db, "things")["5"] == ("COMPLETED", None)


def test_commands_go_on_over_a_row_that_can_not_be_read_and_name_it(
    db: Connection, flow: Flow, things: Source, env: Mapping[str, str], here: Callable[..., Done]
) -> None:
    db.execute("INSERT INTO things SELECT n, 'text ' || n, n, '{}' FROM generate_series(1, 9) AS n")
    db.execute("UPDATE things SET meta = jsonb_build_object('n', repeat('9', 5000)::numeric) WHERE id = 5")
    drain(db)
    why = here("why", "things", "5", "--json", env=env)
    assert json.loads(why.stdout)["waits_for"] == TOO_LARGE
    eventually(flow.settles)
    compared = here("reconcile", "things", "--json", env=env)
    assert compared.returncode == 1
    assert "`reindexer why things '5'` says why" in compared.stderr
    found = json.loads(compared.stdout)
    assert (found["rows"], found["unreadable"], found["stale"], found["missing"]) == (8, 1, 0, 0)
    assert found["examples"] == {"unreadable": ["5"]}
    estimated = json.loads(here("estimate", "things", "--json", env=env).stdout)
    assert (estimated["rows"], estimated["unreadable"], estimated["changed"]) == (8, 1, 0)
    assert json.loads(here("why", "things", "5", "--json", env=env).stdout)["error"] == TOO_LARGE


RAISES = """
    CREATE FUNCTION checked(n int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
    BEGIN
        IF n = 5 THEN {} END IF;
        RETURN true;
    END $$
"""


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("RAISE EXCEPTION 'no';", "RaiseException"),
        ("RAISE EXCEPTION USING ERRCODE = 'XX001', MESSAGE = 'damaged';", "DataCorrupted"),
        ("RAISE EXCEPTION USING ERRCODE = '54000', MESSAGE = 'too much';", "ProgramLimitExceeded"),
        ("RAISE EXCEPTION USING ERRCODE = '23514', MESSAGE = 'checked';", "CheckViolation"),
        ("PERFORM 1 / (n - 5);", "DivisionByZero"),
        ("PERFORM FROM nowhere;", "UndefinedTable"),
        ("PERFORM (SELECT generate_series(1, 2));", "CardinalityViolation"),
    ],
    ids=[
        "RaiseException",
        "DataCorrupted",
        "ProgramLimitExceeded",
        "CheckViolation",
        "DivisionByZero",
        "UndefinedTable",
        "CardinalityViolation",
    ],
)
@pytest.mark.first(4)
def test_a_row_that_fails_when_it_is_read_fails_alone_whatever_the_error(
    db: Connection, flow: Flow, worker: Worker, index: IndexReader, statement: str, name: str
) -> None:
    db.execute(RAISES.format(statement).encode())
    db.execute("CREATE TABLE things (id int PRIMARY KEY, body text)")
    attach(
        db, Source("things", "public", "things", ("id",), ("body",), condition="checked(id)", condition_columns=("id",))
    )
    db.execute("INSERT INTO things SELECT n, 'text ' || n FROM generate_series(1, 9) AS n")
    eventually(flow.settles)
    assert [n for n, (outcome, _) in outcomes(db, "things").items() if outcome != "COMPLETED"] == ["5"]
    assert outcomes(db, "things")["5"] == ("FAILED", f"its row can't be read ({name})")
    db.execute("INSERT INTO reindexer.run (source, kind) VALUES ('things', 'whole_source')")
    eventually(flow.settles, what="a walk that goes over the row")
    source = find_source(db, "things")
    known = flow_status.item(db, source, "5", embedding_spec_of(source, worker.embedder_of(source)))
    assert known is not None
    assert known.status == "FAILED"
    assert status(db).sources["things"].problem is None
    assert IndexReader(index.client, "things").count() == 8


def test_a_function_that_fails_for_every_row_is_the_sources_problem_and_blames_no_item(
    db: Connection, flow: Flow, index: IndexReader
) -> None:
    db.execute(RAISES.format("NULL;").encode())
    db.execute("CREATE TABLE things (id int PRIMARY KEY, body text)")
    attach(
        db, Source("things", "public", "things", ("id",), ("body",), condition="checked(id)", condition_columns=("id",))
    )
    db.execute("INSERT INTO things SELECT n, 'text ' || n FROM generate_series(1, 9) AS n")
    eventually(flow.settles)
    db.execute(
        RAISES.replace("CREATE", "CREATE OR REPLACE")
        .format("PERFORM 1; END IF; PERFORM FROM nowhere; IF false THEN")
        .encode()
    )
    db.execute("UPDATE things SET body = body || '.'")
    assert not flow.settles()
    assert 'relation "nowhere" does not exist' in str(status(db).sources["things"].problem)
    assert status(db).failed == 0
    db.execute("CREATE TABLE nowhere ()")
    db.execute("UPDATE reindexer.due SET not_before = now()")
    eventually(lambda: flow.settles() or idle(db), what="the function is another one, of which no watch tells here")
    assert status(db).sources["things"].problem is None
    assert {outcome for outcome, _ in outcomes(db, "things").values()} == {"COMPLETED"}


def test_values_of_every_odd_kind_are_read_and_equal_what_lies_in_the_index(
    db: Connection,
    flow: Flow,
    index: IndexReader,
    provider: FakeProvider,
    env: Mapping[str, str],
    here: Callable[..., Done],
) -> None:
    db.execute(
        rb"""
        CREATE TYPE pair AS (a int, b text[]);
        CREATE DOMAIN positive AS int CHECK (VALUE > 0);
        CREATE TYPE mood AS ENUM ('fine', 'so so');
        CREATE TABLE odd (id text PRIMARY KEY, body text, n numeric, f float8, d date, t timestamptz, i interval, m money,
            bits bit varying, raw bytea, r int4range[], aa int[][], p pair, dom positive, e mood[], v tsvector, j jsonb, js json,
            net inet, pt point);
        INSERT INTO odd (id, body, n, f) VALUES ('nan', 'a', 'NaN', 'NaN'), ('infinite', 'b', 'Infinity', '-Infinity'),
            ('large', 'c', 1e300, 1e308), ('small', 'd', 1e-400, 5e-324);
        INSERT INTO odd (id, body, d, t, i) VALUES ('late', 'e', '20000-01-01', '20000-01-01', '100000 years'),
            ('early', 'f', '0044-03-15 BC', '0044-03-15 BC', '-1 year +2 days'), ('never', 'g', 'infinity', '-infinity', NULL);
        INSERT INTO odd (id, body, m, bits, raw, r, aa, p, dom, e, v, net, pt) VALUES ('types', 'h', '-12.3', B'0101', '\x00ff',
            '{"[1,3)","empty"}', '{{1,NULL},{3,4}}', ROW(1, ARRAY['x', NULL]), 1, '{fine,so so}', 'a:1 b:2', '10.0.0.0/8', '(1,2)');
        INSERT INTO odd (id, body, j, js) VALUES ('json', 'i', (repeat('[', 90) || repeat(']', 90))::jsonb, '{"a": 1, "a": 1.0}'),
            ('huge', 'j', jsonb_build_object('x', repeat('y', 1000000)), 'null'), ('digits', 'k', to_jsonb(repeat('7', 500)), '0');
    """
    )
    columns = (
        "n", "f", "d", "t", "i", "m", "bits", "raw", "r", "aa", "p", "dom", "e", "v", "j", "js", "net", "pt",
    )  # fmt: skip
    attach(db, Source("odd", "public", "odd", ("id",), ("body",), columns))
    eventually(flow.settles)
    assert set(outcomes(db, "odd").values()) == {("COMPLETED", None)}
    rows = find_rows(db, find_source(db, "odd"), ["nan", "early", "types"]).rows
    assert (rows["nan"].payload["n"], rows["early"].payload["d"]) == ("NaN", "0044-03-15 BC")
    compared = json.loads(here("reconcile", "odd", "--json", env=env).stdout)
    assert (compared["equal"], compared["rows"]) == (True, 11)
    calls = len(provider.calls)
    db.execute("INSERT INTO reindexer.run (source, kind) VALUES ('odd', 'backfill')")
    eventually(flow.settles)
    assert len(provider.calls) == calls, "what is equal is not embedded again"
    assert idle(db)
