-- The life of a generation: it is filled, becomes ready, is promoted, stays as a way back, and is dropped.

ALTER TABLE reindexer.generation
    ADD COLUMN facts jsonb,
    ADD COLUMN activated_at timestamptz,
    ADD COLUMN retired_at timestamptz,
    ADD COLUMN standby_until timestamptz,
    ADD COLUMN live_until timestamptz,
    ADD COLUMN servers text[] NOT NULL DEFAULT '{}',
    ADD COLUMN emptied_at timestamptz,
    ADD COLUMN removed_at timestamptz;
UPDATE reindexer.generation SET activated_at = created_at WHERE state = 'active';
COMMENT ON COLUMN reindexer.generation.facts IS 'What its rows were last seen to be read by; of the one that searches use source.facts has it.';
COMMENT ON COLUMN reindexer.generation.activated_at IS 'When searches came to use it, the last time.';
COMMENT ON COLUMN reindexer.generation.retired_at IS 'When searches ceased to use it, the last time.';
COMMENT ON COLUMN reindexer.generation.standby_until IS 'When a standby is dropped by itself. NULL: never.';
COMMENT ON COLUMN reindexer.generation.live_until IS 'Until then each change is in its own lane for it too: a promotion waits for it to be up to date.';
COMMENT ON COLUMN reindexer.generation.servers IS 'Addresses of its provider that were shown to make the same vectors.';
COMMENT ON COLUMN reindexer.generation.emptied_at IS 'Of a dropped one: no record of its items is left.';
COMMENT ON COLUMN reindexer.generation.removed_at IS 'Of a dropped one: its collection is gone.';

ALTER TABLE reindexer.run DROP CONSTRAINT run_kind_check,
    ADD CONSTRAINT run_kind_check CHECK (kind IN ('first_fill', 'whole_source', 'backfill', 'rebuild'));

-- Whoever could note a generation's problem can move it through its life; the listener also deletes what is left of it, and
-- says so in the audit.
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS role, attrelid, attname
        FROM pg_attribute, aclexplode(attacl)
        WHERE privilege_type = 'UPDATE' AND (attrelid, attname) IN
            (('reindexer.generation'::regclass, 'problem'), ('reindexer.source'::regclass, 'facts'))
    LOOP
        IF granted.attname = 'problem' THEN
            -- guard generation-grants-life
            EXECUTE format('GRANT UPDATE (state, facts, live_until, standby_until, emptied_at, removed_at, servers) '
                           'ON reindexer.generation TO %s', granted.role);
        ELSE
            EXECUTE format('GRANT DELETE ON reindexer.due TO %s', granted.role); -- guard generation-grants-listener
            EXECUTE format('GRANT INSERT ON reindexer.audit TO %s', granted.role);
        END IF;
    END LOOP;
END $$;
