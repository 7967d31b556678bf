-- From the outbox to due.

-- name: drain
-- Takes at most %(max_changes)s changes, coalesced per item. No cursor over the ids: they commit out of order. The rows
-- are inserted in key order, as everybody who locks several due rows does, so that drains, requests and settles can't
-- deadlock. A crash that loses this commit also brings the outbox rows back, so it need not wait for the disk.
-- Every generation that is kept gets it: the one that searches use in the change's own lane, the others as bulk, but for
-- one that is being promoted.
-- A change's time is its statement's, which can be long before its commit. What the drain that ended the last look (at
-- %(looked_at)s) did not see, has committed since.
-- An item that is due and unclaimed already is passed over: who claims it reads its row after that. Only where the due row
-- would differ is it written (claimed: a settle must notice; waiting for another try: it may begin now; marked: it is to be
-- looked at again; a lower lane; a younger change; a trace). Not by looking it up first: how is up to the planner, and it took seconds beside an old snapshot.
WITH relaxed AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true)
), taken AS (
    DELETE FROM reindexer.outbox
    USING relaxed
    WHERE outbox.ctid = ANY (ARRAY(
        SELECT ctid FROM reindexer.outbox WHERE ctid >= %(begin)s::tid LIMIT %(max_changes)s FOR UPDATE SKIP LOCKED
    ))
    RETURNING outbox.ctid AS place, outbox.source, outbox.related,
              -- No longer than a key of ours can be: one row's must not fail all of them.
              -- guard long-key-drain-name
              CASE WHEN octet_length(item_id) > 650 AND outbox.related IS NULL THEN reindexer.noted_name(outbox.source, item_id) ELSE item_id END AS item_id,
              lane, greatest(changed_at, %(looked_at)s::timestamptz) AS changed_at, xact
), traced AS MATERIALIZED (
    -- Changes of transactions that belong to a trace. LATERAL and OFFSET: looked up one by one. Nothing is, where none does.
    SELECT DISTINCT each.source, each.item_id, each.related, each.xact, its.traceparent
    FROM (SELECT * FROM taken WHERE item_id IS NOT NULL AND EXISTS (SELECT FROM reindexer.mark)) AS each
    CROSS JOIN LATERAL (
        SELECT traceparent FROM reindexer.mark WHERE mark.xact = each.xact AND traceparent IS NOT NULL OFFSET 0
    ) AS its
), items AS (
    -- Grouped with their traces, not joined: the planner takes both for short, and would loop in a loop.
    SELECT source, item_id, max(lane) AS lane, min(changed_at) AS changed_at, count(lane) AS changes,
           (array_agg(trace) FILTER (WHERE trace IS NOT NULL))[:%(max_traces)s] AS traces
    FROM (
        SELECT source, item_id, lane, changed_at, NULL::text AS trace FROM taken WHERE item_id IS NOT NULL AND related IS NULL
        UNION ALL
        SELECT source, item_id, NULL, NULL, xact || ' ' || traceparent FROM traced WHERE related IS NULL
    ) AS each
    GROUP BY source, item_id
), fanned AS (
    -- Which items they lead to is not asked here: that reads the user's tables.
    INSERT INTO reindexer.fan_out AS fan_out (source, related, value, lane, changed_at)
    SELECT source, related, item_id, max(lane), min(changed_at)
    FROM taken WHERE item_id IS NOT NULL AND related IS NOT NULL
    GROUP BY source, related, item_id ORDER BY source, related, item_id
    ON CONFLICT (source, related, value) DO UPDATE SET
        lane = greatest(fan_out.lane, excluded.lane),
        changed_at = least(fan_out.changed_at, excluded.changed_at),
        cursor = NULL -- guard related-cursor-restart
    RETURNING 1
), queued AS (
    INSERT INTO reindexer.due AS due (source, item_id, generation, lane, version, changed_at, traces)
    SELECT items.source, items.item_id, generation.number,
           -- guard drain-active-lane
           CASE WHEN generation.state = 'active' OR generation.live_until > statement_timestamp() THEN items.lane ELSE 'bulk' END,
           items.changes, items.changed_at, items.traces
    -- guard drain-every-generation
    FROM items JOIN reindexer.generation ON generation.source = items.source AND state NOT IN ('broken', 'dropped')
    ORDER BY items.source, items.item_id, generation.number -- guard drain-lock-order
    ON CONFLICT (source, item_id, generation) DO UPDATE SET
        version = due.version + excluded.version, marked = false,
        lane = greatest(due.lane, excluded.lane),
        attempts = CASE WHEN due.lease_until IS NULL THEN 0 ELSE due.attempts END,
        not_before = CASE WHEN due.lease_until IS NULL THEN least(due.not_before, excluded.not_before) ELSE due.not_before END,
        -- guard age-oldest-merged-change
        changed_at = CASE WHEN due.lease_until IS NULL THEN least(due.changed_at, excluded.changed_at) ELSE due.changed_at END,
        later_changed_at = CASE WHEN due.lease_until IS NOT NULL THEN least(due.later_changed_at, excluded.changed_at) END,
        traces = CASE WHEN due.lease_until IS NULL THEN (due.traces || excluded.traces)[:%(max_traces)s] ELSE due.traces END,
        later_traces = CASE WHEN due.lease_until IS NOT NULL THEN (due.later_traces || excluded.traces)[:%(max_traces)s] END, -- guard trace-own-claim
        waits_for = NULL
    -- guard drain-rewrite-pending-items
    WHERE due.lease_until IS NOT NULL OR due.attempts > 0 OR due.not_before > statement_timestamp()
        -- guard drain-rewrite-lane
        OR due.marked OR due.lane < excluded.lane OR due.changed_at IS NULL OR due.changed_at > excluded.changed_at
        OR excluded.traces IS NOT NULL
    RETURNING lane, source, generation
), walks AS (
    INSERT INTO reindexer.run AS run (source, kind, changed_at)
    SELECT taken.source, 'whole_source', min(taken.changed_at)
    FROM taken JOIN reindexer.source ON source.name = taken.source
    WHERE taken.item_id IS NULL
    GROUP BY taken.source
    ON CONFLICT (source, kind) WHERE finished_at IS NULL DO UPDATE SET
        state = 'rows', cursor = NULL, queued = 0, total = NULL, started_at = clock_timestamp(), paused_s = 0,
        generation = NULL, -- guard look-every-generation
        changed_at = least(run.changed_at, run.started_at, excluded.changed_at)
    RETURNING id, source
), marked AS MATERIALIZED (
    -- All changes, while a session marks: a mark itself writes nothing.
    SELECT xact, source, related, item_id FROM taken
    WHERE xact IS NOT NULL AND EXISTS (SELECT FROM reindexer.marker) -- guard mark-passed-over
), kept AS (
    -- What is left of transactions, until it is settled. A transaction of many items has rows of its own, which are read up
    -- to the first item that waits.
    INSERT INTO reindexer.drained (source, within, xacts, item_ids)
    SELECT source, int8range(min(number), max(number), '[]'), array_agg(xact), array_agg(item_id)
    FROM (
        SELECT source, item_id, xact, xact::text::bigint AS number, count(*) OVER (PARTITION BY source, xact) AS changes
        FROM marked WHERE item_id IS NOT NULL AND related IS NULL
    ) AS each
    GROUP BY source, CASE WHEN changes >= %(many)s THEN number END
), noted AS (
    INSERT INTO reindexer.note (xact, source, item_id, related, run)
    SELECT DISTINCT xact, source, item_id, related, NULL::bigint FROM marked WHERE item_id IS NOT NULL AND related IS NOT NULL
    UNION ALL
    SELECT DISTINCT xact, marked.source, NULL::text, NULL::text, walks.id
    FROM marked JOIN walks ON walks.source = marked.source
    WHERE marked.item_id IS NULL
)
SELECT (SELECT count(*) FROM taken) AS changes,
       (SELECT count(*) FROM queued WHERE lane = 'live') AS live,
       -- What no search waits for is announced by the next look at the queues, within a second. By then the edit is in the
       -- active generation, many edits are one batch, and their vectors can be taken from there.
       (SELECT count(*) FROM queued JOIN reindexer.source ON name = queued.source
        WHERE lane = 'bulk' AND queued.generation = source.generation) AS bulk, -- guard drain-others-later
       (SELECT count(*) FROM walks) AS walks,
       (SELECT count(*) FROM fanned) AS related,
       -- What it passed over, because another transaction held it, may have committed long before.
       CASE WHEN %(begin)s::tid = '(0,0)'
                AND (SELECT count(*) FROM (SELECT FROM reindexer.outbox LIMIT %(max_changes)s) AS seen)
                    = (SELECT count(*) FROM taken) -- guard drain-passed-over
           THEN statement_timestamp() END AS looked_at,
       -- Of a position only the page, which is its first part, can be read as a number.
       (SELECT (min(place)::text::point)[0]::bigint FROM taken) AS first_page,
       ARRAY(SELECT traceparent FROM traced GROUP BY xact, traceparent ORDER BY xact LIMIT %(max_traces)s) AS traceparents;
