-- `definition` is one document, which only `Source` reads and writes: another attribute needs no migration. Beside it
-- stand names, and what is no definition. Each generation has its own; that of the one that searches use is also the
-- source's.

-- name: defined
-- One source (no name: each) as one of its generations defines it (no number: the one that searches use), with the
-- columns that other generations declare.
SELECT name, alias, generation.definition, coalesce(
           (SELECT string_agg(value, ' ' ORDER BY key) FROM jsonb_each_text(coalesce(generation.facts, source.facts))
            WHERE starts_with(key, 'reads')), ''), generation.number,
       generation.embedder,
       ARRAY(SELECT DISTINCT attname::text
             FROM reindexer.generation AS other
             CROSS JOIN jsonb_array_elements_text(
                 coalesce(other.definition -> 'text_columns', '[]') || coalesce(other.definition -> 'payload_columns', '[]')
                 || coalesce(other.definition -> 'condition_columns', '[]')) AS declared (name)
             -- guard generation-missing-column
             JOIN pg_attribute ON attrelid = source.table_oid AND attname = declared.name AND attnum > 0 AND NOT attisdropped
             WHERE other.source = source.name AND other.number <> generation.number
                 AND other.state NOT IN ('broken', 'dropped') ORDER BY 1),
       generation.servers,
       ARRAY(SELECT definition FROM reindexer.generation AS other
             WHERE other.source = source.name AND other.number <> generation.number AND other.definition ? 'related'
                 AND other.state NOT IN ('broken', 'dropped') ORDER BY other.number)
FROM reindexer.source JOIN reindexer.generation ON generation.source = name
    AND generation.number = coalesce(%(generation)s::integer, source.generation)
WHERE coalesce(name = %(name)s::text, true)
ORDER BY name;

-- name: one_with_columns
-- And the columns that its table has now, with their types.
SELECT name, alias, generation.definition, coalesce(
           (SELECT string_agg(value, ' ' ORDER BY key) FROM jsonb_each_text(coalesce(generation.facts, source.facts))
            WHERE starts_with(key, 'reads')), ''), generation.number,
       generation.embedder, generation.servers,
       (SELECT jsonb_object_agg(attname, format_type(atttypid, NULL)) FROM pg_attribute
        WHERE attrelid = to_regclass(format('%%I.%%I', generation.definition ->> 'table_schema',
                                            generation.definition ->> 'table_name'))
            AND attnum > 0 AND NOT attisdropped)
FROM reindexer.source JOIN reindexer.generation ON generation.source = name
    AND generation.number = coalesce(%(generation)s::integer, source.generation) -- guard generation-own-definition
WHERE name = %(name)s;

-- name: recorded
SELECT definition_hash, table_oid::bigint, facts FROM reindexer.source WHERE name = %(name)s;

-- name: save_names
-- What the condition means is called otherwise now.
WITH held AS MATERIALIZED (
    SELECT generation.source, generation.number, generation.definition || %(names)s AS definition
    FROM reindexer.generation JOIN reindexer.source ON name = generation.source AND source.generation = number
    WHERE name = %(name)s AND definition_hash = %(was)s
    FOR UPDATE OF generation -- guard generation-lock-order
), renamed AS (
    UPDATE reindexer.source SET definition = held.definition, definition_hash = %(definition_hash)s FROM held
    WHERE name = held.source AND definition_hash = %(was)s
    RETURNING 1
)
UPDATE reindexer.generation SET definition = held.definition FROM held
WHERE generation.source = held.source AND generation.number = held.number AND EXISTS (SELECT FROM renamed);

-- name: hold_generations
-- Before the source's row, as everybody who locks both does: a worker that notes something of a generation locks that first.
SELECT number FROM reindexer.generation WHERE source = %(name)s ORDER BY number FOR UPDATE;

-- name: save
WITH again AS (DELETE FROM reindexer.detached WHERE source = %(name)s)
INSERT INTO reindexer.source (name, alias, definition, definition_hash, table_oid, facts)
VALUES (%(name)s, %(alias)s, %(definition)s, %(definition_hash)s, %(table_oid)s, %(facts)s)
ON CONFLICT (name) DO UPDATE SET
    alias = excluded.alias, definition = excluded.definition, definition_hash = excluded.definition_hash,
    table_oid = excluded.table_oid, facts = excluded.facts;

-- name: save_generation
-- Of a source that is new, and of one whose definition is mended.
INSERT INTO reindexer.generation AS generation (source, number, definition)
SELECT name, source.generation, source.definition FROM reindexer.source WHERE name = %(name)s
ON CONFLICT (source, number) DO UPDATE SET definition = excluded.definition, problem = NULL;

-- name: alias_of_others
-- Who has the alias, and which alias this source has: the other one first.
SELECT name, alias FROM reindexer.source WHERE name = %(name)s OR alias = %(alias)s
ORDER BY name = %(name)s LIMIT 1;

-- name: same_table
-- The table as it was called, and whether the other name leads to it now: it may have been renamed.
-- Also asked of a schema that is older than the document, as the next two are.
SELECT coalesce(source -> 'definition', source) ->> 'table_schema', coalesce(source -> 'definition', source) ->> 'table_name',
       (source ->> 'table_oid')::oid = to_regclass(%(table)s)::oid
FROM (SELECT to_jsonb(source) AS source FROM reindexer.source WHERE name = %(name)s) AS found;

-- name: any_revision
-- Every attached source, as far as the schema's revision tells of it: of an older one each attribute is a column.
SELECT source ->> 'name', source ->> 'alias', coalesce(source -> 'definition', (
    SELECT jsonb_object_agg(key, value) FROM jsonb_each(source)
    WHERE value <> 'null' AND key = ANY ('{table_schema,table_name,key_columns,text_columns,payload_columns,template,
        condition,condition_columns,chunk_tokens,chunk_overlap,tenant_column,profile,resolved_condition,condition_objects}')))
FROM (SELECT to_jsonb(source) AS source FROM reindexer.source) AS found ORDER BY 1;

-- name: start_detaching
-- No claim begins any more, and nobody mends triggers that no version made.
-- guard detach-no-repair
UPDATE reindexer.source SET paused = true, definition_hash = 'detaching' WHERE name = %(name)s;

-- name: held
SELECT count(*) FROM reindexer.due WHERE source = %(name)s AND lease_until > clock_timestamp();

-- name: hold_runs
SELECT id FROM reindexer.run WHERE source = %(name)s AND finished_at IS NULL FOR UPDATE;

-- name: hold_changes
-- Before the due rows, as the drain does.
SELECT count(*) FROM (SELECT FROM reindexer.outbox WHERE source = %(name)s FOR UPDATE) AS held;

-- name: hold_items
-- From now on no worker can take one. Returns how many are in a worker's hands.
SELECT count(*) FILTER (WHERE lease_until > clock_timestamp())
FROM (SELECT lease_until FROM reindexer.due WHERE source = %(name)s FOR UPDATE) AS held;

-- name: forget
WITH outbox AS (DELETE FROM reindexer.outbox WHERE source = %(name)s),
    fan_out AS (DELETE FROM reindexer.fan_out WHERE source = %(name)s),
    due AS (DELETE FROM reindexer.due WHERE source = %(name)s),
    note AS (DELETE FROM reindexer.note WHERE source = %(name)s AND follows IS NULL),
    drained AS (DELETE FROM reindexer.drained WHERE source = %(name)s),
    request AS (DELETE FROM reindexer.request WHERE source = %(name)s),
    ledger AS (DELETE FROM reindexer.ledger WHERE source = %(name)s RETURNING 1),
    event AS (DELETE FROM reindexer.event WHERE source = %(name)s),
    -- guard counter-detached-source
    counter AS (DELETE FROM reindexer.counter WHERE labels::jsonb ->> 'source' = %(name)s),
    source AS (DELETE FROM reindexer.source WHERE name = %(name)s),
    -- guard context-items-detached
    detached AS (INSERT INTO reindexer.detached (source) VALUES (%(name)s) ON CONFLICT DO NOTHING)
SELECT count(*) FROM ledger;

-- name: record
UPDATE reindexer.source SET table_oid = %(table_oid)s, facts = %(facts)s WHERE name = %(name)s;

-- name: set_problem
UPDATE reindexer.generation SET problem = %(problem)s
WHERE source = %(name)s AND number = %(generation)s AND problem IS DISTINCT FROM %(problem)s;

-- name: problems
-- Of the generations that searches use.
SELECT name, generation.problem FROM reindexer.source
JOIN reindexer.generation ON generation.source = name AND generation.number = source.generation
WHERE generation.problem IS NOT NULL ORDER BY name;

-- name: problems_beside
SELECT name, number FROM reindexer.source JOIN reindexer.generation ON generation.source = name
WHERE number <> source.generation AND state <> 'dropped' AND generation.problem IS NOT NULL ORDER BY name, number;

-- name: clear_problem
-- A deletion that needs no provider does not tell that the provider takes the source's texts again.
UPDATE reindexer.generation SET problem = NULL
WHERE source = %(name)s AND number = %(generation)s AND problem IS NOT NULL
    AND (%(embedded)s OR NOT EXISTS ( -- guard refusal-deletion-not-recovery
        SELECT FROM reindexer.due
        WHERE due.source = generation.source AND due.generation = generation.number AND due.waits_for = generation.problem
    ));

-- name: clear_idle_problem
-- Of generations for which nothing waits: nobody would find out that they are well again.
UPDATE reindexer.generation SET problem = NULL
WHERE source = %(name)s AND problem IS NOT NULL
    AND NOT EXISTS (SELECT FROM reindexer.due WHERE due.source = generation.source AND due.generation = generation.number)
    AND NOT EXISTS (
        SELECT FROM reindexer.run
        WHERE run.source = generation.source AND coalesce(run.generation, generation.number) = generation.number
            AND finished_at IS NULL);

-- name: embedder
-- Who made a generation's points.
SELECT embedder FROM reindexer.generation WHERE source = %(name)s AND number = %(generation)s;

-- name: embedders
SELECT name, generation.embedder FROM reindexer.source
JOIN reindexer.generation ON generation.source = name AND generation.number = source.generation;

-- name: vectors
-- Who made its points, and by which profile.
SELECT source ->> 'embedder', coalesce(source -> 'definition', source) -> 'profile'
FROM (SELECT to_jsonb(source) AS source FROM reindexer.source WHERE name = %(name)s) AS found;

-- name: record_embedder
-- The first one stays, and the address of its provider is the first one that makes the vectors.
UPDATE reindexer.generation SET
    -- guard embedder-first-recorded
    embedder = coalesce(embedder, %(embedder)s),
    servers = CASE WHEN embedder IS NULL AND %(server)s::text IS NOT NULL THEN ARRAY[%(server)s::text] ELSE servers END
WHERE source = %(name)s AND number = %(generation)s RETURNING embedder, servers;

-- name: servers
SELECT servers, embedder FROM reindexer.generation WHERE source = %(name)s AND number = %(generation)s;

-- name: accept_first_server
-- Of a generation that an older version filled, or that has no point yet.
UPDATE reindexer.generation SET servers = ARRAY[%(server)s::text]
WHERE source = %(name)s AND number = %(generation)s AND embedder = %(embedder)s
    AND servers = '{}'; -- guard server-first-accepted

-- name: add_server
UPDATE reindexer.generation SET servers = array_append(servers, %(server)s::text)
WHERE source = %(name)s AND number = %(generation)s AND embedder = %(embedder)s AND NOT %(server)s = ANY (servers);

-- name: claims_in_work
SELECT count(DISTINCT token) FROM reindexer.due
WHERE source = %(name)s AND generation = %(generation)s AND lease_until > clock_timestamp();

-- name: replace_servers
-- Nothing that the others made is left: from now on they have to show that they make what this one makes.
UPDATE reindexer.generation SET servers = ARRAY[%(server)s::text]
WHERE source = %(name)s AND number = %(generation)s AND embedder = %(embedder)s;

-- name: generations_of_embedder
-- This one, then the others from which it may take vectors over.
SELECT number FROM reindexer.generation
WHERE source = %(source)s AND embedder = %(embedder)s
    AND (number = %(generation)s OR state NOT IN ('broken', 'dropped'))
ORDER BY number <> %(generation)s, number DESC;

-- name: settled_items
-- Items whose points should be as their rows are, by key.
SELECT item_id, chunk_tokens FROM reindexer.ledger
WHERE source = %(name)s AND generation = %(generation)s AND item_id > %(after)s
    AND outcome = 'COMPLETED' AND chunks > 0 AND text_fingerprint IS NOT NULL
    AND NOT EXISTS (
        SELECT FROM reindexer.due
        WHERE due.source = ledger.source AND due.item_id = ledger.item_id AND due.generation = ledger.generation)
ORDER BY item_id LIMIT %(limit)s;

-- name: set_paused
UPDATE reindexer.source SET paused = %(paused)s WHERE %(name)s::text IS NULL OR name = %(name)s RETURNING name;

-- name: unique_key
-- Columns of each valid unique index without condition or expression, if all of them are NOT NULL. A deferrable one holds
-- at every commit, and nobody reads before. One that tells two values apart which the column's own collation takes for one
-- would leave rows in no order that pages can follow.
SELECT array_agg(attname::text ORDER BY attname)
FROM pg_index
CROSS JOIN LATERAL unnest(indkey[0:indnkeyatts - 1]::smallint[], indcollation[0:indnkeyatts - 1]::oid[])
    AS key (attnum, "collation")
JOIN pg_attribute ON attrelid = indrelid AND pg_attribute.attnum = key.attnum
LEFT JOIN pg_collation ON pg_collation.oid = attcollation
WHERE indrelid = to_regclass(%(table)s) AND indisunique AND indisvalid AND indpred IS NULL AND indexprs IS NULL
GROUP BY indexrelid
HAVING bool_and(attnotnull AND (coalesce(collisdeterministic, true) OR key."collation" = attcollation));
