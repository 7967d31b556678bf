-- Dead letters: items that are FAILED, and not due again. A query is `failed`, then `page`, `count` or `replay`; `heal` and
-- `heal_to_probe` are queries of their own.

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

-- name: heal
-- Items that FAILED for a passing cause get another try.
INSERT INTO reindexer.due (source, item_id, generation, lane, doubtful, losses, changed_at)
-- What killed its workers until it FAILED gets one try, not all of them again.
-- guard suspect-retry-after-heal
SELECT ledger.source, ledger.item_id, ledger.generation, 'bulk', true, greatest(0, ledger.losses - 1), ledger.changed_at
FROM reindexer.ledger JOIN reindexer.generation
    ON generation.source = ledger.source AND generation.number = ledger.generation AND state NOT IN ('broken', 'dropped')
WHERE ledger.outcome = 'FAILED' AND ledger.heal_at <= statement_timestamp() -- guard heal-passing-failure
ORDER BY ledger.source, ledger.item_id, ledger.generation
LIMIT %(limit)s
ON CONFLICT (source, item_id, generation) DO NOTHING
RETURNING item_id;

-- name: heal_to_probe
-- While a breaker is open and nothing else is due that could be its probe, an item that failed is: nobody would find out
-- otherwise that the dependency is back before the item's time, which may be a quarter of an hour away.
WITH lonely AS MATERIALIZED (
    SELECT dependency, account FROM reindexer.breaker
    WHERE opened_at IS NOT NULL AND probe_at <= statement_timestamp() AND NOT EXISTS (
        SELECT FROM reindexer.due JOIN reindexer.source ON source.name = due.source
        JOIN reindexer.generation ON generation.source = due.source AND generation.number = due.generation
        WHERE NOT source.paused AND due.not_before <= statement_timestamp()
            AND (breaker.dependency = 'qdrant' OR generation.account = breaker.account))
)
INSERT INTO reindexer.due (source, item_id, generation, lane, doubtful, losses, changed_at)
-- guard suspect-retry-after-heal
SELECT ledger.source, ledger.item_id, ledger.generation, 'bulk', true, greatest(0, ledger.losses - 1), ledger.changed_at
FROM reindexer.ledger JOIN reindexer.source ON source.name = ledger.source AND NOT source.paused
JOIN reindexer.generation
    ON generation.source = ledger.source AND generation.number = ledger.generation AND state NOT IN ('broken', 'dropped')
WHERE ledger.outcome = 'FAILED' AND ledger.heal_at IS NOT NULL
    AND EXISTS (SELECT FROM lonely WHERE dependency = 'qdrant' OR account = generation.account)
ORDER BY ledger.losses, ledger.heal_at
LIMIT 1
ON CONFLICT (source, item_id, generation) DO NOTHING
RETURNING item_id;
