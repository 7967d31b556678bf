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
INSERT INTO reindexer.run AS run (source, kind) SELECT name, 'whole_source' FROM differs
ON CONFLICT (source, kind) WHERE finished_at IS NULL DO UPDATE SET
    state = 'rows', cursor = NULL, queued = 0, total = NULL, started_at = clock_timestamp(), paused_s = 0,
    changed_at = least(run.changed_at, run.started_at);

-- A table that is attached because it is there would be attached again by the next `migrate`.
CREATE TABLE reindexer.detached (source text PRIMARY KEY);
COMMENT ON TABLE reindexer.detached IS 'Sources that were detached by hand: only somebody who names them attaches them again.';

-- What needs no provider waits for none: an item to which nothing but its embedding is left to do is marked.
ALTER TABLE reindexer.due ADD COLUMN embed_version bigint;
COMMENT ON COLUMN reindexer.due.embed_version IS 'The version at which nothing but its embedding was left to do: as long as it is that version, the item is marked, and claims pass it over while its provider is left alone.';
DROP INDEX reindexer.due_ready;
CREATE INDEX due_ready ON reindexer.due (source, lane, not_before) WHERE embed_version IS DISTINCT FROM version;
CREATE INDEX due_marked ON reindexer.due (source, lane, not_before) WHERE embed_version = version;

-- One account's outage does not stop the sources of another.
ALTER TABLE reindexer.breaker ADD COLUMN account text NOT NULL DEFAULT '';
ALTER TABLE reindexer.breaker DROP CONSTRAINT breaker_pkey;
ALTER TABLE reindexer.breaker ADD PRIMARY KEY (dependency, account);
COMMENT ON COLUMN reindexer.breaker.account IS 'A hash of the provider''s address and key: whom it is that does not answer. Empty for Qdrant.';
ALTER TABLE reindexer.source ADD COLUMN account text NOT NULL DEFAULT '';
COMMENT ON COLUMN reindexer.source.account IS 'The account of its provider, as it was when that last did not answer.';
