-- Reindex requests: "embed this item again, and tell me under this task id what became of it".

-- name: record
-- The due row and the request are one statement: a request never exists without work that will answer it. It waits for
-- the disk, whatever the database does by default: who is told a task id must find it again.
WITH wanted AS MATERIALIZED (
    SELECT task_id, CASE WHEN octet_length(item_id) > 650 THEN reindexer.noted_name(%(source)s, item_id) ELSE item_id END AS item_id
    FROM unnest(%(task_ids)s::text[], %(item_ids)s::text[]) AS wanted (task_id, item_id)
), queued AS (
    INSERT INTO reindexer.due AS due (source, item_id, generation, lane, forced_version)
    SELECT source.name, wanted.item_id, source.generation, %(lane)s, 1
    FROM wanted JOIN reindexer.source ON source.name = %(source)s
    WHERE NOT EXISTS (SELECT FROM reindexer.request WHERE request.task_id = wanted.task_id)
    ORDER BY source.name, wanted.item_id -- guard request-lock-order
    ON CONFLICT (source, item_id, generation) DO UPDATE SET
        version = due.version + 1, marked = false,
        forced_version = due.version + 1,
        -- What was embedded before the request does not fulfil it, but lies in Qdrant.
        begun_upto = CASE WHEN due.begun_upto IS NOT NULL THEN 0 END, -- guard request-begun-reset
        attempts = CASE WHEN due.lease_until IS NULL THEN 0 ELSE due.attempts END,
        not_before = CASE WHEN due.lease_until IS NULL THEN excluded.not_before ELSE due.not_before END,
        waits_for = NULL
    RETURNING source, item_id, generation, version
)
INSERT INTO reindexer.request (task_id, source, item_id, generation, due_version, sent_at)
SELECT wanted.task_id, queued.source, queued.item_id, queued.generation, queued.version, %(sent_at)s::timestamptz
FROM wanted JOIN queued USING (item_id)
ON CONFLICT (task_id) DO NOTHING
RETURNING task_id, set_config('synchronous_commit', 'on', true); -- guard wal-request-durable

-- name: of_item
-- The latest requests for one item.
SELECT task_id, succeeded, error, created_at, finished_at FROM reindexer.request
WHERE source = %(source)s AND item_id = %(item_id)s
ORDER BY created_at DESC
LIMIT %(limit)s;

-- name: task
-- What became of one task id. STARTED: a claim holds the item. RETRY: it was tried and waits, be it that the try did not
-- count (the provider's 429).
SELECT request.task_id, request.source, request.item_id, request.error,
       CASE
           WHEN request.succeeded THEN 'SUCCESS'
           WHEN NOT request.succeeded THEN 'FAILURE'
           WHEN due.lease_until > clock_timestamp() THEN 'STARTED'
           WHEN due.attempts > 0 OR due.waits_for IS NOT NULL THEN 'RETRY'
           ELSE 'PENDING'
       END AS state,
       due.waits_for
FROM reindexer.request
LEFT JOIN reindexer.due ON due.source = request.source AND due.item_id = request.item_id
    AND due.generation = request.generation
WHERE request.task_id = %(task_id)s;

-- name: unreported
-- Outcomes that are not known to be stored under their task ids: the result backend was away, or the process that should
-- have told it died.
SELECT task_id, item_id, error FROM reindexer.request
WHERE told_at IS NULL AND finished_at <= clock_timestamp() - make_interval(secs => %(older_s)s)
ORDER BY finished_at
LIMIT %(limit)s
FOR UPDATE SKIP LOCKED;

-- name: mark_reported
UPDATE reindexer.request SET told_at = clock_timestamp() WHERE task_id = ANY (%(task_ids)s);
