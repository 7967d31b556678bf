-- Lag: what waits, where, and how old the oldest change of it is. Each query reads its small, hot table once; the ledger
-- only by its index of what FAILED.

-- name: outbox
SELECT count(*) AS changes, extract(epoch FROM clock_timestamp() - min(changed_at))::double precision AS oldest_age_s
FROM reindexer.outbox;

-- name: due
SELECT source, lane,
       count(*) FILTER (WHERE lease_until > clock_timestamp()) AS claimed,
       count(*) FILTER (WHERE not_before <= clock_timestamp()) AS ready,
       count(*) FILTER (WHERE not_before > clock_timestamp() AND (lease_until IS NULL OR lease_until <= clock_timestamp()))
           AS waiting,
       extract(epoch FROM clock_timestamp() - min(least(changed_at, later_changed_at)))::double precision AS oldest_age_s
FROM reindexer.due
GROUP BY source, lane;

-- name: runs
-- The change that a walk over a whole source brings to Qdrant waits until its last item is settled.
SELECT kind, count(*) AS open, count(*) FILTER (WHERE paused_at IS NULL) AS running,
       extract(epoch FROM clock_timestamp() - min(coalesce(changed_at, started_at)) FILTER (WHERE kind <> 'backfill')
       )::double precision AS oldest_age_s
FROM reindexer.run
WHERE finished_at IS NULL
GROUP BY kind;

-- name: failed
SELECT ledger.source,
       count(*) FILTER (WHERE heal_at IS NULL) AS failed,
       count(heal_at) AS healing,
       extract(epoch FROM clock_timestamp() - min(ledger.changed_at) FILTER (WHERE heal_at IS NOT NULL))::double precision
           AS oldest_age_s
FROM reindexer.ledger JOIN reindexer.source ON source.name = ledger.source AND source.generation = ledger.generation
WHERE outcome = 'FAILED'
GROUP BY ledger.source;

-- name: completed
-- Counted no further than %(exact)s.
SELECT count(*) FROM (
    SELECT FROM reindexer.ledger
    WHERE source = %(source)s AND generation = %(generation)s AND outcome = 'COMPLETED'
    LIMIT %(exact)s
) AS counted;

-- name: completed_estimate
-- What the planner thinks, without counting.
EXPLAIN (FORMAT JSON) SELECT FROM reindexer.ledger
WHERE source = %(source)s AND generation = %(generation)s AND outcome = 'COMPLETED';

-- name: neglected
-- Since when an item could be claimed, if that is long, while no claim holds anything and none has been settled. Items of
-- a source that has a problem wait for that to end.
SELECT extract(epoch FROM clock_timestamp() - min(ready.not_before))::double precision AS ready_s
FROM reindexer.source
CROSS JOIN unnest(%(lanes)s::text[]) AS lanes (lane)
CROSS JOIN LATERAL (
    SELECT not_before FROM reindexer.due
    WHERE due.source = source.name AND due.lane = lanes.lane
        AND not_before <= clock_timestamp() - make_interval(secs => %(long_s)s)
    ORDER BY not_before LIMIT 1
) AS ready
WHERE NOT source.paused AND source.problem IS NULL
    AND NOT EXISTS (SELECT FROM reindexer.due WHERE lease_until > clock_timestamp())
    AND NOT EXISTS (
        SELECT FROM reindexer.counter
        WHERE name = ANY (%(signs_of_work)s) AND added_at > clock_timestamp() - make_interval(secs => %(long_s)s)
    );
