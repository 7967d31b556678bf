-- Which trace a run belongs to; workers read which one a marked transaction belongs to.
ALTER TABLE reindexer.run ADD COLUMN traceparent text;
COMMENT ON COLUMN reindexer.run.traceparent IS 'The span in which it was started, as W3C''s Trace Context names it. NULL: none.';

-- Whoever settles items reads in which traces they were written: not the secret of a token.
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS role
        FROM pg_class, aclexplode(relacl)
        WHERE pg_class.oid = 'reindexer.note'::regclass AND privilege_type = 'UPDATE'
    LOOP
        EXECUTE format('GRANT SELECT (xact, traceparent) ON reindexer.mark TO %s', granted.role);
    END LOOP;
END $$;
