-- How much work there is, and which requests have no message yet.

-- name: ready
-- Claimable items of each lane, counted no further than %(enough)s: dispatch needs no more. While a breaker is open there
-- is none before it may be probed, and then one: of all items where it is Qdrant's, of a source's marked ones where it is
-- its provider's (as in the claim's gate).
WITH gate AS MATERIALIZED (
    SELECT count(*) FILTER (WHERE dependency = 'qdrant') > 0 AS probing,
           coalesce(bool_and(probe_at <= statement_timestamp()) FILTER (WHERE dependency = 'qdrant'), true) AS passes,
           coalesce(array_agg(account) FILTER (WHERE dependency = 'provider'), '{}') AS closed,
           coalesce(array_agg(account) FILTER (WHERE dependency = 'provider' AND probe_at > statement_timestamp()), '{}') AS silent
    FROM reindexer.breaker WHERE opened_at IS NOT NULL
)
SELECT lanes.lane, least(ready.items + marked.items, CASE WHEN gate.probing THEN 1 END) AS items, ready.first_ago_s,
       marked.first_ago_s AS marked_first_ago_s
FROM unnest(%(lanes)s::text[], %(begins_ago_s)s::double precision[], %(marked_begins_ago_s)s::double precision[])
    AS lanes (lane, begin_ago_s, marked_begin_ago_s)
CROSS JOIN gate
CROSS JOIN LATERAL (
    SELECT count(*) AS items,
           extract(epoch FROM statement_timestamp() - min(not_before))::double precision AS first_ago_s
    FROM (
        SELECT of_generation.not_before
        FROM reindexer.source JOIN reindexer.generation ON generation.source = source.name
        CROSS JOIN LATERAL (
            SELECT not_before FROM reindexer.due
            WHERE due.source = generation.source AND due.generation = generation.number AND due.lane = lanes.lane
                AND NOT marked
                AND not_before <= statement_timestamp()
                AND not_before >= coalesce(statement_timestamp() - make_interval(secs => lanes.begin_ago_s), '-infinity')
            ORDER BY not_before
            LIMIT %(enough)s
        ) AS of_generation
        WHERE gate.passes AND NOT source.paused AND state NOT IN ('broken', 'dropped') -- guard breaker-dispatch-closed-only
        LIMIT %(enough)s
    ) AS bounded
) AS ready
CROSS JOIN LATERAL (
    SELECT coalesce(sum(of_generation.items), 0) AS items,
           extract(epoch FROM statement_timestamp() - min(of_generation.first))::double precision AS first_ago_s
    FROM reindexer.source JOIN reindexer.generation ON generation.source = source.name
    CROSS JOIN LATERAL (
        SELECT least(count(*), CASE WHEN generation.account = ANY (gate.closed) THEN 1 END) AS items, min(not_before) AS first
        FROM (
            SELECT not_before FROM reindexer.due
            WHERE due.source = generation.source AND due.generation = generation.number AND due.lane = lanes.lane AND marked
                AND not_before <= statement_timestamp()
                AND not_before >= coalesce(statement_timestamp() - make_interval(secs => lanes.marked_begin_ago_s), '-infinity')
            ORDER BY not_before
            LIMIT %(enough)s
        ) AS bounded
    ) AS of_generation
    -- guard breaker-dispatch-silent-provider
    WHERE gate.passes AND NOT source.paused AND state NOT IN ('broken', 'dropped') AND generation.account <> ALL (gate.silent)
        AND NOT EXISTS (SELECT FROM reindexer.over_budget AS over -- guard budget-dispatch-gate
                        WHERE over.source = generation.source AND over.generation = number AND over.lane = lanes.lane)
) AS marked;

-- name: take_unsent
-- Reindex requests whose message did not leave: the broker was away, or the process that should have sent it died. They are marked
-- before they are sent, and not locked meanwhile: who settles their items would wait for the broker, holding the items.
UPDATE reindexer.request SET sent_at = clock_timestamp()
WHERE task_id = ANY (ARRAY(
    SELECT task_id FROM reindexer.request
    WHERE sent_at IS NULL AND finished_at IS NULL AND created_at <= clock_timestamp() - make_interval(secs => %(older_s)s)
    ORDER BY created_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
))
RETURNING task_id, source, item_id;

-- name: give_back_unsent
-- One that is locked is being answered.
UPDATE reindexer.request SET sent_at = NULL
WHERE task_id = ANY (ARRAY(
    SELECT task_id FROM reindexer.request WHERE task_id = ANY (%(task_ids)s) AND finished_at IS NULL FOR UPDATE SKIP LOCKED
));
