-- What the page draws: a row a minute of each source, and of all together.
CREATE TABLE reindexer.history (
    source   text NOT NULL,
    minute   timestamptz NOT NULL,
    taken_at timestamptz NOT NULL,
    waiting  bigint NOT NULL,
    failed   bigint NOT NULL,
    oldest_s double precision NOT NULL,
    counted  jsonb NOT NULL,
    PRIMARY KEY (source, minute)
);
COMMENT ON TABLE reindexer.history IS 'What waited, what had failed and what had been counted, minute by minute. The leading listener writes it, and keeps it for a week.';
COMMENT ON COLUMN reindexer.history.source IS 'Empty: all sources together.';
COMMENT ON COLUMN reindexer.history.minute IS 'When it began, by the clock of Postgres.';
COMMENT ON COLUMN reindexer.history.waiting IS 'Items that are due; of all sources together, with the changes in the outbox.';
COMMENT ON COLUMN reindexer.history.oldest_s IS 'Since the commit of the oldest change that was not in Qdrant. 0: there was none.';
COMMENT ON COLUMN reindexer.history.counted IS 'Sums since the installation. Never holds text or ids.';

-- The listener, which alone deletes answered requests, writes it. Who may look for keys, the API, reads it.
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS role,
               CASE privilege_type WHEN 'DELETE' THEN 'SELECT, INSERT, DELETE' ELSE 'SELECT' END AS rights
        FROM pg_class, aclexplode(relacl)
        WHERE (pg_class.oid = 'reindexer.request'::regclass AND privilege_type = 'DELETE')
            OR (pg_class.oid = 'reindexer.api_key'::regclass AND privilege_type = 'SELECT')
    LOOP
        EXECUTE format('GRANT %s ON reindexer.history TO %s', granted.rights, granted.role);
    END LOOP;
END $$;
