-- A source's definition as one document, what is as by default left out of it; and what is true of one generation only, in
-- a row of that generation.

ALTER TABLE reindexer.source ADD COLUMN definition jsonb;
UPDATE reindexer.source SET definition = jsonb_strip_nulls(jsonb_build_object(
    'table_schema', table_schema,
    'table_name', table_name,
    'key_columns', key_columns,
    'text_columns', text_columns,
    'payload_columns', nullif(payload_columns, '{}'),
    'template', template,
    'condition', condition,
    'condition_columns', nullif(condition_columns, '{}'),
    'resolved_condition', resolved_condition,
    'condition_objects', nullif(condition_objects, '{}'),
    'chunk_tokens', chunk_tokens,
    'chunk_overlap', nullif(chunk_overlap, 0),
    'tenant_column', tenant_column
)) || CASE WHEN profile = '{}' THEN '{}' ELSE jsonb_build_object('profile', profile) END; -- guard definition-carried-over
COMMENT ON COLUMN reindexer.source.definition IS 'What of which table is indexed, and how; without what is as by default. The program alone writes it.';

-- The former columns follow the document until the next revision drops them: an API of the version before answers
-- searches by them, until it is restarted.
CREATE FUNCTION reindexer.text_array(list jsonb) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ARRAY(SELECT jsonb_array_elements_text(list))
$$;
COMMENT ON FUNCTION reindexer.text_array(jsonb) IS 'For columns that only the version before reads.';
ALTER TABLE reindexer.source
    ALTER COLUMN definition SET NOT NULL,
    DROP COLUMN table_schema, DROP COLUMN table_name, DROP COLUMN key_columns, DROP COLUMN text_columns,
    DROP COLUMN payload_columns, DROP COLUMN template, DROP COLUMN condition, DROP COLUMN condition_columns,
    DROP COLUMN resolved_condition, DROP COLUMN condition_objects, DROP COLUMN chunk_tokens, DROP COLUMN chunk_overlap,
    DROP COLUMN tenant_column, DROP COLUMN profile;
ALTER TABLE reindexer.source
    ADD COLUMN table_schema text GENERATED ALWAYS AS (definition ->> 'table_schema') STORED,
    ADD COLUMN table_name text GENERATED ALWAYS AS (definition ->> 'table_name') STORED,
    ADD COLUMN key_columns text[] GENERATED ALWAYS AS (reindexer.text_array(definition -> 'key_columns')) STORED,
    ADD COLUMN text_columns text[] GENERATED ALWAYS AS (reindexer.text_array(definition -> 'text_columns')) STORED,
    ADD COLUMN payload_columns text[] GENERATED ALWAYS AS (reindexer.text_array(definition -> 'payload_columns')) STORED,
    ADD COLUMN template text GENERATED ALWAYS AS (definition ->> 'template') STORED,
    ADD COLUMN condition text GENERATED ALWAYS AS (definition ->> 'condition') STORED,
    ADD COLUMN condition_columns text[] GENERATED ALWAYS AS (reindexer.text_array(definition -> 'condition_columns')) STORED,
    ADD COLUMN resolved_condition text GENERATED ALWAYS AS (definition ->> 'resolved_condition') STORED,
    ADD COLUMN condition_objects text[] GENERATED ALWAYS AS (reindexer.text_array(definition -> 'condition_objects')) STORED,
    ADD COLUMN chunk_tokens integer GENERATED ALWAYS AS ((definition ->> 'chunk_tokens')::integer) STORED,
    ADD COLUMN chunk_overlap integer GENERATED ALWAYS AS (coalesce((definition ->> 'chunk_overlap')::integer, 0)) STORED,
    ADD COLUMN tenant_column text GENERATED ALWAYS AS (definition ->> 'tenant_column') STORED,
    -- guard definition-readable-by-older
    ADD COLUMN profile jsonb GENERATED ALWAYS AS (coalesce(definition -> 'profile', '{}')) STORED;

-- A generation: one collection of a source. A fault of one, of its provider or of its definition, never stops another.
CREATE TABLE reindexer.generation (
    source        text NOT NULL REFERENCES reindexer.source (name) ON DELETE CASCADE,
    number        integer NOT NULL CHECK (number > 0),
    state         text NOT NULL DEFAULT 'active'
        CHECK (state IN ('filling', 'ready', 'active', 'standby', 'broken', 'dropped')),
    definition    jsonb NOT NULL,
    embedder      text,
    account       text NOT NULL DEFAULT '',
    collection_id text,
    problem       text,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (source, number)
);
COMMENT ON TABLE reindexer.generation IS 'Collections of a source. source.generation is the number of the one that searches use.';
CREATE UNIQUE INDEX generation_active ON reindexer.generation (source) WHERE state = 'active';
COMMENT ON COLUMN reindexer.generation.state IS 'filling, ready, active and standby get every change; what is broken or dropped gets none.';
COMMENT ON COLUMN reindexer.generation.definition IS 'The definition that it is filled by. Of the one that searches use also in source.definition.';
COMMENT ON COLUMN reindexer.generation.embedder IS 'The embedder that its points are made by (provider, model, dimensions); no other writes or searches them. NULL: none is made yet.';
COMMENT ON COLUMN reindexer.generation.account IS 'The account of its provider, as it was when that last did not answer.';
COMMENT ON COLUMN reindexer.generation.collection_id IS 'The id that the collection in Qdrant got when it was made: another one there means that all points were lost.';
COMMENT ON COLUMN reindexer.generation.problem IS 'Why the generation as a whole can''t be worked on; its items wait.';
INSERT INTO reindexer.generation (source, number, definition, embedder, account, collection_id, problem, created_at)
-- guard generation-carried-over
SELECT name, generation, definition, embedder, account, collection_id, problem, attached_at FROM reindexer.source;

-- Whoever could read or write a source's facts can read or write a generation's.
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS role, privilege_type AS may
        FROM pg_class, aclexplode(relacl) WHERE pg_class.oid = 'reindexer.source'::regclass
    LOOP
        EXECUTE format('GRANT %s ON reindexer.generation TO %s', granted.may, granted.role);
    END LOOP;
    FOR granted IN
        SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS role, privilege_type AS may, attname
        FROM pg_attribute, aclexplode(attacl)
        WHERE attrelid = 'reindexer.source'::regclass AND attname = ANY ('{embedder,account,collection_id,problem}')
    LOOP
        EXECUTE format('GRANT %s (%I) ON reindexer.generation TO %s', granted.may, granted.attname, granted.role);
    END LOOP;
END $$;

-- The former columns of `source` follow the generation that searches use until the next revision drops them: an API of the
-- version before reads them, and its workers until they end. Whoever locks rows of both locks the generation first.
CREATE FUNCTION reindexer.copy_to_source() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE reindexer.source SET definition = NEW.definition, embedder = NEW.embedder, account = NEW.account,
        collection_id = NEW.collection_id, problem = NEW.problem
    WHERE name = NEW.source AND generation = NEW.number -- guard generation-readable-by-older
        AND (definition, embedder, account, collection_id, problem) IS DISTINCT FROM
            (NEW.definition, NEW.embedder, NEW.account, NEW.collection_id, NEW.problem);
    RETURN NULL;
END $$;
COMMENT ON FUNCTION reindexer.copy_to_source() IS 'A source''s definition is that of the generation that searches use; the other columns only the version before reads.';
REVOKE EXECUTE ON FUNCTION reindexer.copy_to_source() FROM PUBLIC; -- guard generation-mirror-private
CREATE TRIGGER copy_to_source AFTER INSERT OR UPDATE OF definition, embedder, account, collection_id, problem
ON reindexer.generation FOR EACH ROW EXECUTE FUNCTION reindexer.copy_to_source();

-- Whose outcome answers a request, and whose items a run makes due.
ALTER TABLE reindexer.request ADD COLUMN generation integer NOT NULL DEFAULT 1;
ALTER TABLE reindexer.run ADD COLUMN generation integer;
COMMENT ON COLUMN reindexer.request.generation IS 'The generation in which the item is to be embedded; no other generation''s outcome answers the request.';
ALTER TABLE reindexer.run
    ADD FOREIGN KEY (source, generation) REFERENCES reindexer.generation (source, number) ON DELETE CASCADE;
COMMENT ON COLUMN reindexer.run.generation IS 'The generation whose items it makes due. NULL: every one, as a look at the whole source does.';

-- Whoever looks for what is ready reads one generation: another's backlog, however long, costs nothing.
DROP INDEX reindexer.due_ready;
DROP INDEX reindexer.due_marked;
CREATE INDEX due_ready ON reindexer.due (source, generation, lane, not_before) WHERE NOT marked;
CREATE INDEX due_marked ON reindexer.due (source, generation, lane, not_before) WHERE marked;
