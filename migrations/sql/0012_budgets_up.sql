-- How much may be spent: by a UTC day, by a month, by a run.
CREATE TABLE reindexer.budget (
    source      text NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('indexing', 'search')),
    period      text NOT NULL CHECK (period IN ('day', 'month', 'run')),
    usd         numeric NOT NULL CHECK (usd >= 0),
    stops_edits boolean NOT NULL DEFAULT false,
    since       date,
    base        numeric NOT NULL DEFAULT 0,
    closed_at   timestamptz,
    wanted      numeric NOT NULL DEFAULT 0,
    told_for    date,
    PRIMARY KEY (source, kind, period)
) WITH (fillfactor = 50);
COMMENT ON TABLE reindexer.budget IS 'What may be spent. While one is closed, claims leave the items alone that need nothing but an embedding.';
COMMENT ON COLUMN reindexer.budget.source IS 'Empty: all sources together.';
COMMENT ON COLUMN reindexer.budget.stops_edits IS 'Once it is used up, edits wait as well as backfills.';
COMMENT ON COLUMN reindexer.budget.since IS 'Of a run: the day on which it began.';
COMMENT ON COLUMN reindexer.budget.base IS 'Of a run: micro-dollars that its source had spent on that day before.';
COMMENT ON COLUMN reindexer.budget.closed_at IS 'Since when it is used up. NULL: it is not.';
COMMENT ON COLUMN reindexer.budget.wanted IS 'Micro-dollars that the request may have cost for which too little was left.';
COMMENT ON COLUMN reindexer.budget.told_for IS 'The period for which the log said that most of it is used.';

-- Each budget with what counts against it: what is spent, and what processes have set aside.
CREATE VIEW reindexer.budget_use AS
SELECT budget.source, budget.kind, budget.period, usd * 1000000 AS micro_dollars, stops_edits, begins, closed_at, wanted, told_for,
    spent.micro_dollars + held.micro_dollars - base AS used
FROM reindexer.budget
CROSS JOIN LATERAL (SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date AS today) AS clock
CROSS JOIN LATERAL (
    SELECT CASE period WHEN 'day' THEN today WHEN 'month' THEN date_trunc('month', today)::date ELSE since END AS begins
) AS its
CROSS JOIN LATERAL (
    SELECT coalesce(sum(spend.micro_dollars), 0) AS micro_dollars FROM reindexer.spend
    WHERE day >= begins AND (budget.source = '' OR spend.source = budget.source)
        AND CASE WHEN kind = 'search' THEN purpose = 'search'
                 WHEN period = 'run' THEN purpose IN ('backfill', 'rebuild')
                 ELSE purpose <> 'search' END
) AS spent
CROSS JOIN LATERAL (
    SELECT coalesce(sum(tokens * price), 0) AS micro_dollars FROM reindexer.spend_reservation AS reservation
    WHERE day >= begins AND (budget.source = '' OR reservation.source = budget.source)
        AND CASE WHEN kind = 'search' THEN purpose = 'search'
                 WHEN period = 'run' THEN purpose IN ('backfill', 'rebuild')
                 ELSE purpose <> 'search' END
) AS held;
COMMENT ON VIEW reindexer.budget_use IS 'Budgets, and what counts against each, in micro-dollars.';

-- Whose items wait that need nothing but an embedding: those of backfills and of generations that searches do not use; edits
-- where a budget says so.
CREATE VIEW reindexer.over_budget AS
SELECT generation.source, generation.number AS generation, lanes.lane
FROM reindexer.budget JOIN reindexer.generation ON budget.source IN ('', generation.source)
CROSS JOIN (VALUES ('live'), ('bulk')) AS lanes (lane)
WHERE closed_at IS NOT NULL AND kind = 'indexing' AND (stops_edits OR lanes.lane = 'bulk' OR generation.state <> 'active');
COMMENT ON VIEW reindexer.over_budget IS 'Generations and lanes whose marked items wait for a budget.';

-- Which database spends. A copy of it would spend on the same account.
CREATE TABLE reindexer.spender (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    identity text NOT NULL
);
COMMENT ON TABLE reindexer.spender IS 'The name of the database that spends: its system identifier and OID, or REINDEXER_INSTANCE.';

-- Whoever accounts obeys budgets, too.
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS role
        FROM pg_class, aclexplode(relacl)
        WHERE pg_class.oid = 'reindexer.spend_reservation'::regclass AND privilege_type = 'INSERT'
    LOOP
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON reindexer.budget TO %s', granted.role);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON reindexer.spender TO %s', granted.role);
        EXECUTE format('GRANT SELECT ON reindexer.budget_use, reindexer.over_budget TO %s', granted.role);
    END LOOP;
    -- Whoever may ask for the status.
    FOR granted IN
        SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS role
        FROM pg_class, aclexplode(relacl)
        WHERE pg_class.oid = 'reindexer.breaker'::regclass AND privilege_type = 'SELECT'
    LOOP
        EXECUTE format('GRANT SELECT ON reindexer.budget_use, reindexer.over_budget TO %s', granted.role);
    END LOOP;
END $$;
