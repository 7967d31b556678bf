-- Dead letters: items that are FAILED, and not due again. A query is `failed`, then what is done with it.

-- name: failed
WITH failed AS (
    SELECT ledger.source, ledger.item_id, ledger.generation, ledger.error, ledger.attempts, ledger.changed_at,
           ledger.settled_at AS failed_at, ledger.heal_at AS heals_at
    FROM reindexer.ledger
    JOIN reindexer.source ON source.name = ledger.source AND source.generation = ledger.generation
    WHERE ledger.outcome = 'FAILED'
        AND (%(source)s::text IS NULL OR ledger.source = %(source)s)
        AND (%(item_id)s::text IS NULL OR ledger.item_id = %(item_id)s)
        AND (%(error)s::text IS NULL OR position(lower(%(error)s) IN lower(ledger.error)) > 0)
        AND (%(after_source)s::text IS NULL OR (ledger.source, ledger.item_id) > (%(after_source)s, %(after_item)s))
        AND NOT EXISTS (
            SELECT FROM reindexer.due WHERE due.source = ledger.source AND due.item_id = ledger.item_id
                AND due.generation = ledger.generation)
)

-- name: page
SELECT source, item_id, error, attempts, failed_at, heals_at FROM failed ORDER BY source, item_id LIMIT %(limit)s;

-- name: count
SELECT count(*) FROM failed;

-- name: replay
-- Doubtful, as all that failed: what lies in Qdrant is not known.
, page AS MATERIALIZED (
    SELECT * FROM failed ORDER BY source, item_id LIMIT %(limit)s
), queued AS (
    INSERT INTO reindexer.due (source, item_id, generation, lane, doubtful, changed_at)
    SELECT source, item_id, generation, 'bulk', true, changed_at FROM page
    ORDER BY source, item_id
    ON CONFLICT (source, item_id, generation) DO NOTHING
    RETURNING 1
)
SELECT source, item_id, (SELECT count(*) FROM page) AS looked_at, (SELECT count(*) FROM queued) AS queued
FROM page ORDER BY source DESC, item_id DESC LIMIT 1;
