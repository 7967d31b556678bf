"""What writers cause: which changes are recorded, and that writers never pay for our mistakes."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from reindexer.core.errors import UsageError
from reindexer.core.source import CONTEXT_ITEMS, Source
from reindexer.embedded.postgres import EmbeddedPostgres
from reindexer.listener.trigger_monitor import Watch
from reindexer.postgres import triggers
from reindexer.postgres.catalog import relations, tree
from reindexer.postgres.connect import Connection, connect
from reindexer.postgres.locks import LOCK_CLASS, WAKE_LOCK
from reindexer.queue.drain import drain
from reindexer.sources.attach import attach
from reindexer.sources.key_pages import key_page
from reindexer.sources.rows import read_rows, without_row
from reindexer.sources.trigger_check import inspect
from tests.support.timing import median_ratio

A, B = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"


def changes(db: Connection) -> list[str | None]:
    """Item ids in the outbox, in order, and the outbox emptied."""
    rows = db.execute(
        "WITH gone AS (DELETE FROM reindexer.outbox RETURNING item_id, ctid AS place) SELECT item_id FROM gone ORDER BY place"
    )
    return [item_id for (item_id,) in rows]


def insert(db: Connection, *ids: str) -> None:
    for item_id in ids:
        db.execute("INSERT INTO context_items (id, title, content) VALUES (%s, 't', 'c')", [item_id])
    changes(db)


def test_insert_update_delete_record_the_item_once_each(migrated: Connection) -> None:
    migrated.execute("INSERT INTO context_items (id, content) VALUES (%s, 'c')", [A])
    assert changes(migrated) == [A]
    migrated.execute("UPDATE context_items SET content = 'd'")
    assert changes(migrated) == [A]
    migrated.execute("DELETE FROM context_items")
    assert changes(migrated) == [A]


def test_an_update_of_an_undeclared_column_or_of_nothing_records_nothing(migrated: Connection) -> None:
    insert(migrated, A)
    migrated.execute("UPDATE context_items SET updated_at = now()")
    migrated.execute("UPDATE context_items SET title = title, content = 'c', metadata = '{}'")
    assert changes(migrated) == []


@pytest.mark.parametrize("column", ["title = 'x'", "title = NULL", "content = 'x'", """metadata = '{"a": 1}'"""])
def test_an_update_of_each_declared_column_is_recorded(migrated: Connection, column: str) -> None:
    insert(migrated, A)
    migrated.execute(f"UPDATE context_items SET {column}".encode())
    assert changes(migrated) == [A]


def test_a_statement_records_those_of_its_rows_that_changed(migrated: Connection) -> None:
    insert(migrated, A, B)
    for _ in range(2):
        migrated.execute("UPDATE context_items SET content = 'x' WHERE false")
        assert changes(migrated) == []
        migrated.execute("UPDATE context_items SET content = content || '.'")
        assert sorted(map(str, changes(migrated))) == [A, B]
        migrated.execute("UPDATE context_items SET content = CASE WHEN id = %s THEN 'new' ELSE content END", [B])
        assert changes(migrated) == [B]
        migrated.execute("UPDATE context_items SET content = 'old' WHERE id = %s", [B])
        assert changes(migrated) == [B]
        migrated.execute("UPDATE context_items SET updated_at = now()")
        assert changes(migrated) == []


def test_a_changed_key_is_a_delete_and_an_insert(migrated: Connection) -> None:
    insert(migrated, A)
    migrated.execute("UPDATE context_items SET id = %s", [B])
    assert sorted(map(str, changes(migrated))) == [A, B]


def test_two_swapped_keys_are_both_recorded(migrated: Connection) -> None:
    migrated.execute("ALTER TABLE context_items DROP CONSTRAINT context_items_pkey")
    migrated.execute("ALTER TABLE context_items ADD PRIMARY KEY (id) DEFERRABLE")
    migrated.execute("INSERT INTO context_items (id, content) VALUES (%s, 'a'), (%s, 'b')", [A, B])
    changes(migrated)
    migrated.execute("UPDATE context_items SET id = CASE WHEN id = %s THEN %s::uuid ELSE %s::uuid END", [A, B, A])
    assert sorted(map(str, changes(migrated))) == [A, B]


def test_upserts_merges_and_copies_are_recorded(migrated: Connection) -> None:
    insert(migrated, A)
    upsert = "INSERT INTO context_items (id, content) VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET content = excluded.content"
    migrated.execute(upsert, [A, "new"])
    assert changes(migrated) == [A]
    migrated.execute(upsert, [B, "new"])
    assert changes(migrated) == [B]
    migrated.execute(
        """
        MERGE INTO context_items AS t USING (VALUES (%s::uuid), (%s::uuid)) AS s (id) ON t.id = s.id AND t.id = %s
        WHEN MATCHED THEN UPDATE SET content = 'merged'
        WHEN NOT MATCHED THEN INSERT (id, content) VALUES (gen_random_uuid(), 'merged')
        """,
        [A, B, A],
    )
    assert len(changes(migrated)) == 2
    with migrated.cursor() as cursor, cursor.copy("COPY context_items (content) FROM STDIN") as copy:
        copy.write("one\ntwo\nthree\n")
    assert len(changes(migrated)) == 3


def test_truncate_records_one_look_at_the_whole_source(migrated: Connection) -> None:
    insert(migrated, A, B)
    migrated.execute("TRUNCATE context_items")
    assert changes(migrated) == [None]


def test_cascades_are_recorded(migrated: Connection) -> None:
    migrated.execute("CREATE TABLE parent (id int PRIMARY KEY)")
    migrated.execute("CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES parent ON DELETE CASCADE, body text)")
    attach(migrated, Source("child", "public", "child", ("id",), ("body",)))
    migrated.execute("INSERT INTO parent VALUES (1)")
    migrated.execute("INSERT INTO child VALUES (1, 1, 'x'), (2, 1, 'y')")
    changes(migrated)
    migrated.execute("DELETE FROM parent")
    assert sorted(map(str, changes(migrated))) == ["1", "2"]


def test_a_statement_over_a_thousand_rows_goes_to_the_bulk_lane(migrated: Connection) -> None:
    migrated.execute("INSERT INTO context_items (content) SELECT 'c' FROM generate_series(1, 1001)")
    migrated.execute("INSERT INTO context_items (content) SELECT 'c' FROM generate_series(1, 1000)")
    lanes = migrated.execute("SELECT lane, count(*) FROM reindexer.outbox GROUP BY lane ORDER BY lane").fetchall()
    assert lanes == [("bulk", 1001), ("live", 1000)]
    drained = drain(migrated)
    assert (drained.bulk, drained.live) == (1001, 1000)


def test_json_and_citext_columns_are_compared_by_their_images(migrated: Connection) -> None:
    available = migrated.execute("SELECT count(*) FROM pg_available_extensions WHERE name = 'citext'").fetchone()
    citext = bool(available and available[0])
    if citext:
        migrated.execute("CREATE EXTENSION citext")
    migrated.execute(
        f"CREATE TABLE notes (id int PRIMARY KEY, body {'citext' if citext else 'text'}, extra json)".encode()
    )
    attach(migrated, Source("notes", "public", "notes", ("id",), ("body",), ("extra",)))
    migrated.execute("""INSERT INTO notes VALUES (1, 'word', '{"a": 1}')""")
    changes(migrated)
    migrated.execute("UPDATE notes SET body = 'WORD'")
    assert changes(migrated) == ["1"]
    migrated.execute("""UPDATE notes SET extra = '{"a": 2}'""")
    assert changes(migrated) == ["1"]
    migrated.execute("""UPDATE notes SET extra = '{"a": 2}'""")
    assert changes(migrated) == []


@pytest.fixture
def tags(migrated: Connection) -> Source:
    """Of a table with a key of two columns, of which one is case-insensitive."""
    try:
        migrated.execute("CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
    except psycopg.errors.FeatureNotSupported:
        pytest.skip("this build of Postgres has no ICU")
    migrated.execute("CREATE TABLE tag (k text COLLATE ci PRIMARY KEY, body text)")
    source = Source("tag", "public", "tag", ("k",), ("body",))
    attach(migrated, source)
    migrated.execute("INSERT INTO tag VALUES ('alpha', 'a'), ('beta', 'b'), ('gamma', 'c')")
    changes(migrated)
    return source


@pytest.mark.parametrize("role", ["origin", "replica"])
def test_two_spellings_of_a_key_that_its_collation_takes_for_one_are_two_items(
    migrated: Connection, tags: Source, role: str
) -> None:
    migrated.execute("CREATE TABLE word (lang varchar COLLATE ci, no int, body text, PRIMARY KEY (lang, no))")
    attach(migrated, Source("word", "public", "word", ("lang", "no"), ("body",)))
    migrated.execute("INSERT INTO word VALUES ('nl', 1, 'a'), ('nl', 2, 'b')")
    migrated.execute(f"SET session_replication_role = {role}".encode())
    changes(migrated)
    migrated.execute("UPDATE tag SET k = 'Gamma' WHERE k = 'gamma'")
    assert sorted(map(str, changes(migrated))) == ["Gamma", "gamma"]
    migrated.execute("UPDATE tag SET k = upper(k) WHERE k IN ('alpha', 'beta')")
    assert sorted(map(str, changes(migrated))) == ["ALPHA", "BETA", "alpha", "beta"]
    migrated.execute("UPDATE tag SET k = k, body = CASE WHEN k = 'alpha' THEN 'new' ELSE body END")
    assert changes(migrated) == ["ALPHA"]
    migrated.execute("UPDATE word SET lang = 'NL'")
    assert sorted(map(str, changes(migrated))) == ['["NL", "1"]', '["NL", "2"]', '["nl", "1"]', '["nl", "2"]']


def test_a_row_is_read_by_the_spelling_of_its_key_alone_whatever_its_collation(
    migrated: Connection, tags: Source
) -> None:
    assert read_rows(migrated, tags, ["alpha", "ALPHA", "Beta", "gamma"]).keys() == {"alpha", "gamma"}
    assert without_row(migrated, tags, ["alpha", "ALPHA", "Beta"]) == ["ALPHA", "Beta"]
    page = key_page(migrated, tags, None, 2, timeout_s=5)
    assert (page.item_ids, page.last) == (("alpha", "beta"), "beta")
    assert key_page(migrated, tags, "beta", 2, timeout_s=5).item_ids == ("gamma",)


def test_an_index_that_tells_more_apart_than_the_columns_collation_is_no_key(
    migrated: Connection, tags: Source
) -> None:
    migrated.execute("CREATE TABLE loose (k text COLLATE ci NOT NULL, body text)")
    migrated.execute('CREATE UNIQUE INDEX ON loose (k COLLATE "C")')
    with pytest.raises(Exception, match="no valid unique NOT NULL index"):
        attach(migrated, Source("loose", "public", "loose", ("k",), ("body",)))
    migrated.execute("CREATE UNIQUE INDEX ON loose (k)")
    assert attach(migrated, Source("loose", "public", "loose", ("k",), ("body",))).changed


def test_a_deferrable_key_is_a_key(migrated: Connection) -> None:
    migrated.execute("CREATE TABLE later (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, body text)")
    assert attach(migrated, Source("later", "public", "later", ("id",), ("body",))).changed
    migrated.execute("INSERT INTO later VALUES (1, 'a'), (2, 'b')")
    changes(migrated)
    migrated.execute("UPDATE later SET id = 3 - id")
    assert sorted(map(str, changes(migrated))) == ["1", "2"]


@pytest.mark.parametrize(
    "ddl",
    [
        "ALTER TABLE context_items RENAME COLUMN content TO body",
        "ALTER TABLE context_items DROP COLUMN title",
        "ALTER TABLE context_items ALTER COLUMN metadata DROP DEFAULT, ALTER COLUMN metadata TYPE text",
        "ALTER TABLE context_items RENAME TO things",
    ],
)
def test_no_ddl_on_declared_columns_makes_a_write_fail_or_go_unnoticed(migrated: Connection, ddl: str) -> None:
    insert(migrated, A)
    migrated.execute("UPDATE context_items SET content = 'planned once'")
    changes(migrated)
    migrated.execute(ddl.encode())
    table = "things" if "things" in ddl else "context_items"
    body = "body" if "body" in ddl else "content"
    migrated.execute(f"UPDATE {table} SET {body} = 'changed'".encode())
    assert changes(migrated) in ([A], [None])
    migrated.execute(f"INSERT INTO {table} ({body}, metadata) VALUES ('x', '{{}}')".encode())
    assert len(changes(migrated)) == 1
    migrated.execute(f"DELETE FROM {table}".encode())
    assert len(changes(migrated)) in (1, 2)


def test_a_writer_needs_no_right_on_our_schema(migrated: Connection, empty_url: str) -> None:
    migrated.execute("DROP ROLE IF EXISTS rx_writer")
    migrated.execute("CREATE ROLE rx_writer LOGIN")
    migrated.execute("GRANT INSERT, UPDATE, DELETE, TRUNCATE, SELECT ON context_items TO rx_writer")
    with psycopg.connect(empty_url, user="rx_writer", autocommit=True) as writer:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            writer.execute("SELECT FROM reindexer.outbox")
        writer.execute("INSERT INTO context_items (id, content) VALUES (%s, 'c')", [A])
        writer.execute("SET search_path = pg_temp")
        writer.execute("UPDATE public.context_items SET content = 'd'")
        writer.execute("DELETE FROM public.context_items")
        writer.execute("TRUNCATE public.context_items")
    assert changes(migrated) == [A, A, A, None]
    migrated.execute("DROP OWNED BY rx_writer")
    migrated.execute("DROP ROLE rx_writer")


def test_writes_to_a_partition_directly_and_through_its_parent_are_recorded_once(migrated: Connection) -> None:
    migrated.execute("CREATE TABLE logs (id int, day int, body text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)")
    migrated.execute("CREATE TABLE logs_1 PARTITION OF logs FOR VALUES FROM (0) TO (10)")
    migrated.execute("CREATE TABLE logs_2 PARTITION OF logs FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (day)")
    migrated.execute("CREATE TABLE logs_2a PARTITION OF logs_2 FOR VALUES FROM (10) TO (20)")
    attach(migrated, Source("logs", "public", "logs", ("id", "day"), ("body",)))
    for table, day in (("logs", 1), ("logs_1", 2), ("logs_2", 11), ("logs_2a", 12)):
        migrated.execute(f"INSERT INTO {table} VALUES (1, {day}, 'x')".encode())
        assert changes(migrated) == [f'["1", "{day}"]']
    migrated.execute("UPDATE logs SET day = 13 WHERE day = 1")
    assert set(changes(migrated)) == {'["1", "13"]', '["1", "1"]'}
    migrated.execute("UPDATE logs SET body = 'y'")
    assert len(changes(migrated)) == 4


def test_rows_applied_as_a_replica_are_recorded(migrated: Connection) -> None:
    migrated.execute("SET session_replication_role = replica")
    migrated.execute("INSERT INTO context_items (id, content) VALUES (%s, 'c')", [A])
    migrated.execute("UPDATE context_items SET content = 'd'")
    migrated.execute("UPDATE context_items SET updated_at = now()")
    migrated.execute("UPDATE context_items SET id = %s", [B])
    migrated.execute("DELETE FROM context_items")
    migrated.execute("TRUNCATE context_items")
    assert changes(migrated) == [A, A, A, B, B, None]


def test_the_bell_rings_only_while_the_leader_sleeps(migrated: Connection, empty_url: str) -> None:
    with connect(empty_url, application_name="leader") as leader:
        leader.execute("LISTEN reindexer_bell")
        insert(migrated, A)
        assert list(leader.notifies(timeout=0.2)) == []
        leader.execute("SELECT pg_advisory_lock(%s, %s)", [LOCK_CLASS, WAKE_LOCK])
        insert(migrated, B)
        rung = list(leader.notifies(timeout=30, stop_after=1))
        assert [(each.channel, each.payload) for each in rung] == [("reindexer_bell", "")]


def test_the_leader_can_not_fall_asleep_between_a_writers_look_and_its_commit(
    migrated: Connection, empty_url: str
) -> None:
    with connect(empty_url, application_name="leader") as leader:
        with migrated.transaction():
            migrated.execute("INSERT INTO context_items (id, content) VALUES (%s, 'c')", [A])
            assert leader.execute("SELECT pg_try_advisory_lock(%s, %s)", [LOCK_CLASS, WAKE_LOCK]).fetchone() == (False,)
        assert leader.execute("SELECT pg_try_advisory_lock(%s, %s)", [LOCK_CLASS, WAKE_LOCK]).fetchone() == (True,)
        assert drain(leader).changes == 1


def test_a_publication_of_all_tables_does_not_block_the_outbox(migrated: Connection) -> None:
    migrated.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    insert(migrated, A)
    migrated.execute("UPDATE context_items SET content = 'd'")
    assert drain(migrated).changes == 1


def test_a_key_without_a_unique_index_is_refused(migrated: Connection) -> None:
    migrated.execute("CREATE TABLE loose (id int NOT NULL, body text)")
    with pytest.raises(Exception, match="no valid unique NOT NULL index"):
        attach(migrated, Source("loose", "public", "loose", ("id",), ("body",)))


@pytest.fixture
def foreign(versioned_server: EmbeddedPostgres, migrated: Connection) -> bool:
    """A table `m`, another one elsewhere, and a server for foreign tables; whether these can be written and read."""
    migrated.execute("CREATE TABLE m (id int PRIMARY KEY, body text); INSERT INTO m VALUES (1, 'a')")
    migrated.execute("CREATE TABLE elsewhere (id int NOT NULL, body text); INSERT INTO elsewhere VALUES (2, 'b')")
    try:
        migrated.execute("CREATE EXTENSION postgres_fdw")
    except psycopg.Error:
        migrated.execute("CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER there FOREIGN DATA WRAPPER nothing")
        return False
    host, port = str(migrated.info.host), str(migrated.info.port)
    migrated.execute(
        f"CREATE SERVER there FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{host}', port '{port}',"
        f" dbname '{migrated.info.dbname}');"
        f"CREATE USER MAPPING FOR CURRENT_USER SERVER there OPTIONS (user '{migrated.info.user}')".encode()
    )
    return True


M = Source("m", "public", "m", ("id",), ("body",))
FOREIGN_CHILD = """CREATE FOREIGN TABLE m_old (id int NOT NULL, body text) INHERITS (m)
                   SERVER there OPTIONS (table_name 'elsewhere')"""


@pytest.mark.usefixtures("foreign")
def test_a_table_with_a_foreign_one_below_is_refused_by_one_line(migrated: Connection) -> None:
    migrated.execute(FOREIGN_CHILD)
    migrated.execute("CREATE TABLE p (id int, body text) PARTITION BY RANGE (id)")
    migrated.execute("CREATE TABLE p_0 PARTITION OF p FOR VALUES FROM (0) TO (9) PARTITION BY RANGE (id)")
    migrated.execute("CREATE FOREIGN TABLE p_00 PARTITION OF p_0 FOR VALUES FROM (0) TO (5) SERVER there")
    with pytest.raises(UsageError, match=r"the foreign table public\.m_old is below public\.m: .* or make the"):
        attach(migrated, M)
    assert [
        str(each) for each in tree(migrated, Source("p", "public", "p", ("id",), ("body",))) if each.is_foreign
    ] == ["public.p_00"], "no key can be unique there, which is refused before"
    assert (
        migrated.execute("SELECT tgrelid::regclass FROM pg_trigger WHERE tgname LIKE 'reindexer_m_%'").fetchall() == []
    )


def test_where_a_foreign_table_comes_below_the_watch_takes_the_triggers_off_and_puts_them_back_when_it_is_gone(
    migrated: Connection, empty_url: str, foreign: bool
) -> None:
    attach(migrated, M)
    watch = Watch(lambda: connect(empty_url, application_name="watch"), 0.0)
    migrated.execute(FOREIGN_CHILD)
    if foreign:
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="transition"):
            migrated.execute("UPDATE m SET body = body || '!'")
    watch.look(migrated)
    if foreign:
        migrated.execute("UPDATE m SET body = body || '!'")
        migrated.execute("DELETE FROM m WHERE id = 2")
    migrated.execute("INSERT INTO m VALUES (3, 'c')")
    changes(migrated)
    found = inspect(migrated, M)
    assert "the foreign table public.m_old is below" in str(found.problem)
    assert (found.triggers, found.unbearable) == ("missing", False)
    watch.look(migrated)
    migrated.execute("UPDATE reindexer.run SET state = 'finished', finished_at = now()")
    migrated.execute("ALTER FOREIGN TABLE m_old NO INHERIT m")
    watch.look(migrated)
    assert inspect(migrated, M).well
    assert migrated.execute("SELECT source, kind, state FROM reindexer.run WHERE finished_at IS NULL").fetchall() == [
        ("m", "whole_source", "rows")
    ]
    migrated.execute("UPDATE m SET body = 'recorded' WHERE id = 3")
    assert changes(migrated) == ["3"]


def test_a_temporary_table_below_of_some_session_is_no_part_of_a_source(migrated: Connection, empty_url: str) -> None:
    migrated.execute("CREATE TABLE m (id int PRIMARY KEY, body text)")
    attach(migrated, M)
    watch = Watch(lambda: connect(empty_url, application_name="watch"), 0.0)
    with connect(empty_url, application_name="its session") as session:
        session.execute("CREATE TEMP TABLE below (PRIMARY KEY (id)) INHERITS (m)")
        session.execute("INSERT INTO below VALUES (1, 'a')")
        watch.look(migrated)
        assert inspect(migrated, M).well
        session.execute("UPDATE m SET body = 'b'")
        session.execute("DELETE FROM m")
    assert inspect(migrated, M).well


def test_installing_triggers_gives_up_its_lock_while_a_transaction_holds_the_table(
    migrated: Connection, empty_url: str
) -> None:
    migrated.execute("CREATE TABLE busy (id int PRIMARY KEY, body text)")
    source = Source("busy", "public", "busy", ("id",), ("body",))
    with (
        connect(empty_url, application_name="holder") as holder,
        connect(empty_url, application_name="writer") as writer,
    ):
        writer.execute("SET statement_timeout = '2s'")
        with ThreadPoolExecutor(1) as pool, holder.transaction():
            holder.execute("INSERT INTO busy VALUES (0, 'x')")
            installing = pool.submit(triggers.install, migrated, source, give_up_after_s=3.0)
            written = 0
            while not installing.done():  # behind each try of it, writers pass
                written += 1
                writer.execute("INSERT INTO busy VALUES (%s, 'y')", [written])
            with pytest.raises(Exception, match="other transactions held"):
                installing.result()
        assert written > 1
        triggers.install(migrated, source)
    assert triggers.lacking(relations(migrated, source)) == []


def test_lacking_names_tables_whose_triggers_are_gone_or_disabled(migrated: Connection) -> None:
    assert triggers.lacking(relations(migrated, CONTEXT_ITEMS)) == []
    migrated.execute("ALTER TABLE context_items DISABLE TRIGGER reindexer_context_items_update")
    assert len(triggers.lacking(relations(migrated, CONTEXT_ITEMS))) == 1
    assert attach(migrated, CONTEXT_ITEMS).changed
    assert triggers.lacking(relations(migrated, CONTEXT_ITEMS)) == []
    assert not attach(migrated, CONTEXT_ITEMS).changed


@pytest.mark.alone
def test_a_large_update_after_a_one_row_update_costs_at_most_two_and_a_half_times(
    versioned_server: EmbeddedPostgres, migrated: Connection
) -> None:
    """In one session: plpgsql must not join 20,000 rows with the plan of one."""
    migrated.execute("SET statement_timeout = '15s'")
    migrated.execute("CREATE TABLE plain (LIKE context_items INCLUDING ALL)")
    for table in ("context_items", "plain"):
        migrated.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)".encode())
        migrated.execute(
            f"INSERT INTO {table} (content) SELECT repeat('some text ', 20) || n FROM generate_series(1, 20000) n".encode()
        )

    def update(table: str) -> float:
        migrated.execute(f"UPDATE {table} SET title = 'x' WHERE id = (SELECT id FROM {table} LIMIT 1)".encode())
        started = time.perf_counter()
        migrated.execute(f"UPDATE {table} SET content = content || '.'".encode())
        spent = time.perf_counter() - started
        migrated.execute("TRUNCATE reindexer.outbox")
        migrated.execute(f"VACUUM {table}".encode())
        return spent

    ratio = median_ratio(lambda: update("context_items"), lambda: update("plain"))
    print(f"20,000-row UPDATE, with triggers / without: {ratio:.2f}")
    assert ratio <= 2.5
