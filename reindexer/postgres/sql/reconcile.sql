-- Reconcile one generation: is anything in flight for these items, and making those due that differ.

-- name: activity
-- One statement, so that a change is seen in the outbox or in due while it moves from one to the other. `token` grows
-- whenever an item is settled. A change of the whole source (TRUNCATE) or a walk that is not through moves every item.
SELECT wanted.item_id,
       due.item_id IS NOT NULL OR waiting.item_id IS NOT NULL OR source_moves.yes AS moves,
       coalesce(ledger.token, 0) AS token, coalesce(ledger.outcome = 'FAILED', false) AS failed
FROM reindexer.source
CROSS JOIN unnest(%(item_ids)s::text[]) AS wanted (item_id)
CROSS JOIN LATERAL (
    SELECT EXISTS (SELECT FROM reindexer.outbox
                   WHERE outbox.source = source.name AND (outbox.item_id IS NULL OR related IS NOT NULL))
        -- guard related-reconcile-waits
        OR EXISTS (SELECT FROM reindexer.fan_out WHERE fan_out.source = source.name)
        OR EXISTS (SELECT FROM reindexer.run WHERE run.source = source.name AND run.kind <> 'backfill'
                       AND coalesce(run.generation, %(generation)s::integer) = %(generation)s
                       AND run.finished_at IS NULL) AS yes
) AS source_moves
LEFT JOIN reindexer.due ON due.source = source.name AND due.item_id = wanted.item_id
    AND due.generation = %(generation)s
LEFT JOIN reindexer.ledger ON ledger.source = source.name AND ledger.item_id = wanted.item_id
    AND ledger.generation = %(generation)s
LEFT JOIN (
    SELECT DISTINCT reindexer.item_name(outbox.item_id) AS item_id FROM reindexer.outbox
    WHERE outbox.source = %(source)s AND outbox.related IS NULL AND reindexer.item_name(outbox.item_id) = ANY (%(item_ids)s)
) AS waiting ON waiting.item_id = wanted.item_id
WHERE source.name = %(source)s;

-- name: make_due
-- Doubtful, so that the ledger is not believed, and with the token that was met in the index, so that the claim's is
-- higher. An item that a claim holds is left alone: its claim may end without having looked at the index.
INSERT INTO reindexer.due AS due (source, item_id, generation, lane, doubtful, token, changed_at)
-- guard token-above-qdrant-repair
SELECT source.name, wrong.item_id, %(generation)s::integer, 'bulk', true, nullif(wrong.token, 0), ledger.changed_at
FROM reindexer.source
CROSS JOIN (
    SELECT item_id, max(token) AS token FROM unnest(%(item_ids)s::text[], %(tokens)s::bigint[]) AS each (item_id, token)
    GROUP BY item_id
) AS wrong
LEFT JOIN reindexer.ledger ON ledger.source = source.name AND ledger.item_id = wrong.item_id
    AND ledger.generation = %(generation)s
WHERE source.name = %(source)s
ORDER BY source.name, wrong.item_id
ON CONFLICT (source, item_id, generation) DO UPDATE SET
    doubtful = true, token = greatest(due.token, excluded.token), marked = false,
    changed_at = least(due.changed_at, excluded.changed_at)
    WHERE due.lease_until IS NULL -- guard reconcile-claimed-item-spared
RETURNING item_id;
