-- name: sources
SELECT name, source.generation, paused, generation.problem FROM reindexer.source
-- guard problem-active-generation
JOIN reindexer.generation ON generation.source = name AND generation.number = source.generation
ORDER BY name;

-- name: listener
-- Who holds the leader's lock and the bell's. Behind a pooler a listener can hold none: its beat tells that it drains.
SELECT coalesce(bool_or(objid = %(leader_lock)s), false) OR EXISTS (
           SELECT FROM reindexer.process
           WHERE role = 'listener' AND leads AND beat_at > clock_timestamp() - make_interval(secs => %(stale_s)s)
       ) AS led,
       coalesce(bool_or(objid = %(wake_lock)s AND mode = 'ExclusiveLock'), false) AS asleep
FROM pg_locks
WHERE locktype = 'advisory' AND granted AND classid = %(lock_class)s
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database());

-- name: item
-- `status` as in the view item_status, but a change that waits in the outbox counts, and a deleted item is told too.
SELECT CASE
           WHEN due.lease_until > clock_timestamp() THEN 'PROCESSING'
           WHEN due.item_id IS NOT NULL OR outbox.changed_at IS NOT NULL THEN 'PENDING'
           ELSE ledger.outcome
       END AS status,
       source.paused, generation.problem,
       due.item_id IS NOT NULL AS is_due, due.lane, due.doubtful, due.waits_for,
       coalesce(due.marked, false) AS is_marked, generation.account,
       outbox.changed_at IS NOT NULL AS in_outbox,
       ledger.item_id IS NOT NULL AS is_known, ledger.outcome, ledger.text_fingerprint, ledger.indexed_at,
       coalesce(ledger.chunks, 0) AS chunks, least(due.chunk_tokens, ledger.chunk_tokens) AS chunk_tokens,
       coalesce(due.attempts, ledger.attempts, 0) AS attempts,
       coalesce(due.waits_for, ledger.error) AS error,
       CASE WHEN due.item_id IS NOT NULL THEN due.not_before ELSE ledger.heal_at END AS next_try_at,
       least(due.changed_at, due.later_changed_at, ledger.changed_at, outbox.changed_at) AS changed_at
FROM reindexer.source
JOIN reindexer.generation ON generation.source = source.name AND generation.number = source.generation
LEFT JOIN reindexer.due ON due.source = source.name AND due.item_id = %(item_id)s AND due.generation = source.generation
LEFT JOIN reindexer.ledger ON ledger.source = source.name AND ledger.item_id = %(item_id)s
    AND ledger.generation = source.generation
CROSS JOIN LATERAL (
    SELECT min(changed_at) AS changed_at FROM reindexer.outbox
    WHERE outbox.source = source.name AND outbox.related IS NULL AND reindexer.item_name(outbox.item_id) = %(item_id)s
) AS outbox
WHERE source.name = %(source)s;

-- name: chunk_tokens
-- Items of which the provider found a chunk too long.
SELECT item_id, chunk_tokens FROM reindexer.ledger
WHERE source = %(source)s AND generation = %(generation)s AND ledger.item_id = ANY (%(item_ids)s) AND ledger.chunk_tokens IS NOT NULL;
