-- What the leader does on a timer.

-- name: recheck
-- Items without a point, which a late write of an earlier claim may have made again. (Not clock_timestamp(), which no index
-- can be asked for: the whole ledger would be read.)
INSERT INTO reindexer.due (source, item_id, generation, lane)
SELECT ledger.source, ledger.item_id, ledger.generation, 'bulk'
FROM reindexer.ledger JOIN reindexer.generation
    ON generation.source = ledger.source AND generation.number = ledger.generation AND state NOT IN ('broken', 'dropped')
WHERE ledger.recheck_at <= statement_timestamp() -- guard doubt-deletion-recheck
ORDER BY ledger.source, ledger.item_id, ledger.generation
LIMIT %(limit)s
ON CONFLICT (source, item_id, generation) DO NOTHING
RETURNING item_id;

-- name: forget_requests
DELETE FROM reindexer.request WHERE finished_at < clock_timestamp() - make_interval(days => %(days)s);

-- name: forget_deleted
-- Not before its last recheck, which waits where a source is paused. One that is to be forgotten, right after it.
DELETE FROM reindexer.ledger
WHERE outcome = 'DELETED' AND recheck_at IS NULL
    -- guard forget-after-recheck
    AND (forgotten_at IS NOT NULL OR settled_at < clock_timestamp() - make_interval(days => %(days)s));

-- name: forget_long_keys
DELETE FROM reindexer.long_key
WHERE noted_at < clock_timestamp() - make_interval(days => %(days)s)
    AND NOT EXISTS (SELECT FROM reindexer.due WHERE due.source = long_key.source AND due.item_id = long_key.item_id)
    AND NOT EXISTS (SELECT FROM reindexer.ledger WHERE ledger.source = long_key.source AND ledger.item_id = long_key.item_id);
