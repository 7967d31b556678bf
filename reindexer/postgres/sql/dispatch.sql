-- How much work there is, and which wishes have no message yet.

-- name: ready
-- Claimable items of each lane, counted no further than %(enough)s: dispatch needs no more. While a breaker is open there
-- is none before it may be probed, and then one.
WITH gate AS MATERIALIZED (
    SELECT count(*) > 0 AS probing, coalesce(bool_and(probe_at <= statement_timestamp()), true) AS passes
    FROM reindexer.breaker WHERE opened_at IS NOT NULL
)
SELECT lane, CASE WHEN NOT gate.passes THEN 0 ELSE (
    SELECT count(*) FROM (
        SELECT FROM reindexer.source
        CROSS JOIN LATERAL (
            SELECT FROM reindexer.due
            WHERE due.source = source.name AND due.lane = lanes.lane AND not_before <= statement_timestamp()
            LIMIT %(enough)s
        ) AS ready
        WHERE NOT source.paused
        LIMIT CASE WHEN (SELECT probing FROM gate) THEN 1 ELSE %(enough)s END
    ) AS bounded
) END AS items
FROM unnest(%(lanes)s::text[]) AS lanes (lane) CROSS JOIN gate;

-- name: unsent
-- Wishes whose message did not leave: the broker was away, or the process that should have sent it died.
SELECT task_id, source, item_id FROM reindexer.request
WHERE sent_at IS NULL AND finished_at IS NULL AND created_at <= clock_timestamp() - make_interval(secs => %(older_s)s)
ORDER BY created_at
LIMIT %(limit)s
FOR UPDATE SKIP LOCKED;

-- name: mark_sent
UPDATE reindexer.request SET sent_at = clock_timestamp() WHERE task_id = ANY (%(task_ids)s);
