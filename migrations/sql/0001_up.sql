-- The change path's tables. The triggers on the users' tables are made per source by `reindexer migrate`
-- (reindexer/postgres/sql/triggers.sql), because they follow each source's definition.

CREATE TABLE reindexer.source (
    name            text PRIMARY KEY,
    table_schema    text NOT NULL,
    table_name      text NOT NULL,
    table_oid       oid,
    key_columns     text[] NOT NULL,
    text_columns    text[] NOT NULL,
    payload_columns text[] NOT NULL DEFAULT '{}',
    alias           text NOT NULL UNIQUE,
    generation      integer NOT NULL DEFAULT 1,
    definition_hash text NOT NULL,
    paused          boolean NOT NULL DEFAULT false,
    problem         text,
    attached_at     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE reindexer.source IS 'Tables that are kept indexed.';
COMMENT ON COLUMN reindexer.source.table_oid IS 'The table that the triggers were put on; another OID means that it was dropped and made anew.';
COMMENT ON COLUMN reindexer.source.problem IS 'Why the source as a whole can''t be worked on; its items wait.';

-- Append-only: writers never update or wait for a row of ours. No key and no index, because every writer would pay for
-- them (they are two thirds of the cost of such a row) and the drain needs none. A publication FOR ALL TABLES needs to
-- know which row was deleted, though: all its columns tell.
CREATE TABLE reindexer.outbox (
    source     text NOT NULL,
    item_id    text,
    lane       text NOT NULL DEFAULT 'live',
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
ALTER TABLE reindexer.outbox REPLICA IDENTITY FULL;
COMMENT ON TABLE reindexer.outbox IS 'Changes that wait to be drained. Never holds text.';
COMMENT ON COLUMN reindexer.outbox.item_id IS 'NULL: look at the whole source.';

CREATE TABLE reindexer.due (
    source         text NOT NULL,
    item_id        text NOT NULL,
    generation     integer NOT NULL,
    lane           text NOT NULL CHECK (lane IN ('live', 'bulk')),
    version        bigint NOT NULL DEFAULT 1,
    forced_version bigint,
    attempts       integer NOT NULL DEFAULT 0,
    not_before     timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease_until    timestamptz,
    token          bigint,
    doubtful       boolean NOT NULL DEFAULT false,
    waits_for      text,
    changed_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    run_id         bigint,
    PRIMARY KEY (source, item_id, generation)
);
CREATE INDEX due_ready ON reindexer.due (source, lane, not_before);
CREATE INDEX due_run ON reindexer.due (run_id) WHERE run_id IS NOT NULL;
COMMENT ON TABLE reindexer.due IS 'Items that need work; a row is deleted when it is settled.';
COMMENT ON COLUMN reindexer.due.version IS 'Counts changes: settling deletes the row only if it is as it was when claimed.';
COMMENT ON COLUMN reindexer.due.forced_version IS 'The version at which a new embedding was asked for although the text may be unchanged.';
COMMENT ON COLUMN reindexer.due.not_before IS 'When it may be claimed: the end of a wait or, while claimed, of the lease.';
COMMENT ON COLUMN reindexer.due.lease_until IS 'NULL while unclaimed.';
COMMENT ON COLUMN reindexer.due.token IS 'Highest fencing number that was used or seen for the item; while claimed, the claim''s.';
COMMENT ON COLUMN reindexer.due.run_id IS 'The run that queued it and counts it as left; claims and settles leave it alone.';

CREATE TABLE reindexer.ledger (
    source              text NOT NULL,
    item_id             text NOT NULL,
    generation          integer NOT NULL,
    outcome             text NOT NULL CHECK (outcome IN ('COMPLETED', 'FAILED', 'DELETED')),
    text_fingerprint    text,
    payload_fingerprint text,
    chunks              integer NOT NULL DEFAULT 0,
    token               bigint NOT NULL,
    attempts            integer NOT NULL DEFAULT 0,
    error               text,
    heal_at             timestamptz,
    healed              integer NOT NULL DEFAULT 0,
    indexed_at          timestamptz,
    settled_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (source, item_id, generation)
);
CREATE INDEX ledger_failed ON reindexer.ledger (source, heal_at) WHERE outcome = 'FAILED';
CREATE INDEX ledger_deleted ON reindexer.ledger (settled_at) WHERE outcome = 'DELETED';
COMMENT ON TABLE reindexer.ledger IS 'What is known of each item: the last certain outcome.';
COMMENT ON COLUMN reindexer.ledger.text_fingerprint IS 'NULL: what lies in Qdrant is not known, so nothing may be skipped.';
COMMENT ON COLUMN reindexer.ledger.token IS 'Highest token that was used or seen for the item.';
COMMENT ON COLUMN reindexer.ledger.heal_at IS 'FAILED for a passing cause: when it is tried again.';

CREATE TABLE reindexer.request (
    task_id     text PRIMARY KEY,
    source      text NOT NULL,
    item_id     text NOT NULL,
    due_version bigint NOT NULL,
    succeeded   boolean,
    error       text,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    sent_at     timestamptz,
    finished_at timestamptz
);
CREATE INDEX request_item ON reindexer.request (source, item_id, created_at);
CREATE INDEX request_unsent ON reindexer.request (created_at) WHERE sent_at IS NULL AND finished_at IS NULL;
CREATE INDEX request_finished ON reindexer.request (finished_at);
COMMENT ON TABLE reindexer.request IS 'Wishes of the bulk endpoint and of regenerate_embedding_task: one task id each.';

CREATE TABLE reindexer.run (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source            text NOT NULL REFERENCES reindexer.source (name) ON DELETE CASCADE,
    kind              text NOT NULL CHECK (kind IN ('first_fill', 'whole_source', 'backfill')),
    state             text NOT NULL DEFAULT 'rows'
        CHECK (state IN ('rows', 'ledger', 'working', 'finished', 'cancelled', 'failed')),
    condition         text,
    force             boolean NOT NULL DEFAULT false,
    cursor            text,
    total             bigint,
    total_is_estimate boolean NOT NULL DEFAULT true,
    queued            bigint NOT NULL DEFAULT 0,
    error             text,
    not_before        timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    paused_at         timestamptz,
    paused_s          double precision NOT NULL DEFAULT 0,
    finished_at       timestamptz
);
-- By kind: a change of the whole source must not be narrowed by the condition of a backfill that happens to be open.
CREATE UNIQUE INDEX run_open ON reindexer.run (source, kind) WHERE finished_at IS NULL;
COMMENT ON TABLE reindexer.run IS 'Keyset-paged runs over a source: every row; where it is not a backfill, then every item that the ledger knows.';
COMMENT ON COLUMN reindexer.run.state IS 'working: all pages are queued, and some of their items are still due.';
COMMENT ON COLUMN reindexer.run.condition IS 'Which rows an administrator wants: a boolean SQL expression. NULL: all.';
COMMENT ON COLUMN reindexer.run.cursor IS 'The last item id that was looked at.';
COMMENT ON COLUMN reindexer.run.not_before IS 'No page before: its source could not be read.';
COMMENT ON COLUMN reindexer.run.paused_s IS 'Seconds that earlier pauses took.';

CREATE TABLE reindexer.process (
    name    text PRIMARY KEY,
    role    text NOT NULL,
    host    text NOT NULL,
    version text NOT NULL,
    beat_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE reindexer.process IS 'Listeners and workers. A worker''s beat is a message that it really took from the broker and ran.';

-- Hot tables turn over completely all day: vacuum them by count, not by share, and without resting.
ALTER TABLE reindexer.outbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000);
ALTER TABLE reindexer.due SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000);

CREATE VIEW reindexer.item_status AS
SELECT coalesce(due.source, ledger.source) AS source,
       coalesce(due.item_id, ledger.item_id) AS item_id,
       CASE
           WHEN due.lease_until > clock_timestamp() THEN 'PROCESSING'
           WHEN due.item_id IS NOT NULL THEN 'PENDING'
           ELSE ledger.outcome
       END AS status,
       coalesce(due.waits_for, ledger.error) AS error,
       coalesce(due.attempts, ledger.attempts) AS attempts,
       ledger.indexed_at,
       due.changed_at,
       CASE WHEN due.item_id IS NOT NULL THEN due.not_before ELSE ledger.heal_at END AS next_try_at
FROM reindexer.due
FULL JOIN reindexer.ledger USING (source, item_id, generation)
JOIN reindexer.source ON source.name = coalesce(due.source, ledger.source)
    AND source.generation = coalesce(due.generation, ledger.generation)
WHERE due.item_id IS NOT NULL OR ledger.outcome <> 'DELETED';
COMMENT ON VIEW reindexer.item_status IS 'For applications: what became of each item. Grant SELECT on it, and USAGE on the schema.';
