-- Claiming: a batch of due items of one source and lane under a lease. A query is `gate`, then `claim_batch` or
-- `claim_item`, then `claim_picked`. The commit waits for the disk (a claim that a crash takes back would hand its token
-- out twice), while the program's other bookkeeping need not.

-- name: gate
-- While Qdrant's breaker is open nothing passes before it may be probed, and then one item. A provider's holds up only
-- the marked items of its account, to which nothing but an embedding is left to do; while it is `silent` all of them, and
-- then one passes. A budget that is used up holds up marked items, too. Nothing passes at all once another version of the program has migrated the schema.
WITH gate AS MATERIALIZED (
    SELECT count(opened_at) FILTER (WHERE dependency = 'qdrant') > 0 AS probing,
           coalesce(bool_and(probe_at <= statement_timestamp()) FILTER (WHERE dependency = 'qdrant' AND opened_at IS NOT NULL), true)
               -- guard version-claim-check
               AND (SELECT version_num FROM reindexer.alembic_version) = %(revision)s AS passes,
           coalesce(array_agg(account) FILTER (WHERE dependency = 'provider'), '{}') AS failing,
           coalesce(array_agg(account) FILTER (WHERE dependency = 'provider' AND opened_at IS NOT NULL), '{}') AS closed,
           coalesce(array_agg(account) FILTER (WHERE dependency = 'provider' AND opened_at IS NOT NULL
                                                   AND probe_at > statement_timestamp()), '{}') AS silent
    FROM reindexer.breaker
)

-- name: claim_batch
, heads AS MATERIALIZED (
    -- Of each generation the first item that is not marked, and the first that is: each has an index of its own, so that
    -- neither a million marked ones nor their return cost anything here.
    -- (By lot a generation, and then, where its provider fails or has no turn, first what may need none of it: but for a tenth
    -- of the claims, lest nobody ask a provider that is back.)
    SELECT ready.source, ready.generation, ready.not_before, ready.marked, drawn.account, drawn.over, drawn.lot,
           ready.marked AND (%(tight)s OR (drawn.account = ANY (gate.failing) AND random() < 0.9)) AS last
    FROM gate
    CROSS JOIN (
        SELECT generation.*, random() AS lot,
               EXISTS (SELECT FROM reindexer.over_budget AS over
                       WHERE over.source = generation.source AND over.generation = number AND over.lane = %(lane)s) AS over
        FROM reindexer.source JOIN reindexer.generation ON generation.source = source.name
        WHERE NOT source.paused AND state NOT IN ('broken', 'dropped')
            AND (source.name, generation.number) NOT IN (
                SELECT * FROM unnest(%(except_sources)s::text[], %(except_generations)s::integer[]))
    ) AS drawn
    CROSS JOIN LATERAL (
        (
            SELECT due.source, due.generation, due.not_before, false AS marked FROM reindexer.due
            WHERE due.source = drawn.source AND due.generation = drawn.number AND due.lane = %(lane)s AND NOT marked
                AND not_before <= statement_timestamp()
                AND not_before >= coalesce(statement_timestamp() - make_interval(secs => %(begin_ago_s)s), '-infinity')
            ORDER BY not_before LIMIT 1
        ) UNION ALL (
            SELECT due.source, due.generation, due.not_before, true FROM reindexer.due
            WHERE due.source = drawn.source AND due.generation = drawn.number AND due.lane = %(lane)s AND marked
                AND not_before <= statement_timestamp()
                AND not_before >= coalesce(statement_timestamp() - make_interval(secs => %(marked_begin_ago_s)s), '-infinity')
                AND drawn.account <> ALL (gate.silent) -- guard mark-silent-provider-claim
                AND NOT drawn.over -- guard budget-claim-gate
            ORDER BY not_before LIMIT 1
        )
    ) AS ready
    WHERE gate.passes
), head AS MATERIALIZED (
    SELECT source, generation, %(lane)s::text AS lane, NULL::text AS item_id, marked, account, over
    FROM heads WHERE %(embeds)s OR NOT marked ORDER BY lot, last, random() LIMIT 1
), first AS MATERIALIZED (
    SELECT extract(epoch FROM statement_timestamp() - min(not_before) FILTER (WHERE NOT marked))::double precision AS ago_s,
           extract(epoch FROM statement_timestamp() - min(not_before) FILTER (WHERE marked))::double precision AS marked_ago_s
    FROM heads
), own AS MATERIALIZED (
    SELECT due.* FROM reindexer.due WHERE false
)

-- name: claim_item
-- One named item first; nothing if another claim holds it or it is settled already.
, own AS MATERIALIZED (
    SELECT due.* FROM reindexer.due JOIN reindexer.source ON source.name = due.source AND NOT source.paused
    JOIN gate ON gate.passes
    WHERE due.source = %(source)s AND due.item_id = %(item_id)s AND due.generation = source.generation
        AND due.not_before <= statement_timestamp()
    FOR UPDATE OF due SKIP LOCKED
), head AS MATERIALIZED (
    SELECT own.source, own.generation, own.lane, own.item_id, own.marked, generation.account,
           EXISTS (SELECT FROM reindexer.over_budget AS over
                   WHERE over.source = own.source AND over.generation = own.generation AND over.lane = own.lane) AS over
    FROM own JOIN reindexer.generation ON generation.source = own.source AND generation.number = own.generation
), first AS MATERIALIZED (
    SELECT NULL::double precision AS ago_s, NULL::double precision AS marked_ago_s
)

-- name: claim_picked
, neighbours AS MATERIALIZED (
    -- LATERAL: as a join the planner would sort the whole backlog for each claim. Marked ones have neighbours of their kind.
    SELECT ready.* FROM head CROSS JOIN LATERAL (
        SELECT due.* FROM reindexer.due
        WHERE NOT head.marked AND due.source = head.source AND due.lane = head.lane AND due.generation = head.generation
            AND NOT marked
            AND not_before <= statement_timestamp() AND due.item_id IS DISTINCT FROM head.item_id
            AND not_before >= coalesce(statement_timestamp() - make_interval(secs => %(begin_ago_s)s), '-infinity')
        ORDER BY not_before
        LIMIT %(max_items)s
        FOR UPDATE OF due SKIP LOCKED
    ) AS ready
    UNION ALL
    SELECT ready.* FROM head CROSS JOIN LATERAL (
        SELECT due.* FROM reindexer.due
        WHERE head.marked AND due.source = head.source AND due.lane = head.lane AND due.generation = head.generation
            AND marked
            AND not_before <= statement_timestamp() AND due.item_id IS DISTINCT FROM head.item_id
            AND not_before >= coalesce(statement_timestamp() - make_interval(secs => %(marked_begin_ago_s)s), '-infinity')
        ORDER BY not_before
        LIMIT %(max_items)s
        FOR UPDATE OF due SKIP LOCKED
    ) AS ready
), picked AS MATERIALIZED (
    SELECT source, item_id, generation, lease_until IS NOT NULL AS lost, place,
           -- guard suspect-claim-alone
           lease_until IS NOT NULL OR due.losses > 0 OR coalesce(ledger.losses, 0) > 0 AS alone,
           greatest(due.token, ledger.token) AS token, -- guard token-above-ledger
           text_fingerprint, greatest(chunks, due.begun_chunks, 0) AS chunks,
           CASE WHEN due.begun_upto IS NULL THEN payload_fingerprint ELSE due.begun_payload END AS payload_fingerprint,
           -- Who wants all embedded anew wants it tried anew, too, how much the provider takes.
           least(due.chunk_tokens, CASE WHEN due.forced_version IS NULL THEN ledger.chunk_tokens END) AS chunk_tokens,
           ledger.token IS NOT NULL AS known,
           CASE WHEN outcome = 'FAILED' THEN healed + 1 ELSE 0 END AS healed,
           extract(epoch FROM clock_timestamp() - doubted_at)::double precision AS doubted_ago_s
    FROM (SELECT *, row_number() OVER () AS place FROM (SELECT * FROM own UNION ALL SELECT * FROM neighbours) AS both_) AS due
    LEFT JOIN reindexer.ledger USING (source, item_id, generation)
), probe AS (
    -- Of claims that come together one gets it. Should its process die, the next may be made when its lease is over.
    UPDATE reindexer.breaker SET probe_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
    FROM head
    WHERE opened_at IS NOT NULL AND probe_at <= statement_timestamp() AND EXISTS (SELECT FROM picked)
        -- guard budget-no-probe
        AND (dependency = 'qdrant' OR (head.marked AND NOT head.over AND breaker.account = head.account))
    RETURNING dependency
), chosen AS (
    -- An item whose claim was lost goes alone until it is settled (healing too): should it kill its worker again, then no
    -- neighbour is held up.
    SELECT picked.* FROM picked
    CROSS JOIN head
    -- guard breaker-open-probe-only
    JOIN gate ON NOT (gate.probing OR (head.marked AND head.account = ANY (gate.closed)))
        OR (place = 1 AND EXISTS (SELECT FROM probe)) -- guard breaker-single-probe
    WHERE place <= %(max_items)s
        -- A subquery, asked once: as a join it would be looked through for each item.
        -- guard suspect-no-neighbours
        AND CASE WHEN (SELECT alone FROM picked WHERE place = 1) THEN place = 1 ELSE NOT alone END
), its_breakers AS (
    SELECT dependency, opened_at FROM reindexer.breaker JOIN head ON dependency = 'qdrant' OR breaker.account = head.account
), minted AS MATERIALIZED (
    -- Never a sequence: after a crash under asynchronous commits it hands numbers out again.
    -- Its moment is a sequence's: it leads to nothing outside of this database. After the locks, so that it is later than
    -- that of any drain which passed over one of the items.
    SELECT greatest((extract(epoch FROM clock_timestamp()) * 1000000)::bigint, max(chosen.token) + 1) AS token,
           reindexer.next_moment() AS moment
    FROM chosen
), claimed AS (
    UPDATE reindexer.due SET
        token = minted.token,
        lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s),
        not_before = clock_timestamp() + make_interval(secs => %(lease_s)s),
        attempts = attempts + 1,
        losses = due.losses + chosen.lost::integer,
        chunk_tokens = chosen.chunk_tokens,
        doubtful = due.doubtful OR chosen.lost, -- guard doubt-lost-claim
        changed_at = least(due.changed_at, due.later_changed_at),
        later_changed_at = NULL,
        claimed = minted.moment,
        traces = (due.traces || due.later_traces)[:32],
        later_traces = NULL,
        waits_for = NULL
    FROM chosen, minted
    WHERE due.source = chosen.source AND due.item_id = chosen.item_id AND due.generation = chosen.generation
    RETURNING due.*, chosen.text_fingerprint, chosen.payload_fingerprint, chosen.chunks, chosen.known, chosen.healed,
        chosen.doubted_ago_s, chosen.lost, chosen.alone
), facts AS (
    -- Of the claim as a whole: told in the first row, not with each of 256 items.
    SELECT claimed.source, claimed.generation, claimed.token, claimed.lane, claimed.marked, generation.state, generation.problem,
           generation.embedder,
           ARRAY(SELECT other.number FROM reindexer.generation AS other
                 WHERE other.source = generation.source AND other.number <> generation.number
                     AND other.state NOT IN ('broken', 'dropped')
                     AND other.embedder = generation.embedder) AS donors,
           first.ago_s AS first_ago_s, first.marked_ago_s AS marked_first_ago_s,
           ARRAY(SELECT dependency FROM its_breakers) AS failing,
           ARRAY(SELECT dependency FROM its_breakers WHERE opened_at IS NOT NULL) AS open,
           (SELECT account FROM head) AS account, (SELECT over FROM head) AS over_budget,
           ARRAY(SELECT dependency FROM probe) AS probes,
           clock_timestamp() AS claimed_at,
           set_config('synchronous_commit', 'on', true) AS durable, -- guard wal-claim-durable
           claimed.item_id AS first_item
    FROM (SELECT * FROM claimed ORDER BY item_id LIMIT 1) AS claimed
    JOIN reindexer.generation ON generation.source = claimed.source AND generation.number = claimed.generation
    CROSS JOIN first
)
SELECT item_id, version, attempts, forced_version IS NOT NULL AS forced, doubtful, losses, text_fingerprint, payload_fingerprint,
       chunks, chunk_tokens, begun_upto, known, healed, doubted_ago_s, lost, alone, traces, facts.*
FROM claimed LEFT JOIN facts ON first_item = item_id
ORDER BY item_id;
