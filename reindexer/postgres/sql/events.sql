-- The events that wait. Settling and the end of a run write them; the leading listener sends them.
-- Whoever changes rows here passes over those that somebody has locked: a settle, which is about to raise their numbers.

-- name: ready
-- Receivers that can be sent something now.
SELECT receiver.name FROM reindexer.event_receiver AS receiver
WHERE kind = 'webhook' AND state = 'on' AND name <> ALL (%(busy)s::text[])
    AND coalesce(next_try_at <= clock_timestamp(), true)
    AND EXISTS (
        SELECT FROM reindexer.event WHERE event.receiver = receiver.name AND not_before <= clock_timestamp()
            AND (subject = 'all' OR NOT EXISTS (
                SELECT FROM reindexer.event AS resync
                WHERE resync.receiver = receiver.name AND (resync.source, resync.subject, resync.id) = ('', 'all', ''))));

-- name: take
-- One sender at a time sends to a receiver, so that no two send events of one item: a lease tells for how long it may.
-- The commit waits for the disk, and so does all that was committed before it: nobody is told what a crash takes back.
WITH leased AS (
    UPDATE reindexer.event_receiver AS receiver
    SET leased_by = %(sender)s, leased_until = clock_timestamp() + make_interval(secs => %(lease_s)s)
    FROM (SELECT set_config('synchronous_commit', 'on', true)) AS durable -- guard event-on-disk
    WHERE name = %(receiver)s AND kind = 'webhook' AND state = 'on'
        -- guard event-one-sender
        AND (leased_by = %(sender)s OR coalesce(leased_until <= clock_timestamp(), true))
        AND EXISTS (SELECT FROM reindexer.spender WHERE identity = %(identity)s) -- guard event-copy-silent
    RETURNING name, url, CASE WHEN old_until > clock_timestamp() THEN secrets ELSE secrets[1:1] END AS secrets
)
SELECT url, secrets, next.number, next.type, next.at, reindexer.event_data(next), next.attempts
FROM leased CROSS JOIN LATERAL (
    SELECT event.* FROM reindexer.event
    WHERE event.receiver = leased.name AND not_before <= clock_timestamp()
        -- guard event-resync-first
        AND (subject = 'all' OR NOT EXISTS (
            SELECT FROM reindexer.event AS resync
            WHERE resync.receiver = leased.name AND (resync.source, resync.subject, resync.id) = ('', 'all', '')))
    ORDER BY number LIMIT %(most)s
) AS next
ORDER BY next.number;

-- name: acknowledge
DELETE FROM reindexer.event WHERE ctid IN (
    -- guard event-acknowledged-as-sent
    SELECT ctid FROM reindexer.event WHERE receiver = %(receiver)s AND number = ANY (%(numbers)s::bigint[])
    FOR UPDATE SKIP LOCKED
);

-- name: postpone
UPDATE reindexer.event SET attempts = attempts + 1, not_before = clock_timestamp() + make_interval(secs => failed.wait_s)
FROM unnest(%(numbers)s::bigint[], %(waits_s)s::double precision[]) AS failed (number, wait_s)
WHERE ctid IN (
        SELECT ctid FROM reindexer.event WHERE receiver = %(receiver)s AND number = ANY (%(numbers)s::bigint[])
        FOR UPDATE SKIP LOCKED)
    AND event.number = failed.number;

-- name: answered
-- It answers again: what waited for that waits no more. Events that alone were not taken go on waiting.
WITH was AS MATERIALIZED (
    SELECT name, failures > 2 OR next_try_at IS NOT NULL AS was_away FROM reindexer.event_receiver
    WHERE name = %(receiver)s AND state = 'on' AND (failures > 0 OR problem IS NOT NULL OR next_try_at IS NOT NULL)
), back AS (
    UPDATE reindexer.event_receiver SET failures = 0, failing_since = NULL, next_try_at = NULL, problem = NULL
    FROM was WHERE event_receiver.name = was.name
)
UPDATE reindexer.event SET not_before = clock_timestamp()
WHERE ctid IN (
    SELECT event.ctid FROM reindexer.event JOIN was ON event.receiver = was.name AND was.was_away -- guard event-back-at-once
    WHERE not_before > clock_timestamp() FOR UPDATE OF event SKIP LOCKED
);

-- name: failed
UPDATE reindexer.event_receiver SET
    failures = failures + 1, failing_since = coalesce(failing_since, clock_timestamp()), problem = %(problem)s,
    next_try_at = CASE WHEN %(wait_s)s > 0 THEN clock_timestamp() + make_interval(secs => %(wait_s)s) END
WHERE name = %(receiver)s AND state = 'on';

-- name: gone
UPDATE reindexer.event_receiver SET state = 'off', problem = %(problem)s WHERE name = %(receiver)s AND state = 'on';

-- name: release
UPDATE reindexer.event_receiver SET leased_until = NULL WHERE leased_by = %(sender)s AND leased_until > clock_timestamp();

-- name: silent
UPDATE reindexer.event_receiver SET problem = %(problem)s WHERE state = 'on' AND problem IS DISTINCT FROM %(problem)s;

-- name: not_silent
UPDATE reindexer.event_receiver SET problem = NULL WHERE state = 'on' AND starts_with(problem, %(beginning)s);

-- name: latest
-- Receivers by NOTIFY for which something waits, and the number of its last event.
SELECT name, (SELECT max(number) FROM reindexer.event WHERE receiver = name) AS latest FROM reindexer.event_receiver
WHERE kind = 'notify' AND state = 'on' AND EXISTS (SELECT FROM reindexer.event WHERE receiver = name);

-- name: look
SELECT pg_notify(%(channel)s, %(receiver)s);

-- name: receivers
SELECT name FROM reindexer.event_receiver WHERE state = 'on';

-- name: over
-- Receivers for which more waits than may, or for longer.
SELECT name, sources,
       CASE WHEN waits.many THEN format('more than %%s events waited', %(most)s::bigint)
            ELSE format('an event waited for more than %%s s', %(keep_s)s::bigint) END
FROM reindexer.event_receiver
CROSS JOIN LATERAL (
    SELECT (SELECT count(*) FROM (
                SELECT FROM reindexer.event WHERE receiver = name AND subject <> 'all' LIMIT %(most)s + 1) AS them) > %(most)s AS many,
           (SELECT at FROM reindexer.event WHERE receiver = name AND subject <> 'all' ORDER BY number LIMIT 1)
                < clock_timestamp() - make_interval(secs => %(keep_s)s) AS long
) AS waits
WHERE state = 'on' AND (waits.many OR waits.long);

-- name: resync
-- In place of all that waits.
INSERT INTO reindexer.event AS event (receiver, source, subject, id, type, version, details)
SELECT %(receiver)s, '', 'all', '', 'resync', (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
       jsonb_build_object('sources', %(sources)s::text[], 'reason', %(reason)s::text)
ON CONFLICT (receiver, source, subject, id) DO UPDATE SET
    number = excluded.number, version = excluded.version, at = excluded.at, details = excluded.details, attempts = 0,
    not_before = excluded.not_before
RETURNING number;

-- name: drop_before
-- A page of what the resync stands for.
DELETE FROM reindexer.event WHERE ctid IN (
    SELECT ctid FROM reindexer.event WHERE receiver = %(receiver)s AND number < %(number)s
    ORDER BY number LIMIT %(page)s FOR UPDATE SKIP LOCKED
);

-- name: drop_unheard
-- A page of what waits for receivers that are no more, or are told nothing any more.
DELETE FROM reindexer.event WHERE ctid IN (
    SELECT ctid FROM reindexer.event
    WHERE NOT EXISTS (SELECT FROM reindexer.event_receiver WHERE name = event.receiver AND state = 'on')
    LIMIT %(page)s FOR UPDATE SKIP LOCKED
);

-- name: promoted
-- Searches use another generation: whoever differs in it is told. And whoever had a change that the former generation has
-- not got: this one may have got it before anybody was told of what it does.
WITH heard AS MATERIALIZED (
    SELECT name, types FROM reindexer.event_receiver WHERE state = 'on' AND %(source)s = ANY (sources)
), differing AS MATERIALIZED (
    SELECT target.item_id, target.token, target.error,
           CASE WHEN target.outcome = 'FAILED' THEN 'item.failed'
                WHEN target.outcome = 'COMPLETED' AND target.chunks > 0 THEN 'item.searchable'
                ELSE 'item.deleted' END AS type
    FROM reindexer.ledger AS target LEFT JOIN reindexer.ledger AS former
        ON former.source = target.source AND former.item_id = target.item_id AND former.generation = %(former)s
    WHERE EXISTS (SELECT FROM heard) AND target.source = %(source)s AND target.generation = %(generation)s
        AND ((target.outcome = 'FAILED', target.outcome = 'COMPLETED' AND target.chunks > 0, target.error) IS DISTINCT FROM
             (coalesce(former.outcome = 'FAILED', false), coalesce(former.outcome = 'COMPLETED' AND former.chunks > 0, false), former.error)
             OR EXISTS ( -- guard event-promoted-edit
                SELECT FROM reindexer.due
                WHERE due.source = target.source AND due.item_id = target.item_id AND due.generation = %(former)s))
)
INSERT INTO reindexer.event AS event (receiver, source, subject, id, type, generation, version, details)
SELECT heard.name, %(source)s, 'item', item_id, type, %(generation)s,
       greatest(token, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint),
       CASE WHEN type = 'item.failed' THEN jsonb_build_object('reason', error) ELSE '{}' END
FROM heard JOIN differing ON type = ANY (types)
ORDER BY heard.name, item_id
ON CONFLICT (receiver, source, subject, id) DO UPDATE SET
    number = excluded.number, type = excluded.type, generation = excluded.generation,
    version = greatest(event.version + 1, excluded.version), at = excluded.at, details = excluded.details, attempts = 0,
    not_before = excluded.not_before;
