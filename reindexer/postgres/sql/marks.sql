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

-- name: awaited_runs
SELECT EXISTS (SELECT FROM reindexer.note JOIN reindexer.run ON run.id = note.run
               WHERE note.run IS NOT NULL AND run.state IN ('working', 'finished'));

-- name: hand_over_runs
-- Every page of these runs is queued, so that what is due now is all that is left. Locked, so that nobody claims or settles
-- it before this commits. Of what is claimed the version grows: its row was read before, so it is to be claimed again.
WITH through AS MATERIALIZED (
    SELECT DISTINCT run.id, run.source, run.started_at FROM reindexer.note JOIN reindexer.run ON run.id = note.run
    WHERE note.run IS NOT NULL AND run.state IN ('working', 'finished')
), waiting AS MATERIALIZED (
    SELECT due.source, due.item_id, due.generation, due.lease_until IS NOT NULL AS claimed
    FROM reindexer.due WHERE source IN (SELECT source FROM through)
    ORDER BY source, item_id, generation
    FOR UPDATE
), grown AS (
    UPDATE reindexer.due SET version = version + 1 FROM waiting -- guard mark-run-claimed
    WHERE due.source = waiting.source AND due.item_id = waiting.item_id AND due.generation = waiting.generation AND waiting.claimed
), left_over AS (
    SELECT source, item_id, (row_number() OVER (PARTITION BY source) - 1) / %(most)s AS part
    FROM (
        SELECT source, item_id FROM waiting
        UNION
        SELECT source, item_id FROM through JOIN reindexer.ledger USING (source)
        WHERE outcome = 'FAILED' AND settled_at >= started_at
    ) AS each
), kept AS (
    INSERT INTO reindexer.drained (source, within, xacts, item_ids)
    SELECT source, int8range(own.number, own.number, '[]'), array_fill(own.xact, ARRAY[count(*)::integer]), array_agg(item_id)
    FROM left_over CROSS JOIN (SELECT pg_current_xact_id() AS xact, pg_current_xact_id()::text::bigint AS number) AS own
    GROUP BY source, part, own.xact, own.number
), handed AS (
    UPDATE reindexer.note SET run = NULL, follows = pg_current_xact_id() FROM through
    WHERE note.run = through.id
    RETURNING 1
)
SELECT pg_notify(%(channel)s, '') WHERE EXISTS (SELECT FROM handed); -- nothing may be due any more

-- name: follow
-- Items of these values of a related table are recorded by this transaction: who waits for the values waits for it.
WITH waiting AS MATERIALIZED (
    SELECT DISTINCT xact FROM reindexer.note
    WHERE source = %(source)s AND related = %(related)s AND item_id = ANY (%(values)s::text[])
), heir AS (
    -- Its items are followed in the oldest trace of those who wait.
    INSERT INTO reindexer.mark (xact, traceparent)
    SELECT pg_current_xact_id(), its.traceparent FROM waiting CROSS JOIN LATERAL (
        SELECT traceparent FROM reindexer.mark WHERE mark.xact = waiting.xact AND traceparent IS NOT NULL OFFSET 0
    ) AS its
    ORDER BY waiting.xact LIMIT 1
    ON CONFLICT (xact) DO NOTHING
)
INSERT INTO reindexer.note (xact, source, follows)
SELECT xact, %(source)s, pg_current_xact_id() FROM waiting;

-- name: forget_values
WITH gone AS (
    DELETE FROM reindexer.note
    WHERE source = %(source)s AND related = %(related)s AND item_id = ANY (%(values)s::text[])
    RETURNING 1
)
SELECT pg_notify(%(channel)s, '') WHERE EXISTS (SELECT FROM gone);

-- name: forget_settled
-- What drains kept goes once each of its items is settled. Of those that failed it is kept as long as there may be a token;
-- in any case for a week, and then a token of that time is not known any more. The last examined moment, and whether there
-- is more. The size of the ids tells, without reading them, how many items there are.
WITH examined AS MATERIALIZED (
    SELECT moment, source, within, item_ids, settled, drained_at
    FROM (
        SELECT *, sum(pg_column_size(xacts)) OVER (ORDER BY moment) - pg_column_size(xacts) AS bytes_before
        FROM (SELECT * FROM reindexer.drained WHERE moment > %(after)s ORDER BY moment LIMIT %(limit)s) AS next_ones
    ) AS sized
    WHERE bytes_before < 8 * %(most_items)s
), judged AS MATERIALIZED (
    SELECT *, CASE WHEN NOT waits THEN EXISTS (SELECT FROM reindexer.failed_of(source, item_ids, moment) OFFSET 0) END AS failed
    FROM (
        SELECT *, drained_at < clock_timestamp() - make_interval(secs => %(at_most_s)s) AS too_old,
               EXISTS (SELECT FROM reindexer.waiting_of(source, item_ids, moment) OFFSET 0) AS waits -- guard mark-forget-left
        FROM examined OFFSET 0
    ) AS each
), gone AS (
    DELETE FROM reindexer.drained USING judged
    WHERE drained.moment = judged.moment
        AND (too_old OR (NOT waits AND NOT (failed AND EXISTS (
            SELECT FROM reindexer.marker WHERE made_at <= judged.drained_at))))
), kept AS (
    UPDATE reindexer.drained SET
        settled = true,
        (xacts, item_ids) = (
            SELECT coalesce(array_agg(item.xact), '{}'), coalesce(array_agg(item.item_id), '{}')
            FROM unnest(drained.xacts, drained.item_ids) AS item (xact, item_id)
            WHERE item.item_id IN (SELECT failed.item_id FROM reindexer.failed_of(drained.source, drained.item_ids, drained.moment) AS failed))
    FROM judged
    WHERE drained.moment = judged.moment AND NOT too_old AND NOT waits AND failed AND NOT judged.settled
), lost AS MATERIALIZED (
    SELECT max(upper(within) - 1) AS upto FROM judged WHERE too_old AND (waits OR failed)
), untold AS (
    UPDATE reindexer.marker SET forgotten = lost.upto::text::xid8 FROM lost
    WHERE lost.upto IS NOT NULL AND made_by <= lost.upto::text::xid8 AND (forgotten >= lost.upto::text::xid8) IS NOT TRUE
)
SELECT max(moment), EXISTS (SELECT FROM reindexer.drained WHERE moment > (SELECT max(moment) FROM examined)) FROM examined;

-- name: forget
-- A session that marked goes an hour after its end, unless something is left that it may have written; in any case after a
-- week. What leads to items of another transaction goes with them.
WITH late AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM reindexer.outbox
                   WHERE changed_at < clock_timestamp() - make_interval(secs => %(keep_s)s)) -- guard mark-forget-undrained
        OR EXISTS (SELECT FROM reindexer.note WHERE follows IS NULL) AS is_late
), ended AS (
    UPDATE reindexer.marker SET ended_at = clock_timestamp()
    WHERE ended_at IS NULL
        AND pid NOT IN (SELECT pg_stat_activity.pid FROM pg_stat_activity WHERE pg_stat_activity.pid IS NOT NULL) -- guard mark-session-lives
), old AS MATERIALIZED (
    SELECT marker.id FROM reindexer.marker, late
    WHERE ended_at < clock_timestamp() - make_interval(secs => %(keep_s)s)
        AND (ended_at < clock_timestamp() - make_interval(secs => %(at_most_s)s)
             OR (NOT is_late AND NOT EXISTS (
                 SELECT FROM reindexer.drained
                 WHERE NOT settled AND drained_at BETWEEN made_at AND ended_at + make_interval(secs => %(keep_s)s))))
    LIMIT %(limit)s
), unmarked AS (
    DELETE FROM reindexer.marker USING old WHERE marker.id = old.id
), untraced AS (
    DELETE FROM reindexer.mark USING late
    WHERE xact IN (SELECT xact FROM reindexer.mark
                   WHERE marked_at < clock_timestamp() - make_interval(secs => %(keep_s)s) LIMIT %(limit)s)
        AND (NOT is_late OR marked_at < clock_timestamp() - make_interval(secs => %(at_most_s)s))
)
DELETE FROM reindexer.note
WHERE ctid = ANY (ARRAY(
    SELECT note.ctid FROM reindexer.note
    WHERE follows IS NOT NULL
        AND NOT EXISTS (SELECT FROM reindexer.drained WHERE within @> note.follows::text::bigint)
        AND follows NOT IN (SELECT xact FROM reindexer.outbox WHERE xact IS NOT NULL)
    LIMIT %(limit)s));
