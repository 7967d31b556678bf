-- A source's definition as one document. What is as by default is left out of it.

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
