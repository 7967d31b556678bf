-- Breakers: a row for each dependency that does not answer, a provider's for each account. Each statement locks one row of the table and nothing that
-- a claim holds, so that it can't deadlock with one.

-- name: fail
-- Once it is open, only the failure of a probe makes the wait grow: others were under way when it opened.
INSERT INTO reindexer.breaker AS breaker (dependency, account, failures, reason, opened_at, probe_at, wait_s)
VALUES (%(dependency)s, %(account)s, %(failures)s, %(reason)s,
        CASE WHEN %(failures)s >= %(opens_at)s THEN clock_timestamp() END,
        clock_timestamp() + make_interval(secs => %(base_s)s), %(base_s)s)
ON CONFLICT (dependency, account) DO UPDATE SET
    failures = breaker.failures + excluded.failures,
    reason = excluded.reason,
    failed_at = excluded.failed_at,
    opened_at = CASE WHEN breaker.failures + excluded.failures >= %(opens_at)s -- guard breaker-failure-threshold
                     THEN coalesce(breaker.opened_at, excluded.failed_at) END,
    wait_s = CASE WHEN breaker.opened_at IS NULL THEN excluded.wait_s
                  WHEN %(probed)s THEN least(%(max_s)s, breaker.wait_s * 2)
                  ELSE breaker.wait_s END,
    probe_at = CASE WHEN breaker.opened_at IS NULL THEN excluded.probe_at
                    WHEN %(probed)s THEN clock_timestamp() + make_interval(secs => least(%(max_s)s, breaker.wait_s * 2))
                    ELSE breaker.probe_at END
RETURNING failures, opened_at IS NOT NULL AS is_open, wait_s;

-- name: answered
-- Not if it failed since that answer. What FAILED for a passing cause is then tried again at once: most of it will have
-- failed for this one. (A row that a settling worker holds is being decided anew just now.)
WITH closed AS (
    DELETE FROM reindexer.breaker
    -- guard breaker-stale-answer-ignored
    WHERE dependency = %(dependency)s AND account = %(account)s AND failed_at <= clock_timestamp() - make_interval(secs => %(ago_s)s)
    RETURNING opened_at
), hastened AS (
    UPDATE reindexer.ledger SET heal_at = clock_timestamp()
    WHERE ctid = ANY (ARRAY(
        SELECT ledger.ctid FROM reindexer.ledger
        -- guard breaker-heal-on-close
        WHERE outcome = 'FAILED' AND heal_at > clock_timestamp() AND EXISTS (SELECT FROM closed WHERE opened_at IS NOT NULL)
        ORDER BY source, item_id
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING 1
)
SELECT extract(epoch FROM clock_timestamp() - opened_at)::double precision AS open_s,
       (SELECT count(*) FROM hastened) AS hastened
FROM closed WHERE opened_at IS NOT NULL;

-- name: release
-- The probe asked nothing: the next claim may.
UPDATE reindexer.breaker SET probe_at = clock_timestamp() 
WHERE dependency = %(dependency)s AND account = %(account)s AND opened_at IS NOT NULL;

-- name: note_account
-- Whose provider's breaker holds up the generation's marked items. Known from the first failure on.
UPDATE reindexer.generation SET account = %(account)s
WHERE source = %(source)s AND number = %(generation)s AND account <> %(account)s;

-- name: open
-- `account` is '' for Qdrant's. The one that is open for the longest time first.
SELECT dependency, account, reason, failures, opened_at AS since, probe_at AS next_probe_at
FROM reindexer.breaker WHERE opened_at IS NOT NULL ORDER BY dependency, opened_at;

-- name: forget
-- Nobody has had a reason to ask for so long: nothing waits, and the next who needs it will find out.
DELETE FROM reindexer.breaker
WHERE greatest(failed_at, probe_at) < clock_timestamp() - make_interval(secs => %(after_s)s);
