-- What the leader does on a timer.

-- name: heal
-- Items that FAILED for a passing cause get another try.
INSERT INTO reindexer.due (source, item_id, generation, lane, doubtful, losses, changed_at)
-- What killed its workers until it FAILED gets one try, not all of them again.
-- guard suspect-retry-after-heal
SELECT ledger.source, ledger.item_id, ledger.generation, 'bulk', true, greatest(0, ledger.losses - 1), ledger.changed_at
FROM reindexer.ledger JOIN reindexer.source
    ON source.name = ledger.source AND source.generation = ledger.generation
WHERE ledger.outcome = 'FAILED' AND ledger.heal_at <= clock_timestamp() -- guard heal-passing-failure
ORDER BY ledger.source, ledger.item_id
LIMIT %(limit)s
ON CONFLICT (source, item_id, generation) DO NOTHING
RETURNING item_id;

-- name: recheck
-- Items without a point, which a late write of an earlier claim may have made again.
INSERT INTO reindexer.due (source, item_id, generation, lane)
SELECT ledger.source, ledger.item_id, ledger.generation, 'bulk'
FROM reindexer.ledger JOIN reindexer.source
    ON source.name = ledger.source AND source.generation = ledger.generation
WHERE ledger.recheck_at <= clock_timestamp() -- guard doubt-deletion-recheck
ORDER BY ledger.source, ledger.item_id
LIMIT %(limit)s
ON CONFLICT (source, item_id, generation) DO NOTHING
RETURNING item_id;

-- name: heal_to_probe
-- While a breaker is open and nothing else is due that could be its probe, an item that failed is: nobody would find out
-- otherwise that the dependency is back before the item's time, which may be a quarter of an hour away.
WITH lonely AS MATERIALIZED (
    SELECT dependency, account FROM reindexer.breaker
    WHERE opened_at IS NOT NULL AND probe_at <= clock_timestamp() AND NOT EXISTS (
        SELECT FROM reindexer.due JOIN reindexer.source ON source.name = due.source
        JOIN reindexer.generation ON generation.source = due.source AND generation.number = due.generation
        WHERE NOT source.paused AND due.not_before <= clock_timestamp()
            AND (breaker.dependency = 'qdrant' OR generation.account = breaker.account))
)
INSERT INTO reindexer.due (source, item_id, generation, lane, doubtful, losses, changed_at)
-- guard suspect-retry-after-heal
SELECT ledger.source, ledger.item_id, ledger.generation, 'bulk', true, greatest(0, ledger.losses - 1), ledger.changed_at
FROM reindexer.ledger JOIN reindexer.source
    ON source.name = ledger.source AND source.generation = ledger.generation AND NOT source.paused
JOIN reindexer.generation ON generation.source = ledger.source AND generation.number = ledger.generation
WHERE ledger.outcome = 'FAILED' AND ledger.heal_at IS NOT NULL
    AND EXISTS (SELECT FROM lonely WHERE dependency = 'qdrant' OR account = generation.account)
ORDER BY ledger.losses, ledger.heal_at
LIMIT 1
ON CONFLICT (source, item_id, generation) DO NOTHING
RETURNING item_id;

-- name: forget_requests
DELETE FROM reindexer.request WHERE finished_at < clock_timestamp() - make_interval(days => %(days)s);

-- name: forget_deleted
-- Not before its last recheck, which waits where a source is paused.
DELETE FROM reindexer.ledger
WHERE outcome = 'DELETED' AND settled_at < clock_timestamp() - make_interval(days => %(days)s) AND recheck_at IS NULL;

-- name: forget_long_keys
DELETE FROM reindexer.long_key
WHERE noted_at < clock_timestamp() - make_interval(days => %(days)s)
    AND NOT EXISTS (SELECT FROM reindexer.due WHERE due.source = long_key.source AND due.item_id = long_key.item_id)
    AND NOT EXISTS (SELECT FROM reindexer.ledger WHERE ledger.source = long_key.source AND ledger.item_id = long_key.item_id);
