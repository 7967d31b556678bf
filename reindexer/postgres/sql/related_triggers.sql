-- Triggers of a related table of one source. They record by which values of its join columns rows were read and are
-- read, old and new, each once a statement, and look at no other table: which items those values lead to is found out
-- later. What triggers.sql promises to writers holds here, too.
--
--   * A row whose join columns hold a NULL joins nothing, and is passed over.
--   * A value that is too long for our indexes, and an error, record one "look at the whole source" (NULL).

-- name: record
    IF found IS NOT NULL THEN
        INSERT INTO reindexer.outbox (source, related, item_id, lane)
        SELECT {source}, {related}, CASE WHEN octet_length(value) <= {longest} THEN value END,
               CASE WHEN cardinality(found) <= {bulk_rows} THEN 'live' ELSE 'bulk' END
        FROM unnest(found) AS value;
{ring}
    END IF;
    RETURN NULL;

-- name: rows_function
-- AFTER INSERT and AFTER DELETE, FOR EACH STATEMENT.
CREATE OR REPLACE FUNCTION {rows_function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $reindexer$
#variable_conflict use_column
DECLARE
    found text[];
BEGIN
    BEGIN
        SELECT array_agg(DISTINCT {value}) FILTER (WHERE {value} IS NOT NULL) INTO found FROM changed_rows;
    EXCEPTION WHEN OTHERS THEN -- guard related-error-swallowed
        found := ARRAY[NULL::text];
    END;
{record}
END $reindexer$;

-- name: update_function
-- AFTER UPDATE, FOR EACH STATEMENT. A row that moved leaves one parent and comes to another: both are recorded.
CREATE OR REPLACE FUNCTION {update_function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_mergejoin = off AS $reindexer$
#variable_conflict use_column
DECLARE
    found text[];
BEGIN
    BEGIN
{changed}
    EXCEPTION WHEN OTHERS THEN -- guard related-error-swallowed
        found := ARRAY[NULL::text];
    END;
{record}
END $reindexer$;

-- name: changed
        SELECT array_agg(DISTINCT value) FILTER (WHERE value IS NOT NULL) INTO found
        FROM old_rows FULL JOIN new_rows USING ({key_columns})
        CROSS JOIN LATERAL (VALUES ({value_of_old}), ({value_of_new})) AS side (value) -- guard related-both-sides
        WHERE old_rows.{first_key} IS NULL OR new_rows.{first_key} IS NULL
           OR ROW({columns_of_old})::record *<> ROW({columns_of_new})::record;

-- name: changed_without_key
-- Nothing tells which row became which: each that was touched counts.
        SELECT array_agg(DISTINCT value) FILTER (WHERE value IS NOT NULL) INTO found
        FROM (SELECT {value_of_old} FROM old_rows UNION ALL SELECT {value_of_new} FROM new_rows) AS side (value);

-- name: whole_function
-- AFTER TRUNCATE, FOR EACH STATEMENT.
CREATE OR REPLACE FUNCTION {whole_function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $reindexer$
#variable_conflict use_column
DECLARE
    found text[] := ARRAY[NULL::text];
BEGIN
{record}
END $reindexer$;

-- name: replica_function
-- AFTER INSERT OR UPDATE OR DELETE, FOR EACH ROW, ENABLE REPLICA: logical replication applies fire row triggers only.
CREATE OR REPLACE FUNCTION {replica_function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $reindexer$
#variable_conflict use_column
DECLARE
    found text[];
BEGIN
    BEGIN
        IF TG_OP = 'INSERT' THEN
            found := ARRAY[{value_new}];
        ELSIF TG_OP = 'DELETE' THEN
            found := ARRAY[{value_old}];
        ELSIF ROW({columns_old})::record *<> ROW({columns_new})::record THEN
            found := ARRAY[{value_old}, {value_new}];
        END IF;
        found := array_remove(found, NULL);
        IF found = '{{}}' THEN
            found := NULL;
        END IF;
    EXCEPTION WHEN OTHERS THEN -- guard related-error-swallowed
        found := ARRAY[NULL::text];
    END;
{record}
END $reindexer$;
