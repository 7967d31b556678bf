"""What changes how rows read and touches none of them: types, functions, casts. Nothing stays as it was; it is told
where a condition does not work any more, and then no item is to blame."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from qdrant_client import QdrantClient

from reindexer.core.source import Source
from reindexer.listener.trigger_monitor import Watch
from reindexer.migrate import migrate
from reindexer.monitoring.status import status
from reindexer.postgres.connect import Connection, connect
from reindexer.sources.attach import attach
from reindexer.sources.definition import Wanted, define
from reindexer.sources.store import find_source
from reindexer.testing.waiting import eventually
from reindexer.worker.worker import Worker
from tests.support.comparison import differences
from tests.support.flow import WATCH_S, Flow
from tests.support.index_reader import IndexReader
from tests.support.servers import Servers

TABLE = """
    CREATE TYPE mood AS ENUM ('sad', 'happy', 'calm');
    CREATE TYPE place AS (city text, moods mood[]);
    CREATE DOMAIN feeling AS mood;
    CREATE TYPE moods AS RANGE (subtype = mood);
    CREATE FUNCTION in_short(text) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT left($1, 1) $$;
    CREATE FUNCTION "is Shown"(state text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS
        $$ BEGIN RETURN in_short(state) <> 'h'; END $$;
    CREATE FUNCTION alike(text, text) RETURNS boolean IMMUTABLE LANGUAGE sql AS $$ SELECT $1 = $2 $$;
    CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = alike);
    CREATE TABLE diary (
        id int PRIMARY KEY, body text, state varchar NOT NULL, m mood, f feeling, w moods, p place,
        made text GENERATED ALWAYS AS (upper(body)) STORED
    );
    INSERT INTO diary VALUES
        (1, 'one', 'shown', 'sad', 'sad', '[sad,happy]', '("Gent","{sad,happy}")'),
        (2, 'two', 'hidden', 'happy', 'sad', NULL, '("Delft","{}")'),
        (3, 'three', 'shown', 'sad', NULL, NULL, NULL)
"""
DIARY = Source(
    "context_items_diary", "public", "diary", ("id",), ("body", "m", "made"), ("m", "f", "w", "p"),
    condition="""state === state AND "is Shown"(state) AND m::text <> 'none'""", condition_columns=("state", "m"),
)  # fmt: skip
ITEMS = """SELECT id::text, concat_ws(E'\\n', body, m::text, made), jsonb_build_object('m', m, 'f', f, 'w', w, 'p', p)
           FROM diary WHERE state === state AND "is Shown"(state) AND m::text <> 'none'"""


@pytest.fixture
def diary(servers: Servers, index: IndexReader, db: Connection) -> Iterator[IndexReader]:
    """Reads the index of a source whose rows read as types and functions say."""
    db.execute(TABLE.encode())
    attach(db, DIARY)
    client = QdrantClient(url=servers.qdrant_url, check_compatibility=False, timeout=30)
    yield IndexReader(client, DIARY.alias)
    client.close()


@pytest.fixture
def unwatched(db: Connection, worker: Worker, diary: IndexReader) -> Flow:
    """All is indexed, and nobody watches."""
    flow = Flow(db, worker)
    eventually(flow.settles)
    assert wrong(db, diary) == []
    return flow


@pytest.fixture
def flow(unwatched: Flow, database: str) -> Iterator[Flow]:
    """All is indexed, and watched."""
    with Watch(lambda: connect(database, application_name="watch"), WATCH_S):
        yield unwatched


def wrong(db: Connection, diary: IndexReader) -> list[str]:
    """Texts and payloads that are not as the rows read now; by a session that remembers nothing."""
    with connect(db.info.dsn, application_name="reader") as fresh:
        found = differences(fresh, diary, f"SELECT item.id, item.text FROM ({ITEMS}) AS item (id, text)")
        for item_id, _, payload in fresh.execute(ITEMS.encode()):
            stored = diary.payload(str(item_id)) or {}
            if (got := {name: stored.get(name) for name in payload}) != payload:
                found.append(f"{item_id}: {json.dumps(got)} is not {json.dumps(payload)}")
    return found


def runs(db: Connection) -> int:
    row = db.execute("SELECT count(*) FROM reindexer.run WHERE source = %s", [DIARY.name]).fetchone()
    assert row is not None
    return int(row[0])


def version(db: Connection) -> int:
    return db.info.server_version // 10_000


CASES: dict[str, str] = {
    "an enum's label renamed": "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'",
    "two labels that change places": """
        ALTER TYPE mood RENAME VALUE 'sad' TO 'x'; ALTER TYPE mood RENAME VALUE 'happy' TO 'sad';
        ALTER TYPE mood RENAME VALUE 'x' TO 'happy'""",
    "an attribute renamed": "ALTER TYPE place RENAME ATTRIBUTE city TO town",
    "an attribute added": "ALTER TYPE place ADD ATTRIBUTE country text",
    "a cast to text": """
        CREATE FUNCTION spelt(mood) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT 'M-' || enum_send($1)::text $$;
        CREATE CAST (mood AS text) WITH FUNCTION spelt(mood)""",
    "a cast to json": """
        CREATE FUNCTION as_json(mood) RETURNS json IMMUTABLE LANGUAGE sql AS $$ SELECT to_json(1) $$;
        CREATE CAST (mood AS json) WITH FUNCTION as_json(mood)""",
    "the condition's function replaced": """
        CREATE OR REPLACE FUNCTION "is Shown"(state text) RETURNS boolean IMMUTABLE LANGUAGE sql AS
            $$ SELECT state = 'hidden' $$""",
    "a function replaced that this one calls": """
        CREATE OR REPLACE FUNCTION in_short(text) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT 'h' $$""",
    "an operator's function replaced": """
        CREATE OR REPLACE FUNCTION alike(text, text) RETURNS boolean IMMUTABLE LANGUAGE sql AS $$ SELECT $1 < 'm' $$""",
    "a function that fits the arguments better": """
        CREATE FUNCTION "is Shown"(state varchar) RETURNS boolean IMMUTABLE LANGUAGE sql AS
            $$ SELECT state = 'hidden' $$""",
}  # fmt: skip


@pytest.mark.parametrize("ddl", CASES.values(), ids=CASES)
@pytest.mark.first(3)
def test_what_makes_rows_read_otherwise_is_noticed_and_nothing_stays_as_it_was(
    db: Connection, flow: Flow, diary: IndexReader, ddl: str
) -> None:
    db.execute(ddl.encode())
    assert wrong(db, diary) != [], "else the case proves nothing"
    eventually(flow.settles)
    assert wrong(db, diary) == []
    assert status(db).failed == 0


def test_a_label_that_had_another_name_for_a_while_leaves_no_trace(
    db: Connection, unwatched: Flow, diary: IndexReader, database: str
) -> None:
    """What was edited meanwhile was indexed with the other name, and no watch looked in between."""
    db.execute("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'")
    db.execute("UPDATE diary SET body = 'edited' WHERE id = 1")
    unwatched.settles()
    db.execute("ALTER TYPE mood RENAME VALUE 'blue' TO 'sad'")
    with Watch(lambda: connect(database, application_name="watch"), WATCH_S):
        eventually(unwatched.settles)
    assert wrong(db, diary) == []


def test_a_condition_means_labels_as_they_are_called_now_also_to_who_has_planned_it_before(
    db: Connection, flow: Flow, diary: IndexReader
) -> None:
    attach(db, replace(DIARY, condition="m <> 'happy'", condition_columns=("m",)))
    eventually(flow.settles)
    for _ in range(3):
        db.execute("UPDATE diary SET body = body || '.'")
        eventually(flow.settles)
    assert diary.payload("1")
    assert not diary.payload("2")
    db.execute(CASES["two labels that change places"].encode())
    eventually(flow.settles)
    assert diary.payload("2")
    assert not diary.payload("1")
    assert diary.count() == 1


def test_a_stored_columns_expression_that_is_changed_is_noticed(db: Connection, flow: Flow, diary: IndexReader) -> None:
    if version(db) < 17:
        pytest.skip("ALTER COLUMN … SET EXPRESSION came with PostgreSQL 17")
    db.execute("ALTER TABLE diary ALTER COLUMN made SET EXPRESSION AS (reverse(body))")
    eventually(flow.settles)
    assert wrong(db, diary) == []


def test_the_servers_own_upkeep_of_these_rows_costs_no_look_at_all_rows(
    db: Connection, flow: Flow, diary: IndexReader
) -> None:
    before = runs(db)
    for catalog in ("pg_type", "pg_enum", "pg_cast", "pg_operator", "pg_attrdef", "pg_collation"):
        db.execute(f"VACUUM (FULL, FREEZE, ANALYZE) {catalog}".encode())
    db.execute("CREATE FUNCTION of_no_concern() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    db.execute("CREATE TYPE nothing AS ENUM ('to do with it')")
    eventually(flow.settles)
    assert (status(db).triggers, runs(db)) == ("ok", before)


@pytest.mark.parametrize(
    ("away", "back", "told"),
    [
        (
            "ALTER TYPE mood RENAME VALUE 'calm' TO 'quiet'",
            "ALTER TYPE mood RENAME VALUE 'quiet' TO 'calm'",
            'its condition does not work any more: invalid input value for enum mood: "calm"',
        ),
        (
            "ALTER TYPE place RENAME ATTRIBUTE city TO town",
            "ALTER TYPE place RENAME ATTRIBUTE town TO city",
            'its condition does not work any more: column "city" not found in data type place',
        ),
        (
            "ALTER FUNCTION in_short(text) RENAME TO shortened",
            "ALTER FUNCTION shortened(text) RENAME TO in_short",
            "its condition does not work any more: function public.in_short(text) does not exist",
        ),
    ],
    ids=["a label", "an attribute", "a function"],
)
@pytest.mark.first(1)
def test_a_condition_that_does_not_work_any_more_is_the_sources_problem_and_fails_no_item(
    db: Connection, flow: Flow, diary: IndexReader, away: str, back: str, told: str
) -> None:
    named = replace(
        DIARY,
        condition="(m <> 'calm' OR (p).city = 'Gent') AND in_short(state) <> 'h'", condition_columns=("m", "p", "state"),
    )  # fmt: skip
    attach(db, named)
    eventually(flow.settles)
    assert (diary.count(), status(db).sources[DIARY.name].problem) == (2, None)
    db.execute(away.encode())
    assert told in str(status(db).sources[DIARY.name].problem)
    flow.worker.postgres.close()  # a plan that a connection kept knows an attribute by its number, and works
    db.execute("UPDATE diary SET body = 'edited'")
    db.execute("INSERT INTO diary VALUES (4, 'four', 'shown', 'happy')")
    for _ in range(3):
        flow.settles()
    assert (status(db).failed, diary.count()) == (0, 2)
    db.execute(back.encode())
    db.execute("UPDATE reindexer.due SET not_before = now()")
    db.execute("UPDATE reindexer.run SET not_before = now()")
    eventually(flow.settles)
    texts = "SELECT id::text, concat_ws(E'\\n', body, m::text, made) FROM diary WHERE id <> 2"
    assert differences(db, diary, texts) == []
    assert (status(db).failed, status(db).sources[DIARY.name].problem) == (0, None)


def test_a_condition_means_what_it_meant_where_it_was_attached_whatever_the_search_path_of_who_reads(
    db: Connection, database: str, worker: Worker, index: IndexReader
) -> None:
    """A function and an operator of one name in two schemas: text compared as citext does, or letter by letter."""
    db.execute(
        b"""
        CREATE SCHEMA ours;
        CREATE FUNCTION public.fits(text) RETURNS boolean IMMUTABLE LANGUAGE sql AS $$ SELECT false $$;
        CREATE FUNCTION ours.fits(text) RETURNS boolean IMMUTABLE LANGUAGE sql AS $$ SELECT $1 <> 'no' $$;
        CREATE DOMAIN ours.word AS text;
        CREATE FUNCTION ours.alike(ours.word, ours.word) RETURNS boolean IMMUTABLE LANGUAGE sql
            AS $$ SELECT lower($1::text) OPERATOR(pg_catalog.=) lower($2::text) $$;
        CREATE OPERATOR ours.= (LEFTARG = ours.word, RIGHTARG = ours.word, FUNCTION = ours.alike);
        CREATE TABLE told (id int PRIMARY KEY, body text, state text);
        INSERT INTO told VALUES (1, 'one', 'Yes'), (2, 'two', 'no'), (3, 'three', 'YES')
        """
    )
    with connect(database, application_name="attach") as elsewhere:
        elsewhere.execute("SET search_path = ours, public, pg_catalog")
        where = "fits(state) AND state::word = 'yes'::word"
        attach(elsewhere, define(elsewhere, Wanted("context_items_told", "told", ("body",), where=where)))
    flow = Flow(db, worker)
    eventually(flow.settles)
    assert ids(db, "context_items_told") == ["1", "3"]
    db.execute("UPDATE told SET state = 'yES' WHERE id = 2; UPDATE told SET state = 'no' WHERE id = 1")
    eventually(flow.settles)
    assert ids(db, "context_items_told") == ["2", "3"]
    assert find_source(db, "context_items_told").condition == where


STAGES = """
    CREATE SCHEMA elsewhere;
    CREATE TYPE stage AS ENUM ('draft', 'out');
    CREATE FUNCTION fit(body text) RETURNS boolean IMMUTABLE LANGUAGE sql AS $$ SELECT body <> 'unfit' $$;
    CREATE TABLE told (id int PRIMARY KEY, body text, state stage);
    INSERT INTO told VALUES (1, 'one', 'out'), (2, 'two', 'draft'), (3, 'unfit', 'out')
"""
RENAMES = {
    "the type": "ALTER TYPE stage RENAME TO progress",
    "the type's schema": "ALTER TYPE stage SET SCHEMA elsewhere",
    "a schema": "ALTER TYPE stage SET SCHEMA elsewhere; ALTER SCHEMA elsewhere RENAME TO afar",
    "another enum takes its place": """
        CREATE TYPE progress AS ENUM ('draft', 'out', 'gone');
        ALTER TABLE told ALTER COLUMN state TYPE progress USING state::text::progress; DROP TYPE stage""",
    "a text takes its place": "ALTER TABLE told ALTER COLUMN state TYPE text; DROP TYPE stage",
}


@pytest.mark.parametrize("ddl", RENAMES.values(), ids=RENAMES)
@pytest.mark.parametrize("by", ["the watch", "migrate"])
@pytest.mark.first(3)
def test_what_a_condition_means_without_naming_it_may_be_renamed(
    db: Connection, database: str, worker: Worker, index: IndexReader, ddl: str, by: str
) -> None:
    """`state <> 'draft'` says nothing of the type's name, though Postgres writes it down with it."""
    db.execute(STAGES.encode())
    name = "context_items_told"
    attach(db, define(db, Wanted(name, "told", ("body",), where="state <> 'draft' AND fit(body)")))
    flow = Flow(db, worker)
    eventually(flow.settles)
    db.execute(ddl.encode())
    if by == "migrate":
        assert [each.problem for each in migrate(database) if each.source == name] == [None]
    with Watch(lambda: connect(database, application_name="watch"), WATCH_S):
        eventually(lambda: status(db).sources[name].problem is None)
        db.execute("UPDATE told SET body = 'edited', state = 'out' WHERE id = 2")
        db.execute("UPDATE told SET state = 'draft' WHERE id = 1")
        eventually(flow.settles)
    assert ids(db, name) == ["2"]
    assert (status(db).failed, status(db).sources[name].problem) == (0, None)


def test_a_condition_whose_words_would_now_mean_something_else_is_a_problem(
    db: Connection, database: str, worker: Worker, index: IndexReader
) -> None:
    """What it called has another name, and on the path there is another function of the name in its words."""
    db.execute(STAGES.encode())
    db.execute("CREATE FUNCTION elsewhere.fit(text) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT false'")
    name, where = "context_items_told", "state <> 'draft' AND fit(body)"
    attach(db, define(db, Wanted(name, "told", ("body",), where=where)))
    flow = Flow(db, worker)
    eventually(flow.settles)
    db.execute("ALTER FUNCTION fit(text) RENAME TO fitting")

    def watcher() -> Connection:
        watcher = connect(database, application_name="watch")
        watcher.execute("SET search_path = public, elsewhere")
        return watcher

    with Watch(watcher, WATCH_S):
        db.execute("UPDATE told SET body = 'edited'")
        told = "its condition does not work any more: function public.fit(text) does not exist"
        for _ in range(5):
            flow.settles()
            time.sleep(WATCH_S)
            assert told in str(status(db).sources[name].problem)
    assert ids(db, name) == ["1"]
    [problem] = [each.problem for each in migrate(database) if each.source == name]
    assert told in str(problem), "and `migrate` does not say that all is up to date"


def test_a_conditions_literals_mean_the_same_whatever_session_attaches_it(db: Connection, database: str) -> None:
    """As behind a pooler, whose sessions are set as it likes."""
    db.execute("CREATE TABLE told (id int PRIMARY KEY, body text, day date, at timestamptz)")
    wanted = Wanted("context_items_told", "told", ("body",), where="day >= '2024-02-01' AND at > '2024-01-01 00:00'")
    usual = define(db, wanted)
    with connect(database, application_name="attach") as pooled:
        pooled.execute("SET TimeZone = 'America/New_York'; SET DateStyle = 'SQL, DMY'")
        assert define(pooled, wanted).resolved_condition == usual.resolved_condition
        attach(pooled, usual)
        assert status(pooled).sources["context_items_told"].problem is None


def test_sources_of_an_older_version_get_their_conditions_names_looked_up_when_they_are_attached_again(
    db: Connection,
) -> None:
    db.execute(TABLE.encode())
    attach(db, replace(DIARY, condition="state = 'shown'", condition_columns=("state",)))
    assert find_source(db, DIARY.name).resolved_condition == "((state)::text = 'shown'::text)"


def ids(db: Connection, source: str) -> list[str]:
    """What is in the index, by the ledger."""
    query = "SELECT item_id FROM reindexer.ledger WHERE source = %s AND outcome = 'COMPLETED' ORDER BY item_id"
    return [item for (item,) in db.execute(query, [source])]
