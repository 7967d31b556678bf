-- What requests to providers cost. A process sets tokens aside before it asks, and later replaces them by what was counted.

-- name: reserve
-- Of the day that the database's clock says: budgets go by it.
INSERT INTO reindexer.spend_reservation (id, day, source, account, model, purpose, price, tokens)
VALUES (%(id)s, (clock_timestamp() AT TIME ZONE 'UTC')::date, %(source)s, %(account)s, %(model)s, %(purpose)s, %(price)s,
        %(tokens)s)
RETURNING id;

-- name: reserve_more
UPDATE reindexer.spend_reservation SET tokens = tokens + %(tokens)s, renewed_at = clock_timestamp()
WHERE id = %(id)s AND day = (clock_timestamp() AT TIME ZONE 'UTC')::date
RETURNING id;

-- name: settle
-- One row for each block that the process holds. In the order of the key, so that two processes can't deadlock. More is set
-- aside only where no budget counts it, and on the block's own day.
WITH used AS (
    SELECT used.id, new_requests, new_tokens, new_unconfirmed, released, ends, has_budget,
        -- guard budget-no-refill
        CASE WHEN has_budget OR held.day <> (clock_timestamp() AT TIME ZONE 'UTC')::date THEN least(wished, 0) ELSE wished END
            AS granted
    FROM unnest(
        %(ids)s::uuid[], %(requests)s::bigint[], %(tokens)s::bigint[], %(unconfirmed)s::bigint[], %(released)s::bigint[],
        %(wished)s::bigint[], %(ends)s::boolean[]
    ) AS used (id, new_requests, new_tokens, new_unconfirmed, released, wished, ends)
    JOIN reindexer.spend_reservation AS held ON held.id = used.id
    CROSS JOIN LATERAL (
        SELECT EXISTS (
            SELECT FROM reindexer.budget WHERE budget.source IN ('', held.source)
                AND kind = CASE held.purpose WHEN 'search' THEN 'search' ELSE 'indexing' END
                AND (period <> 'run' OR held.purpose IN ('backfill', 'rebuild')) -- guard budget-run-own-purposes
        ) AS has_budget
    ) AS its
), kept AS (
    UPDATE reindexer.spend_reservation AS held
    SET tokens = held.tokens + granted - released, renewed_at = clock_timestamp()
    FROM used WHERE held.id = used.id AND NOT ends
    RETURNING held.id, day, source, account, model, purpose, price, new_requests, new_tokens, new_unconfirmed, granted, has_budget
), ended AS (
    DELETE FROM reindexer.spend_reservation AS held USING used WHERE held.id = used.id AND ends
    RETURNING held.id, day, source, account, model, purpose, price, new_requests, new_tokens, new_unconfirmed, granted, has_budget
), held AS (
    SELECT * FROM kept UNION ALL SELECT * FROM ended
), spent AS (
    INSERT INTO reindexer.spend AS spend
        (day, source, account, model, purpose, requests, tokens, unconfirmed_tokens, unpriced_tokens, micro_dollars)
    SELECT day, source, account, model, purpose, sum(new_requests), sum(new_tokens), sum(new_unconfirmed),
        coalesce(sum(new_tokens + new_unconfirmed) FILTER (WHERE price IS NULL), 0),
        coalesce(sum((new_tokens + new_unconfirmed) * price), 0)
    FROM held
    GROUP BY day, source, account, model, purpose
    HAVING sum(new_requests) > 0
    ORDER BY day, source, account, model, purpose
    ON CONFLICT (day, source, account, model, purpose) DO UPDATE SET
        requests = spend.requests + excluded.requests,
        tokens = spend.tokens + excluded.tokens,
        unconfirmed_tokens = spend.unconfirmed_tokens + excluded.unconfirmed_tokens,
        unpriced_tokens = spend.unpriced_tokens + excluded.unpriced_tokens,
        micro_dollars = spend.micro_dollars + excluded.micro_dollars
)
SELECT id, granted, has_budget FROM held;

-- name: spend_of_the_dead
WITH dead AS (
    DELETE FROM reindexer.spend_reservation
    WHERE id IN (
        SELECT id FROM reindexer.spend_reservation
        WHERE renewed_at < clock_timestamp() - make_interval(secs => %(after_s)s)
        FOR UPDATE SKIP LOCKED
    )
    RETURNING day, source, account, model, purpose, price, tokens
), spent AS (
    INSERT INTO reindexer.spend AS spend
        (day, source, account, model, purpose, unconfirmed_tokens, unpriced_tokens, micro_dollars)
    SELECT day, source, account, model, purpose,
        sum(tokens), -- guard spend-of-the-dead
        coalesce(sum(tokens) FILTER (WHERE price IS NULL), 0), coalesce(sum(tokens * price), 0)
    FROM dead
    GROUP BY day, source, account, model, purpose
    ORDER BY day, source, account, model, purpose
    ON CONFLICT (day, source, account, model, purpose) DO UPDATE SET
        unconfirmed_tokens = spend.unconfirmed_tokens + excluded.unconfirmed_tokens,
        unpriced_tokens = spend.unpriced_tokens + excluded.unpriced_tokens,
        micro_dollars = spend.micro_dollars + excluded.micro_dollars
)
SELECT coalesce(sum(tokens), 0)::bigint FROM dead;

-- name: spent
SELECT day, source, model, purpose, sum(requests)::bigint AS requests, sum(tokens)::bigint AS tokens,
    sum(unconfirmed_tokens)::bigint AS unconfirmed_tokens, sum(unpriced_tokens)::bigint AS unpriced_tokens,
    (sum(micro_dollars) / 1000000)::double precision AS dollars
FROM reindexer.spend
WHERE day > (clock_timestamp() AT TIME ZONE 'UTC')::date - %(days)s::int
GROUP BY day, source, model, purpose
ORDER BY day, source, model, purpose;

-- name: reserved
SELECT coalesce(sum(tokens), 0)::bigint AS tokens, (coalesce(sum(tokens * price), 0) / 1000000)::double precision AS dollars
FROM reindexer.spend_reservation;
