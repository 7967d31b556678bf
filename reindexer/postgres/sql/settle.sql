-- Settling: record outcomes, but only of items that the claim still holds. An item that changed meanwhile (its version
-- grew) stays due. Nothing is held any more once another version of the program has migrated the schema. Losing such a
-- commit in a crash means that the item is done again, so it need not wait for the disk.
-- Source and generation are columns of what is joined, never constants: of a table without statistics the planner takes
-- "source = constant" for one row, and then reads all that is due once for each item (0.8 s instead of 4 ms for 256 of 9,500).

-- name: finish
-- A crash of the server takes commits back that had not waited for the disk, the users' too: the row that was read after
-- the claim may never have been. No session outlives a crash, so one that is older than the claim tells that there was
-- none. (Of ours: others may have been on a standby that is the primary now.)
-- No deletion is settled while a promotion of its source looks at what is missing and commits. The rows are locked after
-- they are sorted, so after this lock: a promotion, which takes it before it touches any row, can't wait for us meanwhile.
WITH relaxed AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true)
), unpromoted AS MATERIALIZED (
    SELECT count(pg_advisory_xact_lock_shared(%(promotions)s, hashtext(%(source)s))::text) AS locks
    WHERE %(deletes)s -- guard settle-deletion-waits
), server AS MATERIALIZED (
    SELECT (SELECT backend_start FROM pg_stat_get_activity(pg_backend_pid())) <= %(claimed_at)s
        OR EXISTS (SELECT FROM pg_stat_activity WHERE application_name LIKE 'reindexer %%' AND backend_start <= %(claimed_at)s)
        AS same
), outcome AS MATERIALIZED (
    SELECT %(source)s::text AS source, %(generation)s::integer AS generation, outcome.* FROM unnest(
        %(item_ids)s::text[], %(versions)s::bigint[], %(outcomes)s::text[], %(text_fingerprints)s::text[],
        %(payload_fingerprints)s::text[], %(chunks)s::integer[], %(attempts)s::integer[], %(errors)s::text[],
        %(heal_after_s)s::double precision[], %(request_errors)s::text[], %(losses)s::integer[], %(doubtful)s::boolean[],
        %(recheck_after_s)s::double precision[], %(events)s::text[]
    ) AS outcome (item_id, version, outcome, text_fingerprint, payload_fingerprint, chunks, attempts, error,
                  heal_after_s, request_error, losses, doubtful, recheck_after_s, event)
), held AS MATERIALIZED (
    -- guard settle-changed-item-due
    SELECT due.source, due.item_id, due.generation, due.version > outcome.version AS changed, due.changed_at,
           due.later_changed_at, due.chunk_tokens, due.claimed
    FROM relaxed, unpromoted, server, reindexer.due JOIN outcome USING (source, item_id, generation)
    -- guard settle-own-token-only, settle-same-server-only
    WHERE server.same AND due.token = %(token)s AND due.lease_until IS NOT NULL
        AND (SELECT version_num FROM reindexer.alembic_version) = %(revision)s -- guard version-settle-check
    ORDER BY due.source, due.item_id -- guard settle-lock-order
    FOR UPDATE OF due
), gone AS (
    DELETE FROM reindexer.due USING held
    WHERE due.source = held.source AND due.item_id = held.item_id AND due.generation = held.generation
        AND NOT held.changed
), kept AS (
    UPDATE reindexer.due SET
        lease_until = NULL, attempts = 0, losses = outcome.losses, not_before = clock_timestamp(),
        begun_upto = NULL, begun_payload = NULL, begun_chunks = NULL,
        -- After its lease, somebody may be about to claim it who looked at the ledger before this commit.
        -- guard doubt-settle-after-lease
        doubtful = due.doubtful OR outcome.outcome = 'FAILED' OR due.lease_until <= clock_timestamp(),
        changed_at = CASE WHEN outcome.outcome = 'FAILED' THEN least(held.changed_at, held.later_changed_at)
                          ELSE held.later_changed_at END, -- guard age-change-during-claim
        later_changed_at = NULL,
        traces = due.later_traces, -- guard trace-told-once
        later_traces = NULL,
        forced_version = CASE WHEN forced_version > outcome.version THEN forced_version END
    FROM held JOIN outcome USING (source, item_id, generation)
    WHERE due.source = held.source AND due.item_id = held.item_id AND due.generation = held.generation AND held.changed
), facts AS (
    INSERT INTO reindexer.ledger AS ledger (
        source, item_id, generation, outcome, text_fingerprint, payload_fingerprint, chunks, token, attempts, error,
        heal_at, indexed_at, losses, doubted_at, recheck_at, changed_at, chunk_tokens, claimed)
    SELECT held.source, item_id, held.generation, outcome.outcome, text_fingerprint, payload_fingerprint, chunks,
           %(token)s, attempts, error, clock_timestamp() + make_interval(secs => heal_after_s),
           CASE WHEN outcome.outcome = 'COMPLETED' THEN clock_timestamp() END, losses,
           CASE WHEN doubtful THEN clock_timestamp() END, clock_timestamp() + make_interval(secs => recheck_after_s),
           CASE WHEN outcome.outcome = 'FAILED' THEN changed_at END,
           CASE WHEN outcome.outcome <> 'DELETED' THEN held.chunk_tokens END,
           CASE WHEN outcome.outcome <> 'FAILED' THEN held.claimed END
    FROM held JOIN outcome USING (source, item_id, generation)
    ORDER BY item_id
    ON CONFLICT (source, item_id, generation) DO UPDATE SET
        outcome = excluded.outcome,
        text_fingerprint = excluded.text_fingerprint,
        payload_fingerprint = excluded.payload_fingerprint,
        chunks = CASE WHEN excluded.outcome = 'FAILED' THEN greatest(ledger.chunks, excluded.chunks) ELSE excluded.chunks END,
        token = greatest(ledger.token, excluded.token),
        attempts = excluded.attempts,
        error = excluded.error,
        heal_at = excluded.heal_at,
        healed = CASE WHEN excluded.outcome = 'FAILED' AND ledger.outcome = 'FAILED' THEN ledger.healed + 1 ELSE 0 END,
        indexed_at = coalesce(excluded.indexed_at, ledger.indexed_at),
        losses = excluded.losses,
        doubted_at = coalesce(excluded.doubted_at, ledger.doubted_at), -- guard doubt-remembered
        recheck_at = excluded.recheck_at,
        chunk_tokens = excluded.chunk_tokens, -- guard chunk-size-remembered
        claimed = coalesce(excluded.claimed, ledger.claimed),
        changed_at = CASE WHEN excluded.outcome = 'FAILED' THEN least(ledger.changed_at, excluded.changed_at) END,
        settled_at = excluded.settled_at,
        forgotten_at = CASE WHEN excluded.outcome = 'DELETED' THEN ledger.forgotten_at END -- guard forgotten-row-back
), requested AS MATERIALIZED (
    -- LATERAL and OFFSET: looked up by item, whatever the planner thinks of how many requests are open. `succeeded`, because
    -- `finished_at` has an index: where it took none to be open, it read all that are by that index, once for each item.
    SELECT task_id, outcome.request_error
    FROM held JOIN outcome USING (source, item_id, generation)
    CROSS JOIN LATERAL (
        SELECT task_id FROM reindexer.request
        -- guard settle-open-request-lookup
        WHERE request.source = held.source AND request.item_id = held.item_id AND succeeded IS NULL
            AND request.generation = held.generation -- guard request-own-generation
            AND due_version <= outcome.version
        OFFSET 0
    ) AS open
), answered AS (
    UPDATE reindexer.request SET succeeded = request_error IS NULL, error = request_error, finished_at = clock_timestamp()
    FROM requested
    WHERE request.task_id = requested.task_id AND succeeded IS NULL
    RETURNING request.item_id, request.task_id, request.error
), told AS (
    -- Waits look again, while a session marks.
    -- guard mark-waiters-told
    SELECT pg_notify(%(channel)s, '')::text AS nothing
    WHERE EXISTS (SELECT FROM held) AND EXISTS (SELECT FROM reindexer.marker)
), heard AS MATERIALIZED (
    -- Mostly nobody: then there is nothing to join.
    SELECT receiver.name, receiver.types
    FROM reindexer.event_receiver AS receiver JOIN reindexer.source ON source.name = %(source)s
    WHERE receiver.state = 'on' AND source.name = ANY (receiver.sources)
        AND source.generation = %(generation)s -- guard event-active-generation
), announced AS (
    -- In place of the item's event before, if that waits. Who claims the item next waits for this commit, so numbers grow.
    INSERT INTO reindexer.event AS event (receiver, source, subject, id, type, generation, version, details)
    SELECT heard.name, %(source)s, 'item', item_id, its.event, %(generation)s,
           greatest(%(token)s, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint),
           CASE its.outcome WHEN 'FAILED' THEN jsonb_build_object('reason', its.error) ELSE '{}' END
    -- LATERAL and OFFSET: looked at only if somebody listens.
    FROM heard CROSS JOIN LATERAL (
        SELECT item_id, outcome.event, outcome.outcome, outcome.error
        FROM held JOIN outcome USING (source, item_id, generation)
        WHERE outcome.event = ANY (heard.types) -- guard event-with-outcome
            -- guard event-failed-again
            AND (outcome.outcome <> 'FAILED' OR NOT EXISTS (
                SELECT FROM reindexer.ledger
                WHERE ledger.source = held.source AND ledger.item_id = held.item_id AND ledger.generation = held.generation
                    AND ledger.outcome = 'FAILED' AND ledger.error = outcome.error))
        OFFSET 0
    ) AS its
    ORDER BY heard.name, item_id
    ON CONFLICT (receiver, source, subject, id) DO UPDATE SET
        number = excluded.number, -- guard event-new-number
        type = excluded.type, generation = excluded.generation, version = greatest(event.version + 1, excluded.version),
        at = excluded.at, details = excluded.details, attempts = 0, not_before = excluded.not_before
)
SELECT held.item_id, extract(epoch FROM clock_timestamp() - held.changed_at)::double precision AS age_s,
       NULL::text AS task_id, NULL::text AS error FROM held
UNION ALL
SELECT item_id, NULL, task_id, error FROM answered
UNION ALL
SELECT NULL, NULL, NULL, NULL FROM server WHERE NOT same
UNION ALL
SELECT NULL, NULL, NULL, NULL FROM told WHERE nothing IS NULL;

-- name: postpone
-- Try again later. `attempts_back` undoes attempts that do not count; `seen_token` is a higher token met in Qdrant,
-- `chunk_tokens` what its chunks are to hold at most. An item that `marks` was planned, and has nothing left to do but its
-- embedding: it is marked, until its version grows.
-- Not after a crash, as in `finish`: the row that it was planned for may never have been.
-- Some of so many `begun_chunks` were written by this claim, and all before `begun_upto` are there.
-- Its `payload_fingerprint`, if any, is that of a payload that was written beside the vector of an older text.
WITH relaxed AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true)
), server AS MATERIALIZED (
    SELECT (SELECT backend_start FROM pg_stat_get_activity(pg_backend_pid())) <= %(claimed_at)s
        OR EXISTS (SELECT FROM pg_stat_activity WHERE application_name LIKE 'reindexer %%' AND backend_start <= %(claimed_at)s)
        AS same
), outcome AS MATERIALIZED (
    SELECT %(source)s::text AS source, %(generation)s::integer AS generation, outcome.* FROM unnest(
        %(item_ids)s::text[], %(versions)s::bigint[], %(waits_s)s::double precision[], %(reasons)s::text[],
        %(attempts_back)s::integer[], %(doubtful)s::boolean[], %(seen_tokens)s::bigint[], %(chunk_tokens)s::integer[],
        %(marks)s::boolean[], %(payload_fingerprints)s::text[], %(begun_chunks)s::integer[],
        %(begun_upto)s::integer[]
    ) AS outcome (item_id, version, wait_s, reason, attempts_back, doubtful, seen_token, chunk_tokens, marks,
                  payload_fingerprint, begun_chunks, begun_upto)
), held AS MATERIALIZED (
    -- guard settle-changed-item-due
    SELECT due.source, due.item_id, due.generation, due.version > outcome.version AS changed
    FROM relaxed, reindexer.due JOIN outcome USING (source, item_id, generation)
    WHERE due.token = %(token)s AND due.lease_until IS NOT NULL -- guard settle-own-token-only
        AND (SELECT version_num FROM reindexer.alembic_version) = %(revision)s -- guard version-settle-check
    ORDER BY due.source, due.item_id -- guard settle-lock-order
    FOR UPDATE OF due
), exchanged AS (
    -- What lies in Qdrant, and so what the next plan compares with: without this, who goes back to the former text and
    -- payload would seem to have changed nothing.
    UPDATE reindexer.ledger SET payload_fingerprint = outcome.payload_fingerprint, token = greatest(ledger.token, %(token)s)
    FROM held JOIN outcome USING (source, item_id, generation)
    WHERE ledger.source = held.source AND ledger.item_id = held.item_id AND ledger.generation = held.generation
        AND outcome.payload_fingerprint IS NOT NULL -- guard settle-payload-fingerprint
)
UPDATE reindexer.due SET
    lease_until = NULL,
    marked = outcome.marks AND NOT held.changed AND (SELECT same FROM server), -- guard mark-not-if-changed
    token = greatest(due.token, outcome.seen_token), -- guard token-seen-in-qdrant
    attempts = CASE WHEN held.changed THEN 0 ELSE greatest(0, due.attempts - outcome.attempts_back) END,
    not_before = clock_timestamp() + make_interval(secs => CASE WHEN held.changed THEN 0 ELSE outcome.wait_s END),
    -- After its lease, somebody may be about to claim it who looked at the ledger before this commit.
    doubtful = due.doubtful OR outcome.doubtful
        OR (outcome.payload_fingerprint IS NOT NULL AND due.lease_until <= clock_timestamp()),
    chunk_tokens = least(due.chunk_tokens, outcome.chunk_tokens),
    begun_chunks = greatest(due.begun_chunks, outcome.begun_chunks),
    begun_payload = coalesce(outcome.payload_fingerprint, due.begun_payload),
    begun_upto = CASE WHEN outcome.begun_chunks IS NULL THEN due.begun_upto
                      WHEN coalesce(due.forced_version, 0) > outcome.version THEN 0  -- it is requested since
                      ELSE greatest(due.begun_upto, outcome.begun_upto) END,
    changed_at = least(due.changed_at, due.later_changed_at),
    later_changed_at = NULL,
    traces = (due.traces || due.later_traces)[:32],
    later_traces = NULL,
    waits_for = outcome.reason
FROM held JOIN outcome USING (source, item_id, generation)
WHERE due.source = held.source AND due.item_id = held.item_id AND due.generation = held.generation
RETURNING due.item_id;
