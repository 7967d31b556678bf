-- What the page draws: a row a minute of each source, and of all together (whose name is empty).

-- name: record
-- Not a second time in a minute, whoever leads. What a clock that was ahead has written is no past, and goes.
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now, date_trunc('minute', clock_timestamp()) AS minute
), known AS MATERIALIZED (
    SELECT name, generation FROM reindexer.source ORDER BY name LIMIT %(sources)s
), ahead AS (
    DELETE FROM reindexer.history USING clock
    WHERE source IN (SELECT '' UNION ALL SELECT name FROM known) AND history.minute > clock.minute -- guard history-clock-ahead
), lanes AS (
    SELECT labels::jsonb ->> 'lane' AS lane, coalesce(sum(value) FILTER (WHERE name = %(settled)s), 0) AS settled
    FROM reindexer.counter WHERE name IN (%(settled)s, %(freshness)s) GROUP BY 1
), fresh AS (
    SELECT lane, jsonb_object_agg(bound, value) AS within
    FROM (
        SELECT labels::jsonb ->> 'lane' AS lane, labels::jsonb ->> 'le' AS bound, sum(value) AS value
        FROM reindexer.counter WHERE name = %(freshness)s GROUP BY 1, 2
    ) AS bucket
    GROUP BY lane
), embedded AS (
    SELECT labels::jsonb ->> 'source' AS source, coalesce(sum(value) FILTER (WHERE name = %(texts)s), 0) AS texts,
           coalesce(sum(value) FILTER (WHERE name = %(tokens)s), 0) AS tokens
    FROM reindexer.counter WHERE name IN (%(texts)s, %(tokens)s) GROUP BY 1
), arrived AS (
    SELECT count(*) AS changes, min(changed_at) AS oldest
    FROM (SELECT changed_at FROM reindexer.outbox UNION ALL SELECT changed_at FROM reindexer.fan_out) AS waiting
), due AS (
    SELECT due.source, count(*) AS items, min(least(changed_at, later_changed_at)) AS oldest
    FROM reindexer.due JOIN reindexer.source ON name = due.source AND source.generation = due.generation
    GROUP BY due.source
), failed AS (
    SELECT ledger.source, count(*) AS items, min(changed_at) FILTER (WHERE heal_at IS NOT NULL) AS oldest
    FROM reindexer.ledger JOIN reindexer.source ON name = ledger.source AND source.generation = ledger.generation
    WHERE outcome = 'FAILED'
    GROUP BY ledger.source
), walking AS (
    SELECT run.source, min(coalesce(changed_at, started_at)) AS oldest
    FROM reindexer.run JOIN reindexer.source ON name = run.source
        AND source.generation = coalesce(run.generation, source.generation)
    WHERE finished_at IS NULL AND kind <> 'backfill'
    GROUP BY run.source
), every AS (
    SELECT name AS source, coalesce(due.items, 0) AS waiting, coalesce(failed.items, 0) AS failed,
           least(due.oldest, failed.oldest, walking.oldest) AS oldest
    FROM reindexer.source LEFT JOIN due ON due.source = name LEFT JOIN failed ON failed.source = name
        LEFT JOIN walking ON walking.source = name
)
INSERT INTO reindexer.history (source, minute, taken_at, waiting, failed, oldest_s, counted)
SELECT told.source, clock.minute, clock.now, told.waiting, told.failed,
       greatest(0, coalesce(extract(epoch FROM clock.now - told.oldest), 0)), told.counted
FROM clock, (
    SELECT '' AS source, arrived.changes + coalesce(sum(every.waiting), 0) AS waiting,
           coalesce(sum(every.failed), 0) AS failed, least(arrived.oldest, min(every.oldest)) AS oldest,
           (SELECT coalesce(jsonb_object_agg(lane, jsonb_build_object('settled', settled, 'within', coalesce(within, '{}'))), '{}')
            FROM lanes LEFT JOIN fresh USING (lane)) AS counted
    FROM arrived LEFT JOIN every ON true GROUP BY arrived.changes, arrived.oldest
    UNION ALL
    SELECT every.source, every.waiting, every.failed, every.oldest,
           jsonb_build_object('texts', coalesce(texts, 0), 'tokens', coalesce(tokens, 0))
    FROM every JOIN known ON name = every.source LEFT JOIN embedded ON embedded.source = every.source
) AS told
-- guard history-once
WHERE NOT EXISTS (SELECT FROM reindexer.history WHERE source = '' AND history.minute = clock.minute)
ORDER BY told.source
ON CONFLICT (source, minute) DO NOTHING;

-- name: until_next
-- Seconds until the next minute begins.
SELECT (60 - extract(second FROM clock_timestamp()))::double precision;

-- name: forget
-- So many at a time: a clock that is wrong for a moment must not take the whole past.
DELETE FROM reindexer.history WHERE ctid IN (
    SELECT ctid FROM reindexer.history
    WHERE minute < clock_timestamp() - make_interval(days => %(days)s) LIMIT %(limit)s -- guard history-forgotten
);

-- name: read
-- Steps of some minutes: the most that waited in each, and what had been counted by its end.
SELECT date_bin(make_interval(mins => %(step)s), minute, timestamptz '2000-01-01 00:00:00Z') AS at,
       max(waiting) AS waiting, max(failed) AS failed, max(oldest_s) AS oldest_s,
       (array_agg(taken_at ORDER BY minute DESC))[1] AS taken_at, (array_agg(counted ORDER BY minute DESC))[1] AS counted
FROM reindexer.history
WHERE source = %(source)s AND minute <= clock_timestamp()
    AND minute >= date_bin(make_interval(mins => %(step)s), clock_timestamp(), timestamptz '2000-01-01 00:00:00Z')
        - make_interval(hours => %(hours)s, mins => %(step)s)
GROUP BY 1
ORDER BY 1;
