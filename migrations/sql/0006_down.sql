-- A source's definition as columns again. What only a newer version knows is lost.

ALTER TABLE reindexer.source
    ALTER COLUMN table_schema DROP EXPRESSION,
    ALTER COLUMN table_name DROP EXPRESSION,
    ALTER COLUMN key_columns DROP EXPRESSION,
    ALTER COLUMN text_columns DROP EXPRESSION,
    ALTER COLUMN payload_columns DROP EXPRESSION,
    ALTER COLUMN template DROP EXPRESSION,
    ALTER COLUMN condition DROP EXPRESSION,
    ALTER COLUMN condition_columns DROP EXPRESSION,
    ALTER COLUMN resolved_condition DROP EXPRESSION,
    ALTER COLUMN condition_objects DROP EXPRESSION,
    ALTER COLUMN chunk_tokens DROP EXPRESSION,
    ALTER COLUMN chunk_overlap DROP EXPRESSION,
    ALTER COLUMN tenant_column DROP EXPRESSION,
    ALTER COLUMN profile DROP EXPRESSION,
    ALTER COLUMN table_schema SET NOT NULL,
    ALTER COLUMN table_name SET NOT NULL,
    ALTER COLUMN key_columns SET NOT NULL,
    ALTER COLUMN text_columns SET NOT NULL,
    ALTER COLUMN payload_columns SET NOT NULL,
    ALTER COLUMN condition_columns SET NOT NULL,
    ALTER COLUMN condition_objects SET NOT NULL,
    ALTER COLUMN chunk_overlap SET NOT NULL,
    ALTER COLUMN profile SET NOT NULL,
    ALTER COLUMN payload_columns SET DEFAULT '{}',
    ALTER COLUMN condition_columns SET DEFAULT '{}',
    ALTER COLUMN condition_objects SET DEFAULT '{}',
    ALTER COLUMN profile SET DEFAULT '{}',
    ALTER COLUMN chunk_overlap SET DEFAULT 0,
    ADD CHECK (chunk_tokens > 0),
    ADD CHECK (chunk_overlap >= 0),
    DROP COLUMN definition;
DROP FUNCTION reindexer.text_array(jsonb);

-- What is known of the generation that searches use, as columns of the source again. What belongs to others is lost.
DELETE FROM reindexer.due USING reindexer.source WHERE name = due.source AND due.generation <> source.generation;
DELETE FROM reindexer.ledger USING reindexer.source WHERE name = ledger.source AND ledger.generation <> source.generation;
DELETE FROM reindexer.request USING reindexer.source WHERE name = request.source AND request.generation <> source.generation;
DELETE FROM reindexer.run USING reindexer.source WHERE name = run.source AND run.generation <> source.generation;
DROP TRIGGER copy_to_source ON reindexer.generation;
DROP FUNCTION reindexer.copy_to_source();
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS role, privilege_type AS may, attname
        FROM pg_attribute, aclexplode(attacl)
        WHERE attrelid = 'reindexer.generation'::regclass AND attname = ANY ('{embedder,account,collection_id,problem}')
    LOOP
        EXECUTE format('GRANT %s (%I) ON reindexer.source TO %s', granted.may, granted.attname, granted.role);
    END LOOP;
END $$;
DROP INDEX reindexer.due_ready;
DROP INDEX reindexer.due_marked;
CREATE INDEX due_ready ON reindexer.due (source, lane, not_before) WHERE NOT marked;
CREATE INDEX due_marked ON reindexer.due (source, lane, not_before) WHERE marked;
ALTER TABLE reindexer.run DROP COLUMN generation;
ALTER TABLE reindexer.request DROP COLUMN generation;
DROP TABLE reindexer.generation;
