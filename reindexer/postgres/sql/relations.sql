-- What the catalog says about the tables of a source's relations. Reads only.

-- name: columns
-- Of a table: their types and collations, and which of them is virtual, made whenever it is read.
SELECT attname::text, format_type(atttypid, NULL), attcollation::bigint, attgenerated = 'v'
FROM pg_attribute
WHERE attrelid = to_regclass(%(table)s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum;

-- name: foreign_keys
-- Those between two tables: columns of the table before, and those of the other that they equal. A key of a table to
-- itself leads from the columns that refer to those that are referred to.
SELECT DISTINCT CASE WHEN leads_on THEN here ELSE there END, CASE WHEN leads_on THEN there ELSE here END
FROM pg_constraint
CROSS JOIN LATERAL (SELECT conrelid = to_regclass(%(before)s)) AS direction (leads_on)
CROSS JOIN LATERAL (
    SELECT array_agg(here.attname::text ORDER BY place), array_agg(there.attname::text ORDER BY place)
    FROM unnest(conkey, confkey) WITH ORDINALITY AS key (here, there, place)
    JOIN pg_attribute AS here ON here.attrelid = conrelid AND here.attnum = key.here
    JOIN pg_attribute AS there ON there.attrelid = confrelid AND there.attnum = key.there
) AS key (here, there)
WHERE contype = 'f' AND (
    conrelid = to_regclass(%(before)s) AND confrelid = to_regclass(%(table)s)
    OR conrelid = to_regclass(%(table)s) AND confrelid = to_regclass(%(before)s))
ORDER BY 1, 2;

-- name: indexes
-- Those by which rows with given values are found: whether each is unique, and its columns in order. NULL stands for an
-- expression, and for a column that the index compares by another collation than the column's own.
SELECT indisunique, array_agg(CASE WHEN attcollation = key."collation" THEN attname::text END ORDER BY place)
FROM pg_index
JOIN pg_class ON pg_class.oid = indexrelid
JOIN pg_am ON pg_am.oid = relam
CROSS JOIN LATERAL unnest(indkey[0:indnkeyatts - 1]::smallint[], indcollation[0:indnkeyatts - 1]::oid[])
    WITH ORDINALITY AS key (attnum, "collation", place)
LEFT JOIN pg_attribute ON attrelid = indrelid AND pg_attribute.attnum = key.attnum AND key.attnum <> 0
WHERE indrelid = to_regclass(%(table)s) AND indisvalid AND indpred IS NULL AND amname IN ('btree', 'hash')
GROUP BY indexrelid, indisunique;

-- name: rows_guessed
-- By the last ANALYZE; 0 or less if there was none.
SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(%(table)s);
