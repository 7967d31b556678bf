-- Triggers of one source. Names in {braces} are filled in with the driver's own quoting.
--
-- What the functions promise to writers:
--   * They never fail a statement over our own mistake: an error while comparing (a declared column was renamed or
--     retyped) records one "look at the whole source" (NULL) instead. The block that catches it writes nothing, so it
--     costs no transaction id.
--   * SECURITY DEFINER with a fixed search_path: a writer needs no right on our schema.
--   * One row is the common case: it is compared without a join, by one query, and its id never becomes an array. That
--     there are several (or none) is told by the STRICT that fails, which costs less than to ask first.
--   * Several rows meet in a FULL JOIN by hash: plpgsql caches the plan of the first statement, a full join is the one
--     kind that is never planned as a nested loop (seconds for 10,000 rows), and enable_mergejoin = off keeps it from
--     sorting both sides.
--   * Record images are compared (*<>): IS DISTINCT FROM has no operator for json, and = is blind to a citext change.
--     The casts matter: without them ROW(...) *<> ROW(...) means an operator for each pair of columns.
--   * So are keys: under a non-deterministic collation two spellings are one key to the join, and two items to us.
--     Only there the new spelling is looked for (`respelt`): it costs a twentieth of a large UPDATE.
--   * use_column: a column may have the name of a variable of ours, or of plpgsql's (`new`, `tg_op`).

-- name: ring
        -- Ring only while the listener sleeps: its leader then holds this lock exclusively (docs/adr/0005).
        -- Held until the commit: so the leader can't fall asleep between our look and our commit, and miss us.
        -- guard wake-writer-lock
        IF NOT pg_try_advisory_xact_lock_shared({lock_class}, {wake_lock}) AND pg_notification_queue_usage() < 0.5 THEN
            NOTIFY reindexer_bell; -- guard wake-notify
        END IF;

-- name: record
    IF item_ids IS NOT NULL THEN
        IF cardinality(item_ids) = 1 THEN
            INSERT INTO reindexer.outbox (source, item_id, lane) VALUES ({source}, item_ids[1], 'live');
        ELSIF cardinality(item_ids) <= {bulk_rows} THEN
            INSERT INTO reindexer.outbox (source, item_id, lane) SELECT {source}, unnest(item_ids), 'live';
        ELSE
            INSERT INTO reindexer.outbox (source, item_id, lane) SELECT {source}, unnest(item_ids), 'bulk';
        END IF;
{ring}
    END IF;
    RETURN NULL;

-- name: respelt
 || array_agg({key_of_new}) FILTER (
                    WHERE old_rows.{first_key} = new_rows.{first_key}
                      AND ROW({key_columns_old})::record *<> ROW({key_columns_new})::record)

-- name: rows_function
-- AFTER INSERT and AFTER DELETE, FOR EACH STATEMENT.
CREATE OR REPLACE FUNCTION {rows_function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $reindexer$ -- guard trigger-security-definer
#variable_conflict use_column
DECLARE
    item_ids text[];
BEGIN
    BEGIN
        SELECT array_agg({key}) INTO item_ids FROM changed_rows;
    EXCEPTION WHEN OTHERS THEN -- guard trigger-error-swallowed
        item_ids := ARRAY[NULL::text];
    END;
{record}
END $reindexer$;

-- name: update_function
-- AFTER UPDATE, FOR EACH STATEMENT. A changed key is a delete and an insert: both ids are recorded.
CREATE OR REPLACE FUNCTION {update_function}() RETURNS trigger
-- guard trigger-security-definer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_mergejoin = off AS $reindexer$
#variable_conflict use_column
DECLARE
    old_id text;
    new_id text;
    edited boolean;
    item_ids text[];
BEGIN
    BEGIN
        -- guard trigger-record-image-comparison
        SELECT {key_of_old}, {key_of_new}, ROW({declared_old})::record *<> ROW({declared_new})::record
        INTO STRICT old_id, new_id, edited
        FROM old_rows CROSS JOIN new_rows; -- guard trigger-plan-single-row
    EXCEPTION
        WHEN TOO_MANY_ROWS OR NO_DATA_FOUND THEN
            BEGIN
                SELECT array_agg({key}){respelt} INTO item_ids
                FROM old_rows FULL JOIN new_rows USING ({key_columns})
                WHERE old_rows.{first_key} IS NULL OR new_rows.{first_key} IS NULL
                   -- guard trigger-record-image-comparison
                   OR ROW({declared_old})::record *<> ROW({declared_new})::record;
            EXCEPTION WHEN OTHERS THEN -- guard trigger-error-swallowed
                item_ids := ARRAY[NULL::text];
            END;
        WHEN OTHERS THEN -- guard trigger-error-swallowed
            item_ids := ARRAY[NULL::text];
    END;
    IF new_id COLLATE "C" <> old_id THEN
        item_ids := ARRAY[old_id, new_id];
    ELSIF edited THEN
        INSERT INTO reindexer.outbox (source, item_id, lane) VALUES ({source}, new_id, 'live');
{ring}
        RETURN NULL;
    END IF;
{record}
END $reindexer$;

-- name: whole_function
-- AFTER TRUNCATE, FOR EACH STATEMENT.
CREATE OR REPLACE FUNCTION {whole_function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $reindexer$ -- guard trigger-security-definer
#variable_conflict use_column
DECLARE
    item_ids text[] := ARRAY[NULL::text];
BEGIN
{record}
END $reindexer$;

-- name: replica_function
-- AFTER INSERT OR UPDATE OR DELETE, FOR EACH ROW, ENABLE REPLICA: logical replication applies fire row triggers only.
CREATE OR REPLACE FUNCTION {replica_function}() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $reindexer$ -- guard trigger-security-definer
#variable_conflict use_column
DECLARE
    item_ids text[];
BEGIN
    BEGIN
        IF TG_OP = 'INSERT' THEN
            item_ids := ARRAY[{key_new}];
        ELSIF TG_OP = 'DELETE' THEN
            item_ids := ARRAY[{key_old}];
        ELSIF {key_old} COLLATE "C" IS DISTINCT FROM {key_new} THEN -- guard trigger-replica-key-respelling
            item_ids := ARRAY[{key_old}, {key_new}];
        ELSIF ROW({declared_old_row})::record *<> ROW({declared_new_row})::record THEN
            item_ids := ARRAY[{key_new}];
        END IF;
    EXCEPTION WHEN OTHERS THEN -- guard trigger-error-swallowed
        item_ids := ARRAY[NULL::text];
    END;
{record}
END $reindexer$;

-- name: statement_triggers
CREATE OR REPLACE TRIGGER {insert_trigger} AFTER INSERT ON {table}
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION {rows_function}();
CREATE OR REPLACE TRIGGER {update_trigger} AFTER UPDATE ON {table}
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION {update_function}();
CREATE OR REPLACE TRIGGER {delete_trigger} AFTER DELETE ON {table}
    REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION {rows_function}();
CREATE OR REPLACE TRIGGER {truncate_trigger} AFTER TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION {whole_function}();
ALTER TABLE {table} ENABLE TRIGGER {insert_trigger}, ENABLE TRIGGER {update_trigger},
    ENABLE TRIGGER {delete_trigger}, ENABLE ALWAYS TRIGGER {truncate_trigger};

-- name: row_trigger
CREATE OR REPLACE TRIGGER {replica_trigger} AFTER INSERT OR UPDATE OR DELETE ON {table}
    FOR EACH ROW EXECUTE FUNCTION {replica_function}();
ALTER TABLE {table} ENABLE REPLICA TRIGGER {replica_trigger}; -- guard trigger-replica-enabled
