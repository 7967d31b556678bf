-- What a plan of changes looks at.

-- name: row_sizes
-- Bytes a row takes, with its indexes. NULL: too few rows to tell.
SELECT (SELECT pg_total_relation_size(oid) / nullif(reltuples, 0) FROM pg_class
        WHERE oid = 'reindexer.ledger'::regclass AND reltuples > 1000) AS ledger,
       (SELECT pg_total_relation_size(oid) / nullif(reltuples, 0) FROM pg_class
        WHERE oid = 'reindexer.due'::regclass AND reltuples > 1000) AS due;

-- name: collection_noted
-- Whether a worker has made the collection of the generation that searches use.
SELECT generation.collection_id IS NOT NULL OR EXISTS (
    SELECT FROM reindexer.ledger
    WHERE ledger.source = generation.source AND ledger.generation = generation.number AND chunks > 0)
FROM reindexer.generation WHERE generation.source = %(source)s AND number = %(generation)s;
