-- Budgets: what may be spent. `reindexer.budget_use` adds up what counts against each.

-- name: lock
-- Whoever reserves for the same budget does so one after the other. A statement sees what was committed before it began:
-- the sums are therefore those of a second statement.
SELECT count(*) FROM (
    SELECT FROM reindexer.budget
    WHERE source IN ('', %(source)s) AND kind = %(kind)s AND (period <> 'run' OR %(purpose)s IN ('backfill', 'rebuild'))
    ORDER BY source, kind, period FOR UPDATE -- guard budget-one-by-one
) AS locked;

-- name: of
SELECT source, kind, period, micro_dollars, used, stops_edits, begins, closed_at IS NOT NULL AS is_closed
FROM reindexer.budget_use
WHERE source IN ('', %(source)s) AND kind = %(kind)s AND (period <> 'run' OR %(purpose)s IN ('backfill', 'rebuild'))
ORDER BY source, kind, period;

-- name: close
UPDATE reindexer.budget SET closed_at = coalesce(closed_at, clock_timestamp()), wanted = %(wanted)s
WHERE source = %(source)s AND kind = %(kind)s AND period = %(period)s;

-- name: fits
-- A part of the request that closed it was granted: no more than that has to be left for it to open again.
UPDATE reindexer.budget SET wanted = least(wanted, %(wanted)s)
WHERE source = %(source)s AND kind = %(kind)s AND period = %(period)s;

-- name: open
-- What was counted at its most comes back when it is settled; another period begins; somebody raised it. A budget that was
-- used up opens again only if a hundredth of it is left, so that its end is not met again and again; and always when it is
-- whole, even if a request was larger than that: smaller ones may pass.
-- Those that others have locked have their turn the next time: the listener neither waits for anybody's transaction, nor can
-- it deadlock with whoever reserves.
UPDATE reindexer.budget SET closed_at = NULL
FROM reindexer.budget_use AS its
WHERE (budget.source, budget.kind, budget.period) IN (
        SELECT source, kind, period FROM reindexer.budget WHERE closed_at IS NOT NULL
        FOR UPDATE SKIP LOCKED -- guard budget-open-no-wait
    )
    AND its.source = budget.source AND its.kind = budget.kind AND its.period = budget.period
    AND micro_dollars - used >= least(greatest(budget.wanted, micro_dollars / 100), micro_dollars) -- guard budget-opens-whole
    AND micro_dollars > 0
RETURNING budget.source, budget.kind, budget.period, micro_dollars, used, budget.stops_edits, begins, false AS is_closed;

-- name: nearly
-- Told once in a period.
UPDATE reindexer.budget SET told_for = begins
FROM reindexer.budget_use AS its
WHERE (budget.source, budget.kind, budget.period) IN (
        SELECT source, kind, period FROM reindexer.budget
        FOR UPDATE SKIP LOCKED -- guard budget-told-no-wait
    )
    AND its.source = budget.source AND its.kind = budget.kind AND its.period = budget.period
    AND used >= %(part)s * micro_dollars AND micro_dollars > 0 AND budget.told_for IS DISTINCT FROM begins
RETURNING budget.source, budget.kind, budget.period, micro_dollars, used, budget.stops_edits, begins,
    budget.closed_at IS NOT NULL AS is_closed;

-- name: all
SELECT source, kind, period, micro_dollars, used, stops_edits, begins, closed_at IS NOT NULL AS is_closed
FROM reindexer.budget_use ORDER BY source, kind, period;

-- name: set
INSERT INTO reindexer.budget (source, kind, period, usd, stops_edits, since, base)
SELECT %(source)s, %(kind)s, %(period)s, %(usd)s, coalesce(%(stops_edits)s, false), since, base
FROM (SELECT CASE WHEN %(period)s = 'run' THEN (clock_timestamp() AT TIME ZONE 'UTC')::date END AS since) AS its
CROSS JOIN LATERAL (
    SELECT coalesce(sum(micro_dollars), 0) AS base FROM reindexer.spend
    WHERE day >= since AND source = %(source)s AND purpose IN ('backfill', 'rebuild')
) AS before
ON CONFLICT (source, kind, period) DO UPDATE SET
    usd = excluded.usd, stops_edits = coalesce(%(stops_edits)s, budget.stops_edits), closed_at = NULL, told_for = NULL
RETURNING period;

-- name: remove
DELETE FROM reindexer.budget WHERE source = %(source)s AND kind = %(kind)s AND period = %(period)s RETURNING period;

-- name: lock_run
SELECT FROM reindexer.budget WHERE source = %(source)s AND period = 'run' FOR UPDATE;

-- name: end_of_runs
-- A run's budget ends with it: at the next look, if somebody has locked it.
DELETE FROM reindexer.budget
WHERE (source, kind, period) IN (
        SELECT source, kind, period FROM reindexer.budget WHERE period = 'run'
        FOR UPDATE SKIP LOCKED -- guard budget-end-no-wait
    )
    AND NOT EXISTS (SELECT FROM reindexer.run WHERE run.source = budget.source AND finished_at IS NULL)
    AND NOT EXISTS (SELECT FROM reindexer.generation WHERE generation.source = budget.source AND state = 'filling');

-- name: spender
SELECT identity FROM reindexer.spender;

-- name: spends
INSERT INTO reindexer.spender (identity) VALUES (%(identity)s) ON CONFLICT DO NOTHING;

-- name: adopt
INSERT INTO reindexer.spender (identity) VALUES (%(identity)s)
ON CONFLICT (only_one) DO UPDATE SET identity = excluded.identity;
