-- What the catalog says about a source's tables, triggers and functions. Reads only.

-- name: tree
-- The table, its partitions and inheritance children, with the triggers of ours that each one has. Parents come first:
-- a write through a parent fires no statement trigger of its children. Foreign tables are among them; temporary ones of
-- some session are not, since nobody else sees their rows.
WITH RECURSIVE tree AS (
    SELECT %(table)s::regclass::oid AS oid, 0 AS depth
    UNION
    SELECT inhrelid, depth + 1 FROM pg_inherits JOIN tree ON inhparent = tree.oid
)
SELECT pg_class.oid::bigint AS oid, nspname AS schema_name, relname AS table_name, relkind::text AS kind,
       relpersistence::text AS persistence,
       ARRAY(
           SELECT tgname::text || ':' || tgenabled::text FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
           WHERE tgrelid = pg_class.oid AND pronamespace = to_regnamespace('reindexer') AND NOT tgisinternal
       ) AS triggers
FROM (SELECT oid, max(depth) AS depth FROM tree GROUP BY oid) AS tree
JOIN pg_class ON pg_class.oid = tree.oid
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind IN ('r', 'p', 'f') AND relpersistence <> 't' -- guard watch-temporary-table-ignored
ORDER BY depth, nspname, relname;

-- name: functions
-- Our trigger functions as they are.
SELECT proname::text, prosrc, prosecdef, coalesce(proconfig, '{}') FROM pg_proc
WHERE pronamespace = to_regnamespace('reindexer') AND proname = ANY (%(functions)s);

-- name: facts
-- All catalog rows that must stay as they are for changes to be recorded, and for rows to read as they did, hashed for
-- each table, for our functions, and for all that rows are read by (`reads`): types of the columns, and what the condition
-- names. Each is named with the transaction that wrote it (xmin), so a hash also differs when something was changed and
-- put back: triggers that were disabled for a bulk load, a column that was rewritten by ALTER ... USING, a partition that
-- was detached for a while, an enum label that had another name. VACUUM, ANALYZE, CLUSTER and TRUNCATE write none of these
-- rows, nor are any of them the server's own (OIDs below 16384).
WITH RECURSIVE tree AS (
    SELECT to_regclass(%(table)s)::oid AS oid
    UNION
    SELECT inhrelid FROM pg_inherits JOIN tree ON inhparent = tree.oid
    JOIN pg_class ON pg_class.oid = inhrelid AND relpersistence <> 't'
), functions AS MATERIALIZED (
    SELECT oid, proname, xmin::text AS xmin FROM pg_proc
    WHERE pronamespace = to_regnamespace('reindexer') AND proname = ANY (%(functions)s)
), declared AS MATERIALIZED (
    SELECT attrelid, attname, attnum, atttypid, attcollation, attgenerated, pg_attribute.xmin
    FROM pg_attribute JOIN tree ON attrelid = tree.oid
    WHERE attname = ANY (%(columns)s) AND NOT attisdropped
), reads (kind, oid, body) AS (
    -- What reading leads to: a type to the types that it is made of and to its casts, which also make JSON of it; a text
    -- (the condition, a function's body) to all that is called as a word or an operator in it. So a name counts wherever it
    -- is looked up and whatever it means there: too much is watched rather than too little.
    (
        SELECT 'type', atttypid, NULL::text FROM declared WHERE atttypid >= 16384
        UNION SELECT 'text', 0::oid, %(condition)s::text WHERE %(condition)s::text IS NOT NULL
    )
    UNION
    SELECT further.* FROM reads
    LEFT JOIN pg_type ON reads.kind = 'type' AND pg_type.oid = reads.oid
    CROSS JOIN LATERAL (
        SELECT array_agg(DISTINCT word::name) AS words
        FROM regexp_matches(body, '"((?:[^"]|"")+)"|([^\x01-\x23\x25-\x2f\x3a-\x40\x5b-\x5e\x60\x7b-\x7f]+)', 'g') AS found
        CROSS JOIN unnest(ARRAY[replace(found[1], '""', '"'), found[2], lower(found[2])]) AS word
    ) AS said
    CROSS JOIN LATERAL (
        SELECT 'type', made_of, NULL FROM unnest(ARRAY[typbasetype, typelem]) AS made_of
        UNION ALL SELECT 'type', atttypid, NULL FROM pg_attribute WHERE attrelid = nullif(typrelid, 0) AND NOT attisdropped
        UNION ALL SELECT 'type', rngsubtype, NULL FROM pg_range WHERE pg_type.oid IN (rngtypid, rngmultitypid)
        UNION ALL SELECT 'function', typoutput, NULL
        UNION ALL SELECT 'cast', pg_cast.oid, NULL FROM pg_cast WHERE castsource = pg_type.oid -- guard watch-type-casts
        UNION ALL SELECT 'function', castfunc, NULL FROM pg_cast WHERE reads.kind = 'cast' AND pg_cast.oid = reads.oid
        UNION ALL SELECT 'function', oprcode, NULL FROM pg_operator WHERE reads.kind = 'operator' AND pg_operator.oid = reads.oid
        UNION ALL SELECT 'text', pg_proc.oid, coalesce(pg_get_function_sqlbody(pg_proc.oid), prosrc) COLLATE "default"
        FROM pg_proc WHERE reads.kind = 'function' AND pg_proc.oid = reads.oid -- guard watch-nested-functions
        UNION ALL SELECT 'function', pg_proc.oid, NULL FROM pg_proc WHERE proname = ANY (words)
        UNION ALL SELECT 'operator', pg_operator.oid, NULL FROM pg_operator
        WHERE pg_operator.oid >= 16384 AND strpos(body, oprname) > 0 -- guard watch-condition-operators
        UNION ALL SELECT 'type', named.oid, NULL FROM pg_type AS named LEFT JOIN pg_class ON pg_class.oid = named.typrelid
        WHERE named.typname = ANY (words) AND coalesce(relkind, 'c') = 'c'
    ) AS further (kind, oid, body)
    WHERE further.oid >= 16384
), facts AS (
    SELECT inhrelid::text AS subject, format('under %%s, %%s', inhparent, pg_inherits.xmin) AS fact
    FROM pg_inherits JOIN tree ON inhrelid = tree.oid
    UNION ALL
    -- A crash of the server empties it, and writes nothing here; but it empties our own unlogged table too.
    -- guard watch-unlogged-table-crash
    SELECT tree.oid::text, format('unlogged since %%s', (SELECT mark FROM reindexer.uncrashed))
    FROM pg_class JOIN tree USING (oid) WHERE relpersistence = 'u'
    UNION ALL
    SELECT attrelid::text, format('column %%s, %%s', attname, xmin) FROM declared
    UNION ALL
    SELECT attrelid::text, format('column %%s made by %%s', attname, pg_attrdef.xmin)
    FROM declared JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum AND attgenerated <> ''
    UNION ALL
    SELECT tgrelid::text, format('trigger %%s, %%s', tgname, pg_trigger.xmin) -- guard watch-trigger-version
    FROM pg_trigger JOIN tree ON tgrelid = tree.oid JOIN functions ON functions.oid = tgfoid
    UNION ALL
    SELECT 'functions', format('%%s, %%s', proname, xmin) FROM functions
    UNION ALL
    SELECT 'reads', ''
    UNION ALL
    SELECT 'reads', format('type %%s, %%s', pg_type.oid, pg_type.xmin) FROM pg_type JOIN reads USING (oid) WHERE kind = 'type'
    UNION ALL
    SELECT 'reads', format('label %%s, %%s', pg_enum.oid, pg_enum.xmin) -- guard watch-enum-label-version
    FROM pg_enum JOIN reads ON kind = 'type' AND enumtypid = reads.oid -- guard watch-enum-labels
    UNION ALL
    SELECT 'reads', format('attribute %%s of %%s, %%s', attnum, attrelid, pg_attribute.xmin)
    FROM reads JOIN pg_type ON kind = 'type' AND pg_type.oid = reads.oid
    JOIN pg_attribute ON attrelid = nullif(typrelid, 0) AND attnum > 0 -- guard watch-composite-attributes
    UNION ALL
    SELECT 'reads', format('cast %%s, %%s', pg_cast.oid, pg_cast.xmin) FROM pg_cast JOIN reads USING (oid) WHERE kind = 'cast'
    UNION ALL
    SELECT 'reads', format('function %%s, %%s', pg_proc.oid, pg_proc.xmin)
    FROM pg_proc JOIN reads USING (oid) WHERE kind = 'function'
    UNION ALL
    SELECT 'reads', format('operator %%s, %%s', pg_operator.oid, pg_operator.xmin)
    FROM pg_operator JOIN reads USING (oid) WHERE kind = 'operator'
    UNION ALL
    -- A library that came with a newer operating system may order, and so compare, in another way.
    SELECT 'reads', format('collation %%s, %%s, %%s', oid, xmin, pg_collation_actual_version(oid))
    FROM pg_collation WHERE %(condition)s::text IS NOT NULL AND (
        oid IN (SELECT attcollation FROM declared) OR strpos(%(condition)s::text, collname) > 0 AND oid >= 16384)
)
SELECT subject, md5(string_agg(fact, E'\n' ORDER BY fact COLLATE "C")) FROM facts GROUP BY subject;

-- name: mark_uncrashed
INSERT INTO reindexer.uncrashed DEFAULT VALUES ON CONFLICT DO NOTHING;

-- name: spelt_freely
-- A column of these whose collation takes different bytes for equal.
SELECT attname FROM pg_attribute JOIN pg_collation ON pg_collation.oid = attcollation
WHERE attrelid = to_regclass(%(table)s) AND attname = ANY (%(columns)s) AND NOT collisdeterministic LIMIT 1;

-- name: called_now
-- What a table is called that may have been renamed.
SELECT oid::regclass::text FROM pg_class WHERE oid = %(oid)s::oid;

-- name: named_on_path
-- The table, or whatever has that name, where the connection looks; but never in our own schema, to which the "$user" of
-- a role that is named like it leads.
SELECT nspname::text, relname::text, relkind::text
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
JOIN unnest(current_schemas(false)) WITH ORDINALITY AS path (schema_name, place) ON schema_name = nspname
WHERE relname = %(name)s AND nspname <> 'reindexer' ORDER BY place LIMIT 1; -- guard role-schema-table-lookup

-- name: in_our_schema
SELECT EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace('reindexer') AND relname = %(name)s
               AND relkind IN ('r', 'p'));

-- name: named
-- The table, or whatever has that name.
SELECT nspname::text, relname::text, relkind::text
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE pg_class.oid = to_regclass(%(table)s);

-- name: owner
-- Who owns the table, and whether that is us.
SELECT relowner::regrole::text, pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass(%(table)s);

-- name: named_alike
-- Tables that are called so in another schema or in other letters, as they have to be written.
SELECT format('%%I.%%I', nspname, relname) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE lower(relname) = lower(%(name)s) AND relkind IN ('r', 'p') AND nspname NOT LIKE 'pg\_%%' AND nspname <> 'reindexer'
ORDER BY 1 LIMIT 3;

-- name: column_names
SELECT attname::text FROM pg_attribute
WHERE attrelid = to_regclass(%(table)s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum;

-- name: column_types
SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = to_regclass(%(table)s) AND attname = ANY (%(columns)s) AND NOT attisdropped ORDER BY attnum;

-- name: virtual_columns
SELECT attname::text FROM pg_attribute
WHERE attrelid = to_regclass(%(table)s) AND attname = ANY (%(columns)s) AND attgenerated = 'v' AND NOT attisdropped;

-- name: primary_key
SELECT attname::text FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey[0:indnkeyatts - 1])
WHERE indrelid = to_regclass(%(table)s) AND indisprimary
ORDER BY array_position(indkey::smallint[], attnum);

-- name: condition_columns
-- Of the table's copy, those that the index on it needs.
SELECT attname::text FROM pg_depend JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
WHERE classid = 'pg_class'::regclass AND objid = 'pg_temp.reindexer_condition_'::regclass
    AND refobjid = 'pg_temp.reindexer_condition'::regclass AND refobjsubid > 0
ORDER BY attnum;

-- name: condition_resolved
-- The condition of the copy's index, as Postgres understood it; what is not on the search_path is named with its schema.
SELECT pg_get_expr(indpred, indrelid) FROM pg_index WHERE indexrelid = 'pg_temp.reindexer_condition_'::regclass;

-- name: condition_objects
-- What of the user's it means; its columns are found by their names.
SELECT concat_ws(' ', refclassid::regclass, refobjid) FROM pg_depend
WHERE classid = 'pg_class'::regclass AND objid = 'pg_temp.reindexer_condition_'::regclass AND refobjid >= 16384
    AND refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass, 'pg_collation'::regclass)
ORDER BY 1;

-- name: means_the_same
-- Two lists of such objects: the same, but that a column may have another type in the place of one that is gone.
SELECT NOT EXISTS (
    SELECT FROM unnest(%(now)s::text[]) AS object WHERE object <> ALL (%(was)s::text[]) AND object NOT IN (
        SELECT format('pg_type %%s', atttypid) FROM pg_attribute
        WHERE attrelid = to_regclass(%(table)s) AND attname = ANY (%(columns)s) AND NOT attisdropped)
) AND NOT EXISTS (
    SELECT FROM unnest(%(was)s::text[]) AS object WHERE object <> ALL (%(now)s::text[]) AND (
        object NOT LIKE 'pg\_type %%' OR object IN (SELECT format('pg_type %%s', oid) FROM pg_type))
);

-- name: bearers
-- Tables that carry triggers of a source, with the names of those: what it has, but not on the tables that are kept; and
-- what it had for related tables that it reads no more.
SELECT nspname::text, relname::text, array_agg(tgname::text ORDER BY tgname)
FROM pg_trigger
JOIN pg_proc ON pg_proc.oid = tgfoid
JOIN pg_class ON pg_class.oid = tgrelid
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE pronamespace = to_regnamespace('reindexer') AND NOT tgisinternal
    AND CASE WHEN proname = ANY (%(functions)s) THEN tgrelid <> ALL (%(keep)s::oid[]) ELSE starts_with(proname, %(begin)s) END
GROUP BY nspname, relname
ORDER BY nspname, relname;

-- name: former_functions
SELECT proname::text FROM pg_proc
WHERE pronamespace = to_regnamespace('reindexer') AND starts_with(proname, %(begin)s) AND proname <> ALL (%(functions)s);

-- name: base_types
-- Of each of these columns the type below domains and arrays, and whether there is an array.
SELECT attname::text, base.typname::text, base.typtype = 'e' AS is_enum, whole.typcategory = 'A' AS is_array
FROM pg_attribute JOIN pg_type AS whole ON whole.oid = atttypid
CROSS JOIN LATERAL (
    WITH RECURSIVE type AS (
        SELECT pg_type.* FROM pg_type WHERE pg_type.oid = atttypid
        UNION ALL
        SELECT pg_type.* FROM type
        JOIN pg_type ON pg_type.oid = CASE WHEN type.typtype = 'd' THEN type.typbasetype
                                           WHEN type.typcategory = 'A' THEN type.typelem END
    )
    SELECT typname, typtype FROM type WHERE typtype <> 'd' AND typcategory <> 'A'
) AS base
WHERE attrelid = to_regclass(%(table)s) AND attnum > 0 AND NOT attisdropped AND attname = ANY (%(columns)s);
