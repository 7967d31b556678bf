-- What was found from outside.

-- A text that the provider finds too long is cut smaller, by all processes in the same way.
ALTER TABLE reindexer.due ADD COLUMN chunk_tokens integer;
ALTER TABLE reindexer.ledger ADD COLUMN chunk_tokens integer;
COMMENT ON COLUMN reindexer.due.chunk_tokens IS 'As in the ledger, since it became due.';
COMMENT ON COLUMN reindexer.ledger.chunk_tokens IS 'A chunk of the item was too long for the provider: none may hold more tokens, by estimate. NULL: as many as its source allows.';

-- Vectors of two models never meet: who makes a source's is written down once, and outlives a lost collection.
ALTER TABLE reindexer.source ADD COLUMN embedder text;
COMMENT ON COLUMN reindexer.source.embedder IS 'The embedder that its points are made by (provider, model, dimensions); no other writes or searches them. NULL: none is made yet.';

-- Until now rows were read as the session was set by database, role or environment; from now on they are as in UTC, in
-- ISO and so on. Where that was another way, and a source's columns or its condition may read otherwise by it, all its
-- rows are looked at once: a payload that differs is written again without an embedding, a text is embedded anew.
WITH was AS MATERIALIZED (
    SELECT name, reset_val FROM pg_settings
    WHERE (name = 'TimeZone' AND reset_val NOT IN ('UTC', 'Etc/UTC', 'UCT', 'Etc/UCT', 'GMT', 'Etc/GMT', 'Zulu', 'Universal'))
       OR (name = 'DateStyle' AND reset_val NOT LIKE 'ISO%')
       OR (name = 'IntervalStyle' AND reset_val <> 'postgres')
       OR (name = 'extra_float_digits' AND reset_val::integer < 1)
       OR (name = 'bytea_output' AND reset_val <> 'hex')
       OR (name = 'lc_monetary' AND reset_val NOT IN ('C', 'POSIX'))
), differs AS (
    SELECT source.name FROM reindexer.source
    WHERE EXISTS (SELECT FROM was WHERE name <> 'lc_monetary') AND (source.condition IS NOT NULL OR EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = to_regclass(format('%I.%I', table_schema, table_name)) AND NOT attisdropped
            AND attname = ANY (key_columns || text_columns || payload_columns)
            AND atttypid::regtype::oid <> ALL ('{text, varchar, bpchar, name, "char", uuid, bool, int2, int4, int8, numeric, oid,
                json, jsonb, inet, cidr, macaddr, bit, varbit, tsvector, xml}'::regtype[]::oid[])))
    UNION
    SELECT source.name FROM reindexer.source
    JOIN pg_attribute ON attrelid = to_regclass(format('%I.%I', table_schema, table_name)) AND NOT attisdropped
        AND attname = ANY (key_columns || text_columns || payload_columns)
    WHERE EXISTS (SELECT FROM was WHERE name = 'lc_monetary') AND atttypid IN ('money'::regtype, 'money[]'::regtype)
)
-- guard upgrade-reread-differing-sources
INSERT INTO reindexer.run AS run (source, kind) SELECT name, 'whole_source' FROM differs
ON CONFLICT (source, kind) WHERE finished_at IS NULL DO UPDATE SET
    state = 'rows', cursor = NULL, queued = 0, total = NULL, started_at = clock_timestamp(), paused_s = 0,
    changed_at = least(run.changed_at, run.started_at);

-- A condition means what it meant where it was attached, whatever schemas the role looks in that reads by it.
ALTER TABLE reindexer.source ADD COLUMN resolved_condition text, ADD COLUMN condition_objects text[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN reindexer.source.resolved_condition IS 'The condition with a schema before each name, as Postgres understood it when the source was attached. NULL: an older version attached it.';
COMMENT ON COLUMN reindexer.source.condition_objects IS 'Functions, operators, types and collations of the user''s that it means, by their OIDs: a renamed one is the same.';

-- A table that is attached because it is there would be attached again by the next `migrate`.
CREATE TABLE reindexer.detached (source text PRIMARY KEY);
COMMENT ON TABLE reindexer.detached IS 'Sources that were detached by hand: only somebody who names them attaches them again.';

-- What needs no provider waits for none: an item to which nothing but its embedding is left to do is marked.
ALTER TABLE reindexer.due ADD COLUMN marked boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN reindexer.due.marked IS 'Nothing but its embedding is left to do: claims pass it over while its provider is left alone. Whatever raises the version clears it.';
DROP INDEX reindexer.due_ready;
-- Not by the version: what raises it would be no update in place any more.
CREATE INDEX due_ready ON reindexer.due (source, lane, not_before) WHERE NOT marked;
CREATE INDEX due_marked ON reindexer.due (source, lane, not_before) WHERE marked;

-- One account's outage does not stop the sources of another.
ALTER TABLE reindexer.breaker ADD COLUMN account text NOT NULL DEFAULT '';
ALTER TABLE reindexer.breaker DROP CONSTRAINT breaker_pkey;
ALTER TABLE reindexer.breaker ADD PRIMARY KEY (dependency, account);
COMMENT ON COLUMN reindexer.breaker.account IS 'A hash of the provider''s address and key: whom it is that does not answer. Empty for Qdrant.';
ALTER TABLE reindexer.source ADD COLUMN account text NOT NULL DEFAULT '';
COMMENT ON COLUMN reindexer.source.account IS 'The account of its provider, as it was when that last did not answer.';

-- A key that fits the index of its own table need not fit ours. One of more than 2,600 bytes has a name: its first 200
-- characters and its hash. All statements go by names; only who reads the row asks for the key.
CREATE TABLE reindexer.long_key (
    source   text NOT NULL REFERENCES reindexer.source (name) ON DELETE CASCADE,
    item_id  text NOT NULL,
    key      text NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (source, item_id)
);
COMMENT ON TABLE reindexer.long_key IS 'Keys that are too long for an index of ours, by the name that stands for them everywhere else.';
CREATE FUNCTION reindexer.item_name(key text) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN octet_length(key) > 650 AND octet_length(convert_to(key, 'UTF8')) > 2600
                THEN left(key, 200) || '...sha256:' || encode(sha256(convert_to(key, 'UTF8')), 'hex') ELSE key END
$$;
COMMENT ON FUNCTION reindexer.item_name(text) IS 'What the item of a key is called: the key, unless that is too long for an index of ours.';
-- As the owner: who drains or wishes needs no right for it.
CREATE FUNCTION reindexer.noted_name(of_source text, of_key text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    called text := reindexer.item_name(of_key);
BEGIN
    -- Looked for first: who writes it again would wait for whoever does so as well.
    IF called <> of_key AND NOT EXISTS (
        SELECT FROM reindexer.long_key
        WHERE source = of_source AND item_id = called AND noted_at > clock_timestamp() - interval '1 day'
    ) THEN
        INSERT INTO reindexer.long_key (source, item_id, key) SELECT source.name, called, of_key
        FROM reindexer.source WHERE source.name = of_source
        ON CONFLICT (source, item_id) DO UPDATE SET noted_at = excluded.noted_at;
    END IF;
    RETURN called;
END $$;
COMMENT ON FUNCTION reindexer.noted_name(text, text) IS 'The same, and it is noted which key the name stands for.';
DO $$
DECLARE
    reader text;
BEGIN
    FOR reader IN
        SELECT DISTINCT grantee::regrole::text FROM pg_class, aclexplode(relacl)
        WHERE pg_class.oid = 'reindexer.due'::regclass AND privilege_type = 'SELECT' AND grantee <> 0
    LOOP
        EXECUTE format('GRANT SELECT ON reindexer.long_key TO %s', reader);
    END LOOP;
END $$;
-- What fitted until now, because it could be compressed, goes under its name from now on: those rows are looked at.
INSERT INTO reindexer.due (source, item_id, generation, lane)
SELECT source, item_id, generation, 'bulk' FROM reindexer.ledger
WHERE octet_length(item_id) > 650 AND reindexer.item_name(item_id) <> item_id
ORDER BY source, item_id
ON CONFLICT (source, item_id, generation) DO NOTHING;
INSERT INTO reindexer.run AS run (source, kind)
SELECT DISTINCT source, 'whole_source' FROM reindexer.due
WHERE octet_length(item_id) > 650 AND reindexer.item_name(item_id) <> item_id
ON CONFLICT (source, kind) WHERE finished_at IS NULL DO UPDATE SET
    state = 'rows', cursor = NULL, queued = 0, total = NULL, started_at = clock_timestamp(), paused_s = 0,
    changed_at = least(run.changed_at, run.started_at);

-- An item whose chunks take longer than one claim goes on where the last one stopped.
ALTER TABLE reindexer.due ADD COLUMN begun_upto integer;
ALTER TABLE reindexer.due ADD COLUMN begun_chunks integer;
ALTER TABLE reindexer.due ADD COLUMN begun_payload text;
COMMENT ON COLUMN reindexer.due.begun_upto IS 'Claims wrote some chunks of the item and not all; those before this one were embedded since it became due, or was last wished for. NULL: none did.';
COMMENT ON COLUMN reindexer.due.begun_chunks IS 'Of a begun item: so many points may be there, whatever the ledger says.';
COMMENT ON COLUMN reindexer.due.begun_payload IS 'Of a begun item: the fingerprint of the payload that all its points have.';

-- A crash of the server empties every unlogged table, and leaves no other trace: so also this one.
CREATE UNLOGGED TABLE reindexer.uncrashed (
    one  boolean PRIMARY KEY DEFAULT true CHECK (one),
    mark uuid NOT NULL DEFAULT gen_random_uuid()
);
COMMENT ON TABLE reindexer.uncrashed IS 'Its row stays until the server crashes, as do those of users'' unlogged tables.';
GRANT SELECT ON reindexer.uncrashed TO PUBLIC;
