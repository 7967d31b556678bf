-- What the guarantees need under faults: breakers, second looks after doubtful deletes, an audit, counters for /metrics.

CREATE TABLE reindexer.breaker (
    dependency text PRIMARY KEY,
    failures   integer NOT NULL,
    reason     text NOT NULL,
    failed_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    opened_at  timestamptz,
    probe_at   timestamptz,
    wait_s     double precision NOT NULL DEFAULT 0
);
COMMENT ON TABLE reindexer.breaker IS 'Dependencies (provider, Qdrant) that do not answer: a row from the first failure on until the next success.';
COMMENT ON COLUMN reindexer.breaker.opened_at IS 'NULL: failures are counted, but work goes on.';
COMMENT ON COLUMN reindexer.breaker.probe_at IS 'When the next single probe may be claimed.';

ALTER TABLE reindexer.due ADD COLUMN losses integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN reindexer.due.losses IS 'Claims of it that were lost since it became due; above 0 it is claimed alone.';
ALTER TABLE reindexer.ledger
    ADD COLUMN losses     integer NOT NULL DEFAULT 0,
    ADD COLUMN doubted_at timestamptz,
    ADD COLUMN recheck_at timestamptz;
CREATE INDEX ledger_recheck ON reindexer.ledger (recheck_at) WHERE recheck_at IS NOT NULL;
COMMENT ON COLUMN reindexer.ledger.losses IS 'FAILED: claims that were lost before. Above 0 it is claimed alone.';
COMMENT ON COLUMN reindexer.ledger.doubted_at IS 'When it was last settled after a claim without certain outcome, whose late write may still come.';
COMMENT ON COLUMN reindexer.ledger.recheck_at IS 'No point may be there, but a late write may make one: when it is looked at again.';

-- Answers that the result backend may not know: it was away, or who should have told it died.
ALTER TABLE reindexer.request ADD COLUMN told_at timestamptz;
UPDATE reindexer.request SET told_at = finished_at WHERE finished_at IS NOT NULL;
CREATE INDEX request_untold ON reindexer.request (finished_at) WHERE told_at IS NULL AND finished_at IS NOT NULL;
COMMENT ON COLUMN reindexer.request.told_at IS 'When its outcome was stored under its task id, where AsyncResult finds it.';

-- Dead letters, page by page, by key.
CREATE INDEX ledger_dead_letters ON reindexer.ledger (source, item_id) WHERE outcome = 'FAILED';

CREATE TABLE reindexer.audit (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    who     text NOT NULL,
    action  text NOT NULL,
    source  text,
    details jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE reindexer.audit IS 'One row for each admin action, by API or command line. Never holds text or keys.';

-- Ages that do not lie: a change counts from its commit until it is in Qdrant, wherever it waits.
ALTER TABLE reindexer.due
    ALTER COLUMN changed_at DROP NOT NULL,
    ALTER COLUMN changed_at DROP DEFAULT,
    ADD COLUMN later_changed_at timestamptz;
COMMENT ON COLUMN reindexer.due.changed_at IS 'The oldest change that is not in Qdrant yet; NULL: none, it is to be looked at or embedded anew.';
COMMENT ON COLUMN reindexer.due.later_changed_at IS 'While claimed: the first change that the claim may not have seen.';
ALTER TABLE reindexer.ledger ADD COLUMN changed_at timestamptz;
COMMENT ON COLUMN reindexer.ledger.changed_at IS 'FAILED: the oldest change that is not in Qdrant.';
ALTER TABLE reindexer.run ADD COLUMN changed_at timestamptz;
COMMENT ON COLUMN reindexer.run.changed_at IS 'The oldest change that it brings to Qdrant; NULL: of a backfill none, of other runs their start.';

-- Fixed slots instead of a row for each process: no process has to be missed, and sums never fall.
CREATE TABLE reindexer.counter (
    name     text NOT NULL,
    labels   text NOT NULL,
    slot     smallint NOT NULL,
    value    double precision NOT NULL,
    added_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, labels, slot)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
COMMENT ON TABLE reindexer.counter IS 'What processes have counted: each adds up in memory, and adds it here every few seconds. /metrics sums the slots.';
COMMENT ON COLUMN reindexer.counter.labels IS 'A JSON object with sorted keys. Never holds text or ids.';

ALTER TABLE reindexer.process ADD COLUMN leads boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN reindexer.process.leads IS 'A listener behind a pooler: it drains without the leader''s lock, which it could not hold.';

ALTER TABLE reindexer.source ADD COLUMN facts jsonb NOT NULL DEFAULT '{}';
COMMENT ON COLUMN reindexer.source.facts IS 'Hashes of what changes are recorded by (tables, declared columns, triggers, functions), as last put in order.';

ALTER TABLE reindexer.source ADD COLUMN collection_id text;
COMMENT ON COLUMN reindexer.source.collection_id IS 'The id that the collection in Qdrant got when it was made: another one there means that all points were lost.';
