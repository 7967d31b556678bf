-- Runs over a source: every row (or those that a condition picks) and, where it is not a backfill, then those items that
-- the ledger knows and that have no row (they must leave the index).

-- name: start_look
-- From the `rows` on, or at what the `ledger` knows alone; an open run that is still at the rows comes to the ledger.
INSERT INTO reindexer.run AS run (source, kind, state, changed_at, traceparent)
VALUES (%(source)s, %(kind)s, %(from)s, clock_timestamp(), %(traceparent)s)
ON CONFLICT (source, kind) WHERE finished_at IS NULL DO UPDATE SET
    changed_at = least(run.changed_at, run.started_at), state = excluded.state, cursor = NULL, queued = 0, total = NULL,
    started_at = clock_timestamp(), paused_s = 0, generation = NULL,
    traceparent = coalesce(excluded.traceparent, run.traceparent)
WHERE run.state <> 'rows' OR excluded.state = 'rows';

-- name: first_fill_is_open
SELECT EXISTS (SELECT FROM reindexer.run WHERE source = %(source)s AND kind = 'first_fill' AND finished_at IS NULL);

-- name: rebuild_if_lost
-- Another collection than the one that was noted: all is written again, by a run that does so already or by one of its
-- own, also what is written to the old one now and settled later. Nothing if there was none before (one that is older
-- than our notes shows in the ledger). Noted in the same statement: neither forgotten by whoever dies nor done by two.
WITH found AS MATERIALIZED (
    SELECT source, number, collection_id FROM reindexer.generation
    WHERE source = %(source)s AND number = %(generation)s AND collection_id IS DISTINCT FROM %(collection_id)s
        AND state NOT IN ('broken', 'dropped')
    FOR UPDATE
), noted AS (
    UPDATE reindexer.generation SET collection_id = %(collection_id)s FROM found
    WHERE generation.source = found.source AND generation.number = found.number
), lost AS MATERIALIZED (
    SELECT source, number FROM found WHERE collection_id IS NOT NULL OR EXISTS (
        SELECT FROM reindexer.ledger
        WHERE ledger.source = found.source AND ledger.generation = found.number AND chunks > 0)
), restarted AS (
    UPDATE reindexer.run SET state = 'rows', cursor = NULL, queued = 0
    FROM lost
    WHERE run.source = lost.source AND coalesce(generation, lost.number) = lost.number
        AND kind = 'backfill' AND force AND condition IS NULL AND finished_at IS NULL
    RETURNING id
), started AS (
    INSERT INTO reindexer.run AS run (source, generation, kind, force)
    SELECT source, number, 'whole_source', true FROM lost WHERE NOT EXISTS (SELECT FROM restarted)
    ON CONFLICT (source, kind) WHERE finished_at IS NULL DO UPDATE SET
        state = 'rows', cursor = NULL, queued = 0, total = NULL, started_at = clock_timestamp(), paused_s = 0, force = true,
        -- guard lost-collection-every-lost
        generation = CASE WHEN run.generation = excluded.generation THEN run.generation END,
        changed_at = least(run.changed_at, run.started_at)
    RETURNING id
)
SELECT id FROM restarted UNION ALL SELECT id FROM started;

-- name: start_backfill
-- Nothing if one is open.
INSERT INTO reindexer.run (source, generation, kind, condition, force, total, total_is_estimate, traceparent)
SELECT name, generation, 'backfill', %(condition)s, %(force)s, %(total)s, %(total_is_estimate)s, %(traceparent)s
FROM reindexer.source WHERE name = %(source)s
ON CONFLICT (source, kind) WHERE finished_at IS NULL DO NOTHING
RETURNING id;

-- name: of_active
-- To insert the run waits for a promotion that commits, and holds the next one up. So what this reads stays as it is.
UPDATE reindexer.run SET generation = source.generation -- guard backfill-of-active
FROM reindexer.source WHERE run.id = %(run)s AND name = run.source AND run.generation <> source.generation;

-- name: next_run
-- An open run of a generation whose backlog in the bulk lane is short enough for another page. Not locked: a page may
-- take long to read. `as_of` is for `lock`. A look at everything (after a TRUNCATE, say) also takes points away, so it goes on
-- where all that waits is marked. It adds one due row for each row of the table or of the ledger at most.
SELECT run.id, run.source, coalesce(run.generation, source.generation) AS generation, run.kind, run.state, run.cursor,
       run.condition, run.force, run.total IS NULL AS uncounted, run.xmin::text AS as_of
FROM reindexer.run JOIN reindexer.source ON source.name = run.source
WHERE run.finished_at IS NULL AND run.state <> 'working' AND run.paused_at IS NULL
    AND run.not_before <= clock_timestamp() AND NOT source.paused
    AND (SELECT count(*) FROM (
            (SELECT FROM reindexer.due
             -- guard run-own-backlog
             WHERE due.source = run.source AND due.generation = coalesce(run.generation, source.generation)
                 AND due.lane = 'bulk' AND NOT marked
             LIMIT %(max_backlog)s)
            UNION ALL
            (SELECT FROM reindexer.due
             -- guard mark-run-backlog
             WHERE (run.kind <> 'whole_source' OR run.force) AND due.source = run.source
                 -- guard mark-backlog-count
                 AND due.generation = coalesce(run.generation, source.generation) AND due.lane = 'bulk' AND marked
             LIMIT %(max_backlog)s)
        ) AS backlog) < %(max_backlog)s
ORDER BY random()
LIMIT 1;

-- name: lock
-- Nothing if anybody touched the run since it was read: paused, cancelled or started it anew.
SELECT id FROM reindexer.run WHERE id = %(id)s AND xmin::text = %(as_of)s FOR UPDATE;

-- name: queue_page
-- A backfill takes over the count of an item that another run has queued, and never the reverse: a user waits for it.
-- A run that rebuilds a lost collection passes over what was claimed and completed since it began (tokens are
-- microseconds): that is in the new one.
INSERT INTO reindexer.due AS due (source, item_id, generation, lane, forced_version, run_id, changed_at)
SELECT run.source, page.item_id, generation.number, 'bulk', CASE WHEN %(force)s THEN 1 END, run.id,
       CASE WHEN run.kind NOT IN ('backfill', 'rebuild') THEN coalesce(run.changed_at, run.started_at) END
FROM unnest(%(item_ids)s::text[]) AS page (item_id), reindexer.run
JOIN reindexer.generation ON generation.source = run.source AND generation.number = coalesce(run.generation, generation.number)
    AND generation.state NOT IN ('broken', 'dropped')
-- guard lost-collection-rewritten-skip
WHERE run.id = %(run_id)s AND NOT (run.kind = 'whole_source' AND run.force AND EXISTS (
    SELECT FROM reindexer.ledger
    WHERE ledger.source = run.source AND ledger.item_id = page.item_id AND ledger.generation = generation.number
        AND outcome = 'COMPLETED' AND settled_at > run.started_at
        AND token > extract(epoch FROM run.started_at) * 1000000))
ORDER BY run.source, page.item_id, generation.number
ON CONFLICT (source, item_id, generation) DO UPDATE SET
    version = due.version + 1, marked = false,
    forced_version = CASE WHEN %(force)s THEN due.version + 1 ELSE due.forced_version END,
    begun_upto = CASE WHEN %(force)s AND due.begun_upto IS NOT NULL THEN 0 ELSE due.begun_upto END,
    not_before = CASE WHEN due.marked AND due.lease_until IS NULL
                      -- guard mark-walk-immediate
                      THEN least(due.not_before, excluded.not_before) ELSE due.not_before END,
    run_id = CASE WHEN %(takes_over)s THEN excluded.run_id ELSE coalesce(due.run_id, excluded.run_id) END,
    changed_at = CASE WHEN due.lease_until IS NULL THEN least(due.changed_at, excluded.changed_at) ELSE due.changed_at END,
    later_changed_at = CASE WHEN due.lease_until IS NOT NULL THEN least(due.later_changed_at, excluded.changed_at) END,
    waits_for = NULL;

-- name: ledger_page
-- All that may be in Qdrant, in whichever generation. What is claimed may have been read before the run began, and may
-- not be in the ledger yet.
(
    SELECT DISTINCT ledger.item_id FROM reindexer.ledger
    WHERE ledger.source = %(source)s AND ledger.outcome <> 'DELETED'
        AND (%(cursor)s::text IS NULL OR ledger.item_id > %(cursor)s)
    ORDER BY ledger.item_id
    LIMIT %(page)s
) UNION (
    SELECT DISTINCT due.item_id FROM reindexer.due
    WHERE due.source = %(source)s AND due.lease_until IS NOT NULL
        AND (%(cursor)s::text IS NULL OR due.item_id > %(cursor)s)
    ORDER BY due.item_id
    LIMIT %(page)s
)
ORDER BY item_id
LIMIT %(page)s;

-- name: advance
UPDATE reindexer.run SET state = %(state)s, cursor = %(cursor)s, queued = queued + %(queued)s,
    total = coalesce(%(expected)s, total), error = NULL
WHERE id = %(id)s;

-- name: postpone
UPDATE reindexer.run SET error = %(error)s, not_before = clock_timestamp() + make_interval(secs => %(wait_s)s)
WHERE id = %(id)s;

-- name: finish
-- Only when its last item is settled: a progress bar ends when the work is done. A run over every generation ends when that
-- of searches is through: what the others wait for is theirs.
WITH finished AS (
    UPDATE reindexer.run SET state = 'finished', finished_at = clock_timestamp()
    FROM reindexer.source
    WHERE name = run.source AND finished_at IS NULL AND state = 'working' AND NOT EXISTS (
        SELECT FROM reindexer.due
        -- guard run-finish-active
        WHERE due.run_id = run.id AND due.generation = coalesce(run.generation, source.generation))
    RETURNING run.id, run.source, coalesce(run.generation, source.generation) AS generation, kind, run.traceparent
), ready AS (
    UPDATE reindexer.generation SET state = 'ready' FROM finished
    WHERE kind = 'rebuild' AND generation.source = finished.source AND number = finished.generation
        AND generation.state = 'filling'
    RETURNING generation.source, number
), said AS (
    SELECT source, 'run' AS subject, id::text AS id, 'run.finished' AS type, generation, jsonb_build_object('kind', kind) AS details
    FROM finished
    UNION ALL
    SELECT source, 'generation', number::text, 'generation.ready', number, '{}' FROM ready
), written AS (
    INSERT INTO reindexer.event AS event (receiver, source, subject, id, type, generation, version, details)
    SELECT receiver.name, said.source, said.subject, said.id, said.type, said.generation,
           (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, said.details
    FROM said JOIN reindexer.event_receiver AS receiver ON said.source = ANY (receiver.sources)
        AND said.type = ANY (receiver.types) AND receiver.state = 'on'
    ORDER BY receiver.name, said.source, said.subject, said.id
    ON CONFLICT (receiver, source, subject, id) DO UPDATE SET
        number = excluded.number, version = excluded.version, at = excluded.at, attempts = 0, not_before = excluded.not_before
)
SELECT id, traceparent FROM finished WHERE traceparent IS NOT NULL;

-- name: close
UPDATE reindexer.run SET state = %(state)s, error = %(error)s, finished_at = clock_timestamp()
WHERE id = %(id)s AND finished_at IS NULL
RETURNING id, traceparent;

-- name: take_back
-- Items that the page itself made due (whatever merges into a due row counts its version up), and that no claim has had or
-- that wait for nothing but their embedding.
WITH untouched AS MATERIALIZED (
    SELECT source, item_id, generation FROM reindexer.due
    WHERE run_id = %(id)s AND version = 1 AND (token IS NULL OR marked) AND lease_until IS NULL
        AND NOT doubtful
    ORDER BY source, item_id
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM reindexer.due USING untouched
    WHERE due.source = untouched.source AND due.item_id = untouched.item_id AND due.generation = untouched.generation
    RETURNING due.generation
)
UPDATE reindexer.run
SET queued = queued - (SELECT count(*) FROM gone WHERE gone.generation = coalesce(run.generation, source.generation))
FROM reindexer.source WHERE id = %(id)s AND name = run.source;

-- name: pause
UPDATE reindexer.run SET paused_at = coalesce(paused_at, clock_timestamp())
WHERE id = %(id)s AND finished_at IS NULL
RETURNING id;

-- name: resume
UPDATE reindexer.run SET paused_at = NULL,
    paused_s = paused_s + coalesce(extract(epoch FROM clock_timestamp() - greatest(paused_at, started_at)), 0)
WHERE id = %(id)s AND finished_at IS NULL
RETURNING id;

-- name: runs
-- `done`: queued by the run, and no longer due. `failed`: items of its source that failed while it ran and have not been
-- tried again since; nobody records which run an item failed in, so an edit that failed meanwhile is among them.
SELECT run.id, run.source, run.kind,
       CASE WHEN run.finished_at IS NOT NULL THEN run.state WHEN run.paused_at IS NULL THEN 'running' ELSE 'paused' END AS state,
       run.condition AS "where", run.force,
       CASE WHEN run.state IN ('working', 'finished') THEN run.queued
            WHEN run.total IS NOT NULL THEN greatest(run.total, run.queued) END AS total,
       run.total_is_estimate AND run.state NOT IN ('working', 'finished') AS total_is_estimate,
       run.queued,
       greatest(0, run.queued - (SELECT count(*) FROM reindexer.due
            WHERE due.run_id = run.id AND due.generation = coalesce(run.generation, source.generation))) AS done,
       (SELECT count(*) FROM reindexer.ledger WHERE ledger.source = run.source
            AND ledger.generation = coalesce(run.generation, source.generation)
            AND outcome = 'FAILED' AND settled_at BETWEEN run.started_at AND coalesce(run.finished_at, 'infinity')) AS failed,
       extract(epoch FROM least(run.finished_at, run.paused_at, clock_timestamp()) - run.started_at)::double precision
            - run.paused_s AS elapsed_s,
       run.started_at, run.finished_at, run.error
FROM reindexer.run JOIN reindexer.source ON source.name = run.source
WHERE (%(id)s::bigint IS NULL OR run.id = %(id)s) AND (%(source)s::text IS NULL OR run.source = %(source)s)
ORDER BY run.finished_at IS NULL DESC, run.id DESC
LIMIT %(limit)s;
