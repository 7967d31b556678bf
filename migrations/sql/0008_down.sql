-- Triggers of related tables go with their functions. What they recorded becomes one look at each source.
DO $$
DECLARE
    function regprocedure;
BEGIN
    FOR function IN
        SELECT oid::regprocedure FROM pg_proc
        WHERE pronamespace = 'reindexer'::regnamespace AND prorettype = 'trigger'::regtype AND strpos(proname, ':') > 0
    LOOP
        EXECUTE format('DROP FUNCTION %s CASCADE', function);
    END LOOP;
END $$;
INSERT INTO reindexer.outbox (source, changed_at)
SELECT source, min(changed_at) FROM (
    SELECT source, changed_at FROM reindexer.outbox WHERE related IS NOT NULL
    UNION ALL SELECT source, changed_at FROM reindexer.fan_out) AS waiting
GROUP BY source;
DELETE FROM reindexer.outbox WHERE related IS NOT NULL;
DROP TABLE reindexer.fan_out;
ALTER TABLE reindexer.outbox DROP COLUMN related;
