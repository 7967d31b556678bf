-- Lag: what waits, where, and how old the oldest change of it is. Each query reads its small, hot table once; the ledger
-- only by its index of what FAILED. All but `outbox` speak of the generations that searches use: what another waits for
-- hides nothing of theirs.

-- name: outbox
-- And values of related tables whose items are still to be found.
SELECT count(*) AS changes, extract(epoch FROM clock_timestamp() - min(changed_at))::double precision AS oldest_age_s
FROM (SELECT changed_at FROM reindexer.outbox UNION ALL SELECT changed_at FROM reindexer.fan_out) AS waiting;

-- name: due
SELECT due.source, lane,
       count(*) FILTER (WHERE lease_until > clock_timestamp()) AS claimed,
       count(*) FILTER (WHERE not_before <= clock_timestamp() AND NOT held_up) AS ready,
       count(*) FILTER (WHERE (not_before > clock_timestamp() OR held_up) AND (lease_until IS NULL OR lease_until <= clock_timestamp()))
           AS waiting,
       extract(epoch FROM clock_timestamp() - min(least(changed_at, later_changed_at)))::double precision AS oldest_age_s,
       extract(epoch FROM clock_timestamp() - min(least(changed_at, later_changed_at)) FILTER (WHERE may_revoke)
       )::double precision AS revoked_age_s
FROM (
    -- Held up: marked, while its provider is left alone or its budget is used up. May revoke: it is not known that only an embedding is left to do;
    -- but what a first fill alone has made due has no point yet.
    SELECT due.*, marked AND ((source, generation) IN (
               SELECT source, number FROM reindexer.generation JOIN reindexer.breaker USING (account)
               WHERE dependency = 'provider' AND opened_at IS NOT NULL)
               OR (source, generation, lane) IN (SELECT source, generation, lane FROM reindexer.over_budget)) AS held_up,
           NOT marked AND NOT (version = 1 AND coalesce(run_id, 0) IN (
               SELECT id FROM reindexer.run WHERE kind = 'first_fill' AND finished_at IS NULL)) AS may_revoke
    FROM reindexer.due
) AS due
-- guard backlog-active-generation
JOIN reindexer.source ON source.name = due.source AND source.generation = due.generation
GROUP BY due.source, lane;

-- name: runs
-- The change that a walk over a whole source brings to Qdrant waits until its last item is settled.
SELECT kind, count(*) AS open, count(*) FILTER (WHERE paused_at IS NULL) AS running,
       extract(epoch FROM clock_timestamp() - min(coalesce(changed_at, started_at)) FILTER (WHERE kind <> 'backfill')
       )::double precision AS oldest_age_s
FROM reindexer.run JOIN reindexer.source ON source.name = run.source
    AND source.generation = coalesce(run.generation, source.generation)
WHERE finished_at IS NULL
GROUP BY kind;

-- name: failed
SELECT ledger.source,
       count(*) FILTER (WHERE heal_at IS NULL) AS failed,
       count(heal_at) AS healing,
       extract(epoch FROM clock_timestamp() - min(ledger.changed_at) FILTER (WHERE heal_at IS NOT NULL))::double precision
           AS oldest_age_s,
       -- With the payload's fingerprint it was its embedding that failed: all else is as the row was.
       extract(epoch FROM clock_timestamp() - min(ledger.changed_at)
           FILTER (WHERE heal_at IS NOT NULL AND payload_fingerprint IS NULL))::double precision AS revoked_age_s
FROM reindexer.ledger JOIN reindexer.source ON source.name = ledger.source AND source.generation = ledger.generation
WHERE outcome = 'FAILED'
GROUP BY ledger.source;

-- name: as_of
-- The earliest change that waits; and when the generation was made. If none waits, the moment at which the statement
-- arrived: what was committed by then, it sees.
SELECT least(
           statement_timestamp(),
           (SELECT min(changed_at) FROM reindexer.outbox WHERE source = %(source)s), -- guard as-of-outbox
           (SELECT min(changed_at) FROM reindexer.fan_out WHERE source = %(source)s), -- guard as-of-fan-out
           (SELECT min(least(changed_at, later_changed_at)) FROM reindexer.due
            WHERE source = %(source)s AND generation = %(generation)s), -- guard as-of-due
           (SELECT min(changed_at) FROM reindexer.ledger
            WHERE source = %(source)s AND generation = %(generation)s AND outcome = 'FAILED' AND heal_at IS NOT NULL) -- guard as-of-heals
       ), created_at
FROM reindexer.generation WHERE source = %(source)s AND number = %(generation)s;

-- name: as_of_filled
-- When the generation was made, if it is filled and nobody looks at all of its rows: that brings what no change told of,
-- and a lost collection is written anew by such a run, or by a forced backfill. Nothing on a standby, which may not know
-- yet what was committed on its primary.
SELECT created_at FROM reindexer.generation
WHERE source = %(source)s AND number = %(generation)s
    AND state <> 'filling' AND NOT pg_is_in_recovery() -- guard as-of-filled
    AND NOT EXISTS (
        SELECT FROM reindexer.run
        WHERE run.source = %(source)s AND coalesce(run.generation, %(generation)s) = %(generation)s
            AND finished_at IS NULL AND (kind <> 'backfill' OR force)); -- guard as-of-no-walk

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
-- a generation that has a problem wait for that to end.
SELECT extract(epoch FROM clock_timestamp() - min(ready.not_before))::double precision AS ready_s
FROM reindexer.source
JOIN reindexer.generation ON generation.source = source.name AND generation.number = source.generation
CROSS JOIN unnest(%(lanes)s::text[]) AS lanes (lane)
CROSS JOIN LATERAL (
    (
        SELECT not_before FROM reindexer.due
        WHERE due.source = generation.source AND due.generation = generation.number AND due.lane = lanes.lane AND NOT marked
            AND not_before <= clock_timestamp() - make_interval(secs => %(long_s)s)
        ORDER BY not_before LIMIT 1
    ) UNION ALL (
        SELECT not_before FROM reindexer.due
        WHERE due.source = generation.source AND due.generation = generation.number AND due.lane = lanes.lane AND marked
            AND not_before <= clock_timestamp() - make_interval(secs => %(long_s)s)
            AND NOT EXISTS (SELECT FROM reindexer.over_budget AS over
                            WHERE over.source = due.source AND over.generation = due.generation AND over.lane = due.lane)
        ORDER BY not_before LIMIT 1
    )
) AS ready
WHERE NOT source.paused AND generation.problem IS NULL
    AND NOT EXISTS (SELECT FROM reindexer.due WHERE lease_until > clock_timestamp())
    AND NOT EXISTS (
        SELECT FROM reindexer.counter
        WHERE name = ANY (%(signs_of_work)s) AND added_at > clock_timestamp() - make_interval(secs => %(long_s)s)
    );
