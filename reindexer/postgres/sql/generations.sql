-- The life of a generation. Whoever changes a state holds the rows of all generations of the source first
-- (`hold_generations` in sources.sql).

-- name: of_source
SELECT number, state, alias || '__g' || number AS collection, generation.embedder, generation.problem, created_at, activated_at, retired_at, standby_until, emptied_at, removed_at,
       (SELECT count(*) FROM reindexer.due WHERE due.source = generation.source AND due.generation = number) AS pending,
       (SELECT count(*) FROM reindexer.ledger
        WHERE ledger.source = generation.source AND ledger.generation = number AND outcome = 'FAILED') AS failed,
       (SELECT extract(epoch FROM clock_timestamp() - min(changed_at))::double precision FROM reindexer.due
        WHERE due.source = generation.source AND due.generation = number) AS oldest_change_age_s,
       (SELECT max(id) FROM reindexer.run
        WHERE run.source = generation.source AND run.generation = number AND kind = 'rebuild') AS run_id
FROM reindexer.generation JOIN reindexer.source ON name = generation.source
WHERE generation.source = %(source)s
ORDER BY number;

-- name: beside
-- Kept and broken generations beside those that searches use, of every source.
SELECT source.name AS source, number, state, generation.problem,
       (SELECT count(*) FROM reindexer.due WHERE due.source = name AND due.generation = number) AS due,
       coalesce((SELECT extract(epoch FROM clock_timestamp() - min(changed_at))::double precision FROM reindexer.due
                 WHERE due.source = name AND due.generation = number), 0) AS oldest_change_age_s
FROM reindexer.generation JOIN reindexer.source ON name = generation.source
WHERE number <> source.generation AND state <> 'dropped'
ORDER BY name, number;

-- name: states
SELECT number, state FROM reindexer.generation WHERE source = %(source)s ORDER BY number;

-- name: make
-- It may take vectors over from others of its embedder, so the addresses that made those are its own.
INSERT INTO reindexer.generation (source, number, state, definition, embedder, servers)
SELECT %(source)s, %(number)s, 'filling', %(definition)s, %(embedder)s, coalesce((
    -- guard server-inherited
    SELECT servers FROM reindexer.generation
    WHERE source = %(source)s AND embedder = %(embedder)s AND state NOT IN ('broken', 'dropped')
    ORDER BY state = 'active' DESC, number DESC LIMIT 1), '{}');

-- name: start_fill
-- Not of one that has a run already, be it one that has ended.
INSERT INTO reindexer.run (source, generation, kind, total, total_is_estimate, traceparent)
SELECT source, number, 'rebuild', %(total)s, %(total_is_estimate)s, %(traceparent)s FROM reindexer.generation
WHERE source = %(source)s AND number = %(generation)s AND state = 'filling' AND NOT EXISTS (
    SELECT FROM reindexer.run
    WHERE run.source = generation.source AND run.generation = generation.number AND kind = 'rebuild')
ON CONFLICT (source, kind) WHERE finished_at IS NULL DO NOTHING
RETURNING id;

-- name: not_begun
-- Generations that are to be filled, and whose fill nobody started: who made them died on the way.
SELECT source, number FROM reindexer.generation
WHERE state = 'filling' AND NOT EXISTS (
    SELECT FROM reindexer.run
    WHERE run.source = generation.source AND run.generation = generation.number AND kind = 'rebuild');

-- name: drop
-- Its edits are no longer recorded, so there is no way back to it.
WITH runs AS (
    UPDATE reindexer.run SET state = 'cancelled', finished_at = clock_timestamp()
    WHERE source = %(source)s AND generation = %(generation)s AND finished_at IS NULL
)
UPDATE reindexer.generation SET state = %(state)s, problem = coalesce(%(problem)s, problem), live_until = NULL, standby_until = NULL
WHERE source = %(source)s AND number = %(generation)s AND state NOT IN ('active', 'dropped')
RETURNING number;

-- name: expired
SELECT source, number FROM reindexer.generation WHERE state = 'standby' AND standby_until <= clock_timestamp();

-- name: others_kept
-- Kept generations beside the active one, and the facts by which their rows were last seen to be read.
SELECT number, facts FROM reindexer.generation
WHERE source = %(source)s AND state IN ('filling', 'ready', 'standby')
ORDER BY number;

-- name: record_facts
UPDATE reindexer.generation SET facts = %(facts)s WHERE source = %(source)s AND number = %(generation)s AND state <> 'active';

-- name: record_function_facts
-- Functions that we exchanged ourselves let nothing pass unseen.
UPDATE reindexer.source SET facts = facts || %(functions)s::jsonb
WHERE name = %(source)s AND facts @> %(was)s::jsonb;

-- name: record_new_facts
-- Of related tables that nobody followed before: what they let pass unseen is in the fill that follows.
UPDATE reindexer.source SET facts = %(facts)s::jsonb || facts WHERE name = %(source)s;

-- name: donors
-- How kept generations beside the one of a claim store their vectors. The one that searches use is first.
SELECT number, alias, coalesce(generation.definition #>> '{profile,distance}', 'cosine')
FROM reindexer.generation JOIN reindexer.source ON name = generation.source
WHERE generation.source = %(source)s AND number = ANY (%(numbers)s) AND state NOT IN ('broken', 'dropped')
ORDER BY state = 'active' DESC, number DESC;

-- name: donors_points
-- The points that they have of some items, as the ledger knows them.
SELECT generation, item_id, chunks, text_fingerprint FROM reindexer.ledger
WHERE source = %(source)s AND item_id = ANY (%(item_ids)s) AND generation = ANY (%(numbers)s) AND chunks > 0;

-- name: hurry
-- Its changes come in their own lane from now on, and what waits already moves there, in pages.
WITH hurried AS (
    UPDATE reindexer.generation SET live_until = clock_timestamp() + make_interval(secs => %(for_s)s)
    WHERE source = %(source)s AND number = %(generation)s AND state IN ('ready', 'standby')
), waiting AS MATERIALIZED (
    SELECT source, item_id, generation FROM reindexer.due
    WHERE source = %(source)s AND generation = %(generation)s AND lane = 'bulk' AND lease_until IS NULL
    ORDER BY source, item_id
    LIMIT %(page)s
    FOR UPDATE SKIP LOCKED
)
UPDATE reindexer.due SET lane = 'live' FROM waiting
WHERE due.source = waiting.source AND due.item_id = waiting.item_id AND due.generation = waiting.generation;

-- name: end_hurry
UPDATE reindexer.generation SET live_until = NULL WHERE source = %(source)s AND number = %(generation)s;

-- name: lag
-- What would be missing or stale if searches used it now: changes of more than a second ago, and runs that may find more.
-- And, however young, deletions that searches show already: what is gone must not be found again.
SELECT (SELECT count(*) FROM reindexer.due
        WHERE due.source = generation.source AND due.generation = number AND (
            -- guard promote-lag
            coalesce(changed_at, '-infinity') < clock_timestamp() - make_interval(secs => %(lag_s)s)
            -- guard promote-after-marks
            OR least(changed_at, later_changed_at) < %(hurried_at)s::timestamptz
            -- guard promote-shown-deletions
            OR EXISTS (
                SELECT FROM reindexer.source JOIN reindexer.ledger AS active
                    ON active.source = source.name AND active.generation = source.generation
                WHERE source.name = due.source AND active.item_id = due.item_id AND active.outcome = 'DELETED'
                    AND NOT EXISTS (
                        SELECT FROM reindexer.due AS still WHERE still.source = due.source AND still.item_id = due.item_id
                            AND still.generation = source.generation)))) AS late,
       (SELECT count(*) FROM reindexer.run
        WHERE run.source = generation.source AND coalesce(run.generation, number) = number AND finished_at IS NULL) AS runs,
       (SELECT count(*) FROM (SELECT source, changed_at FROM reindexer.outbox
                              UNION ALL SELECT source, changed_at FROM reindexer.fan_out) AS waiting -- guard promote-related-lag
        WHERE waiting.source = generation.source AND changed_at < clock_timestamp() - make_interval(secs => %(lag_s)s)) AS undrained
FROM reindexer.generation WHERE source = %(source)s AND number = %(generation)s;

-- name: lacking
-- Items that searches would find no more, in an older form, or again: they failed here, and did not in the active generation.
SELECT ours.item_id, ours.error, count(*) OVER () AS all_of_them
FROM reindexer.ledger AS ours
JOIN reindexer.source ON name = ours.source
-- guard promote-failed-items
LEFT JOIN reindexer.ledger AS active ON active.source = ours.source AND active.item_id = ours.item_id
    AND active.generation = source.generation
WHERE ours.source = %(source)s AND ours.generation = %(generation)s AND ours.outcome = 'FAILED'
    -- guard promote-failed-deletions
    AND (active.outcome = 'COMPLETED' OR (active.outcome = 'DELETED' AND ours.chunks > 0))
ORDER BY ours.item_id
LIMIT %(limit)s;

-- name: retire
UPDATE reindexer.generation SET
    state = 'standby', retired_at = clock_timestamp(), facts = source.facts,
    standby_until = clock_timestamp() + make_interval(secs => %(standby_for_s)s)
FROM reindexer.source
WHERE name = generation.source AND name = %(source)s AND state = 'active'
RETURNING number;

-- name: activate
UPDATE reindexer.generation SET
    state = 'active', activated_at = clock_timestamp(), standby_until = NULL, live_until = NULL, facts = NULL
WHERE source = %(source)s AND number = %(generation)s AND state IN ('ready', 'standby')
RETURNING number;

-- name: point_source
-- Searches use it from this commit on.
UPDATE reindexer.source SET
    generation = number, definition = generation.definition, definition_hash = %(definition_hash)s, facts = %(facts)s,
    embedder = generation.embedder, account = generation.account, collection_id = generation.collection_id,
    problem = generation.problem
FROM reindexer.generation
WHERE name = %(source)s AND generation.source = name AND number = %(generation)s;

-- name: rebind_requests
-- Who asked for a new embedding means the index that searches use. The former generation may be one whose provider is gone.
WITH open AS MATERIALIZED (
    SELECT DISTINCT item_id FROM reindexer.request
    WHERE source = %(source)s AND generation = %(former)s AND succeeded IS NULL
), queued AS (
    INSERT INTO reindexer.due AS due (source, item_id, generation, lane, forced_version)
    SELECT %(source)s, item_id, %(generation)s, %(lane)s, 1 FROM open ORDER BY item_id
    ON CONFLICT (source, item_id, generation) DO UPDATE SET
        version = due.version + 1, marked = false,
        forced_version = due.version + 1,
        begun_upto = CASE WHEN due.begun_upto IS NOT NULL THEN 0 END,
        attempts = CASE WHEN due.lease_until IS NULL THEN 0 ELSE due.attempts END,
        not_before = CASE WHEN due.lease_until IS NULL THEN excluded.not_before ELSE due.not_before END,
        waits_for = NULL
    RETURNING item_id, version
)
UPDATE reindexer.request SET generation = %(generation)s, due_version = queued.version -- guard promote-rebound-requests
FROM queued
WHERE request.source = %(source)s AND request.generation = %(former)s AND request.item_id = queued.item_id
    AND succeeded IS NULL;

-- name: rebind_runs
-- A backfill begins anew: what it queued so far is the former generation's.
-- guard promote-rebound-runs
UPDATE reindexer.run SET generation = %(generation)s, state = 'rows', cursor = NULL, queued = 0, started_at = clock_timestamp(),
    paused_s = 0
WHERE source = %(source)s AND generation = %(former)s AND kind = 'backfill' AND finished_at IS NULL;

-- name: former
SELECT number FROM reindexer.generation WHERE source = %(source)s AND state = 'standby' ORDER BY retired_at DESC LIMIT 1;

-- name: empty
-- A page of the records of generations that are dropped or broken. Nothing that a claim holds: its worker may still write.
WITH gone AS MATERIALIZED (
    SELECT source, number, state FROM reindexer.generation WHERE state IN ('dropped', 'broken') AND emptied_at IS NULL
    ORDER BY source, number LIMIT 1
), waiting AS MATERIALIZED (
    SELECT due.source, due.item_id, due.generation FROM gone
    JOIN reindexer.due ON due.source = gone.source AND due.generation = gone.number
    WHERE lease_until IS NULL OR lease_until < clock_timestamp() -- guard dropped-claims-left
    ORDER BY due.source, due.item_id
    LIMIT %(page)s
    FOR UPDATE OF due SKIP LOCKED
), due_gone AS (
    DELETE FROM reindexer.due USING waiting
    WHERE due.source = waiting.source AND due.item_id = waiting.item_id AND due.generation = waiting.generation
    RETURNING 1
), known AS MATERIALIZED (
    SELECT ledger.ctid FROM gone JOIN reindexer.ledger ON ledger.source = gone.source AND ledger.generation = gone.number
    WHERE gone.state = 'dropped' LIMIT %(page)s
), ledger_gone AS (
    DELETE FROM reindexer.ledger WHERE ctid = ANY (ARRAY(SELECT ctid FROM known)) RETURNING 1
), emptied AS (
    UPDATE reindexer.generation SET emptied_at = clock_timestamp() FROM gone
    WHERE generation.source = gone.source AND generation.number = gone.number AND generation.state = gone.state
        AND NOT EXISTS (SELECT FROM known)
        -- guard dropped-emptied-last
        AND NOT EXISTS (SELECT FROM reindexer.due WHERE due.source = gone.source AND due.generation = gone.number)
)
SELECT (SELECT count(*) FROM due_gone) + (SELECT count(*) FROM ledger_gone);

-- name: to_remove
-- Dropped ones whose collection may still be there, and that no claim works on. A request of a claim that was given up may
-- make the collection again: so it is dropped again and again, for a day, each time after as long as it has been gone.
SELECT source.name, alias, generation.number FROM reindexer.generation JOIN reindexer.source ON name = generation.source
WHERE generation.state = 'dropped' AND emptied_at IS NOT NULL
    AND (removed_at IS NULL
         -- guard dropped-collection-again
         OR (removed_at < emptied_at + interval '1 day'
             AND clock_timestamp() - removed_at > greatest(interval '5 s', removed_at - emptied_at)))
ORDER BY source.name, generation.number;

-- name: not_removed
SELECT number FROM reindexer.generation WHERE source = %(source)s AND removed_at IS NULL ORDER BY number;

-- name: removed
UPDATE reindexer.generation SET removed_at = clock_timestamp()
WHERE source = %(source)s AND number = %(generation)s AND state = 'dropped';

-- name: once_promoted
-- Active generations whose alias may name another: a promotion moves it after its commit, and may die before.
SELECT name FROM reindexer.source WHERE generation > 1 OR EXISTS (
    SELECT FROM reindexer.generation WHERE generation.source = name AND number <> source.generation)
ORDER BY name;

-- name: drawn
-- The same items each time, whatever their order in the table.
SELECT item_id FROM reindexer.ledger
WHERE source = %(source)s AND generation = %(generation)s AND outcome = 'COMPLETED' AND chunks > 0
ORDER BY md5(%(seed)s || item_id), item_id
LIMIT %(limit)s;

-- name: points
SELECT coalesce(sum(chunks), 0) FROM reindexer.ledger WHERE source = %(source)s AND generation = %(generation)s;
