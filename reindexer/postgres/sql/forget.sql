-- Forgetting an item: no record of ours names it any more.

-- name: kept
-- Generations that can have due rows, and whether they get edits.
SELECT number, state <> 'broken' FROM reindexer.generation
WHERE source = %(source)s AND removed_at IS NULL AND state <> 'dropped' ORDER BY number;

-- name: known
-- What claims have left. Locked, so that nobody claims it before we do.
SELECT kept.number, coalesce(due.doubtful OR due.lease_until IS NOT NULL, false) AS is_doubtful,
       extract(epoch FROM clock_timestamp() - ledger.doubted_at)::double precision AS doubted_ago_s
FROM unnest(%(generations)s::integer[]) AS kept (number)
LEFT JOIN LATERAL (
    SELECT doubtful, lease_until FROM reindexer.due
    WHERE due.source = %(source)s AND due.item_id = %(item_id)s AND due.generation = kept.number FOR UPDATE
) AS due ON true
LEFT JOIN reindexer.ledger ON ledger.source = %(source)s AND ledger.item_id = %(item_id)s
    AND ledger.generation = kept.number
ORDER BY kept.number;

-- name: hold
-- A claim of its own, in every generation that can have a due row: what an older one writes later finds a higher token, and
-- it settles nothing. Doubtful: should this process die, whoever claims the item next makes nothing of what it had.
WITH minted AS MATERIALIZED (
    SELECT greatest((extract(epoch FROM clock_timestamp()) * 1000000)::bigint, %(seen)s::bigint + 1, -- guard forget-token-above
        (SELECT max(token) + 1 FROM reindexer.due WHERE source = %(source)s AND item_id = %(item_id)s),
        (SELECT max(token) + 1 FROM reindexer.ledger WHERE source = %(source)s AND item_id = %(item_id)s)) AS token
)
INSERT INTO reindexer.due AS due (source, item_id, generation, lane, token, doubtful, lease_until, not_before)
SELECT %(source)s, %(item_id)s, number, 'bulk', minted.token, true, -- guard forget-hold-doubtful
       clock_timestamp() + make_interval(secs => %(lease_s)s), clock_timestamp() + make_interval(secs => %(lease_s)s)
FROM unnest(%(generations)s::integer[]) AS number, minted
ORDER BY number
ON CONFLICT (source, item_id, generation) DO UPDATE SET
    doubtful = true, -- guard forget-hold-doubtful
    token = excluded.token, lease_until = excluded.lease_until, not_before = excluded.not_before, waits_for = NULL
-- guard forget-claimed-waits
WHERE due.lease_until IS NULL OR due.lease_until <= clock_timestamp() OR due.token = %(ours)s
RETURNING token, set_config('synchronous_commit', 'on', true);

-- name: release
-- It is done again by whoever claims it: there may be a row now.
UPDATE reindexer.due SET lease_until = NULL, not_before = clock_timestamp()
WHERE source = %(source)s AND item_id = %(item_id)s AND token = %(token)s AND lease_until IS NOT NULL;

-- name: changes
-- What is recorded of it now, before its row is looked for.
SELECT ARRAY(SELECT ctid::text || ' ' || xmin::text FROM reindexer.outbox
             WHERE source = %(source)s AND item_id = %(key)s AND related IS NULL),
       ARRAY(SELECT version FROM reindexer.due
             WHERE source = %(source)s AND item_id = %(item_id)s AND token = %(token)s ORDER BY generation);

-- name: take_changes
-- Only what was recorded before the look at its row. (The outbox before due, as the drain does.)
DELETE FROM reindexer.outbox
WHERE source = %(source)s AND item_id = %(key)s AND related IS NULL
    AND ctid::text || ' ' || xmin::text = ANY (%(changes)s::text[]); -- guard forget-later-changes

-- name: take_due
-- All of its due rows, if nothing has changed since and nobody else has claimed one.
WITH gone AS (
    DELETE FROM reindexer.due
    WHERE source = %(source)s AND item_id = %(item_id)s AND token = %(token)s AND lease_until IS NOT NULL
    RETURNING generation, version
)
SELECT coalesce(array_agg(version ORDER BY generation), '{}') FROM gone;

-- name: still_due
SELECT count(*) FROM reindexer.due WHERE source = %(source)s AND item_id = %(item_id)s;

-- name: erase
-- Task ids stay, for whoever holds one. What they asked for is named no more.
WITH known AS (
    DELETE FROM reindexer.ledger
    WHERE source = %(source)s AND item_id = %(item_id)s AND generation <> ALL (%(doubtful)s::integer[])
    RETURNING 1
), doubted AS (
    -- A late write of a claim without outcome may still make its point: it is looked at again, and then forgotten.
    INSERT INTO reindexer.ledger AS ledger (source, item_id, generation, outcome, token, doubted_at, recheck_at, forgotten_at)
    SELECT %(source)s, %(item_id)s, number, 'DELETED', %(token)s,
           clock_timestamp() - make_interval(secs => ago_s), clock_timestamp() + make_interval(secs => recheck_s),
           clock_timestamp()
    FROM unnest(%(doubtful)s::integer[], %(ago_s)s::double precision[], %(recheck_s)s::double precision[])
        AS doubtful (number, ago_s, recheck_s)
    ON CONFLICT (source, item_id, generation) DO UPDATE SET
        outcome = excluded.outcome, text_fingerprint = NULL, payload_fingerprint = NULL, chunks = 0, token = excluded.token,
        attempts = 0, error = NULL, heal_at = NULL, healed = 0, indexed_at = NULL, settled_at = excluded.settled_at,
        losses = 0, doubted_at = excluded.doubted_at, recheck_at = excluded.recheck_at, changed_at = NULL,
        chunk_tokens = NULL, forgotten_at = excluded.forgotten_at
    RETURNING 1
), asked AS (
    UPDATE reindexer.request SET
        item_id = '', succeeded = coalesce(succeeded, false),
        error = CASE WHEN succeeded THEN error ELSE 'the item was forgotten' END,
        finished_at = coalesce(finished_at, clock_timestamp()), sent_at = coalesce(sent_at, clock_timestamp())
    WHERE source = %(source)s AND item_id = %(item_id)s
    RETURNING 1
), noted AS (
    UPDATE reindexer.drained SET
        item_ids = array_replace(array_replace(item_ids, %(item_id)s::text, ''), %(key)s::text, '')
    WHERE source = %(source)s AND item_ids && ARRAY[%(item_id)s, %(key)s]::text[]
    RETURNING 1
), walked AS (
    UPDATE reindexer.run SET cursor = NULL
    WHERE source = %(source)s AND cursor IN (%(item_id)s, %(key)s) AND finished_at IS NOT NULL
    RETURNING 1
), told AS (
    -- Whoever was told of the item is told that it is gone. Until that is acknowledged, this one row names it.
    INSERT INTO reindexer.event AS event (receiver, source, subject, id, type, generation, version)
    SELECT receiver.name, source.name, 'item', %(item_id)s, 'item.deleted', source.generation,
           greatest(%(token)s, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
    FROM reindexer.event_receiver AS receiver JOIN reindexer.source ON source.name = %(source)s
    WHERE receiver.state = 'on' AND source.name = ANY (receiver.sources)
        AND 'item.deleted' = ANY (receiver.types) -- guard forget-told
        AND EXISTS (
            SELECT FROM reindexer.ledger
            WHERE ledger.source = source.name AND ledger.item_id = %(item_id)s AND ledger.generation = source.generation
                AND (chunks > 0 OR outcome = 'FAILED'))
    ORDER BY receiver.name
    ON CONFLICT (receiver, source, subject, id) DO UPDATE SET
        number = excluded.number, type = excluded.type, generation = excluded.generation,
        version = greatest(event.version + 1, excluded.version), at = excluded.at, details = '{}', attempts = 0, not_before = excluded.not_before
), untold AS (
    DELETE FROM reindexer.event
    WHERE event.source = %(source)s AND subject = 'item' AND id = %(item_id)s AND NOT EXISTS (
        SELECT FROM reindexer.event_receiver
        WHERE name = event.receiver AND state = 'on' AND 'item.deleted' = ANY (event_receiver.types))
    RETURNING 1
), named AS (
    DELETE FROM reindexer.long_key WHERE source = %(source)s AND item_id = %(item_id)s
    RETURNING 1
)
SELECT (SELECT count(*) FROM known) + (SELECT count(*) FROM asked) + (SELECT count(*) FROM walked)
     + (SELECT count(*) FROM noted)
     + (SELECT count(*) FROM named) + (SELECT count(*) FROM untold) AS records;
