-- Marks: what is left of a writer's transaction before all that it wrote is indexed.

-- name: states
SELECT token, state FROM reindexer.mark_states(%(tokens)s);

-- name: left
SELECT source, item_id, failed, reason FROM reindexer.mark_left(%(token)s, %(most)s);

-- name: item_states
-- Of items by their ids. What may lead to an item that is not known yet counts for each item of its source.
WITH asked AS MATERIALIZED (
    SELECT DISTINCT source, item_id FROM unnest(%(sources)s::text[], %(item_ids)s::text[]) AS asked (source, item_id)
), undrained AS MATERIALIZED (
    SELECT source, CASE WHEN related IS NULL THEN item_id END AS item_id FROM reindexer.outbox
    WHERE source IN (SELECT source FROM asked)
    GROUP BY 1, 2
), looked_up AS MATERIALIZED (
    SELECT source FROM undrained WHERE item_id IS NULL
    UNION SELECT source FROM reindexer.fan_out
    UNION SELECT source FROM reindexer.run WHERE kind = 'whole_source' AND finished_at IS NULL
)
SELECT asked.source, asked.item_id,
    CASE
        WHEN looked_up.source IS NOT NULL OR undrained.source IS NOT NULL OR its.is_due THEN 'waiting'
        WHEN ledger.outcome = 'FAILED' THEN 'failed'
        ELSE 'indexed'
    END AS state,
    CASE
        WHEN looked_up.source IS NOT NULL THEN 'items are looked up, or all rows of the source are looked at'
        WHEN undrained.source IS NOT NULL THEN 'a change is not drained yet'
        WHEN its.is_due THEN CASE WHEN its.paused THEN 'the source is paused' ELSE its.reason END
        ELSE ledger.error
    END AS reason
FROM asked JOIN reindexer.source ON source.name = asked.source
LEFT JOIN looked_up ON looked_up.source = asked.source
LEFT JOIN undrained ON undrained.source = asked.source AND undrained.item_id = asked.item_id
LEFT JOIN reindexer.ledger ON ledger.source = asked.source AND ledger.item_id = asked.item_id
    AND ledger.generation = source.generation
LEFT JOIN LATERAL (
    SELECT true AS is_due, source.paused,
           coalesce(due.waits_for, generation.problem, 'it waits for a worker, or is being worked on') AS reason
    FROM reindexer.due JOIN reindexer.awaited USING (source, generation)
    JOIN reindexer.generation ON generation.source = due.source AND generation.number = due.generation
    WHERE due.source = asked.source AND due.item_id = asked.item_id
    LIMIT 1
) AS its ON true;

-- name: places
-- The traces that claimed items were written in, the oldest transaction first. LATERAL and OFFSET: looked up item by item.
-- A writer may have given any text: of the wrong length it is none, and is not even read.
SELECT asked.item_id, its.traceparent
FROM unnest(%(item_ids)s::text[], %(versions)s::bigint[]) AS asked (item_id, version)
CROSS JOIN LATERAL (
    SELECT note.xact FROM reindexer.note
    WHERE note.source = %(source)s AND note.item_id = asked.item_id AND note.generation = %(generation)s
        AND note.version <= asked.version -- guard trace-own-version
    LIMIT %(most)s
) AS noted
CROSS JOIN LATERAL (
    SELECT traceparent FROM reindexer.mark
    WHERE mark.xact = noted.xact AND octet_length(traceparent) BETWEEN 55 AND 512
    OFFSET 0
) AS its
ORDER BY noted.xact, asked.item_id
LIMIT %(most)s;

-- name: awaited_runs
SELECT EXISTS (SELECT FROM reindexer.note JOIN reindexer.run ON run.id = note.run
               WHERE note.run IS NOT NULL AND run.state IN ('working', 'finished'));

-- name: hand_over_runs
-- Every page of these runs is queued, so that what is due now is all that is left. Locked, so that nobody claims or settles
-- it before this commits: who settles it sees the note. Of what is claimed the version grows, which a settle that waits for
-- the lock, and does not see the note, must notice.
WITH through AS MATERIALIZED (
    SELECT DISTINCT run.id, run.source, run.started_at FROM reindexer.note JOIN reindexer.run ON run.id = note.run
    WHERE note.run IS NOT NULL AND run.state IN ('working', 'finished')
), heir AS (
    INSERT INTO reindexer.mark (xact) SELECT pg_current_xact_id() WHERE EXISTS (SELECT FROM through)
    ON CONFLICT (xact) DO NOTHING
), waiting AS MATERIALIZED (
    SELECT due.source, due.item_id, due.generation, due.lease_until IS NOT NULL AS claimed
    FROM reindexer.due WHERE source IN (SELECT source FROM through)
    ORDER BY source, item_id, generation
    FOR UPDATE
), grown AS (
    UPDATE reindexer.due SET version = version + 1 FROM waiting -- guard mark-run-claimed
    WHERE due.source = waiting.source AND due.item_id = waiting.item_id AND due.generation = waiting.generation AND claimed
    RETURNING due.source, due.item_id, due.generation, due.version
), noted AS (
    INSERT INTO reindexer.note (xact, source, item_id, generation, version, error)
    SELECT pg_current_xact_id(), source, item_id, generation, coalesce(version, 0), NULL
    FROM waiting LEFT JOIN grown USING (source, item_id, generation)
    UNION ALL
    SELECT pg_current_xact_id(), source, item_id, generation, 0, coalesce(ledger.error, 'it failed')
    FROM through JOIN reindexer.ledger USING (source)
    WHERE outcome = 'FAILED' AND settled_at >= started_at
        AND NOT EXISTS (
            SELECT FROM waiting WHERE waiting.source = ledger.source AND waiting.item_id = ledger.item_id
                AND waiting.generation = ledger.generation)
)
, handed AS (
    UPDATE reindexer.note SET run = NULL, follows = pg_current_xact_id() FROM through
    WHERE note.run = through.id
    RETURNING 1
)
SELECT pg_notify(%(channel)s, '') WHERE EXISTS (SELECT FROM handed); -- nothing may be due any more

-- name: follow
-- Items of these values of a related table are recorded by this transaction: who waits for the values waits for it.
WITH waiting AS MATERIALIZED (
    SELECT DISTINCT xact FROM reindexer.note
    WHERE source = %(source)s AND related = %(related)s AND item_id = ANY (%(values)s::text[]) AND generation IS NULL
), heir AS (
    -- Its items are followed in the oldest trace of those who wait.
    INSERT INTO reindexer.mark (xact, traceparent)
    SELECT pg_current_xact_id(), (
        SELECT its.traceparent FROM waiting CROSS JOIN LATERAL (
            SELECT traceparent FROM reindexer.mark
            WHERE mark.xact = waiting.xact AND octet_length(traceparent) BETWEEN 55 AND 512 OFFSET 0
        ) AS its
        ORDER BY waiting.xact LIMIT 1
    )
    WHERE EXISTS (SELECT FROM waiting)
    ON CONFLICT (xact) DO NOTHING
)
INSERT INTO reindexer.note (xact, source, follows)
SELECT xact, %(source)s, pg_current_xact_id() FROM waiting;

-- name: forget_values
WITH gone AS (
    DELETE FROM reindexer.note
    WHERE source = %(source)s AND related = %(related)s AND item_id = ANY (%(values)s::text[]) AND generation IS NULL
    RETURNING 1
)
SELECT pg_notify(%(channel)s, '') WHERE EXISTS (SELECT FROM gone);

-- name: forget
-- An hour after nothing is left of them; a week after they were made, whatever is left. One of our own goes once nobody
-- follows it any more.
WITH old AS MATERIALIZED (
    SELECT xact, marked_at < clock_timestamp() - make_interval(secs => %(at_most_s)s) AS too_old FROM reindexer.mark
    WHERE marked_at < clock_timestamp() - make_interval(secs => %(keep_s)s)
    LIMIT %(limit)s
), followed AS MATERIALIZED (
    SELECT xact AS whose, xact FROM old
    UNION
    SELECT old.xact, note.follows FROM old JOIN reindexer.note USING (xact) WHERE note.follows IS NOT NULL
), busy AS MATERIALIZED (
    SELECT whose FROM followed WHERE xact IN (SELECT outbox.xact FROM reindexer.outbox) -- guard mark-forget-undrained
    UNION
    SELECT whose FROM followed JOIN reindexer.note USING (xact)
    LEFT JOIN reindexer.awaited USING (source, generation)
    WHERE note.follows IS NULL AND (note.generation IS NULL OR awaited.source IS NOT NULL) -- guard mark-forget-left
    UNION
    SELECT follows FROM reindexer.note WHERE follows IS NOT NULL
), gone AS (
    DELETE FROM reindexer.mark USING old
    WHERE mark.xact = old.xact AND (too_old OR old.xact NOT IN (SELECT whose FROM busy))
    RETURNING mark.xact
)
DELETE FROM reindexer.note USING gone WHERE note.xact = gone.xact;
