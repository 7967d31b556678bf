-- Receivers of events. Only who migrated writes them; the listener writes how they do.

-- name: add
INSERT INTO reindexer.event_receiver (name, kind, url, secrets, sources, types, created_by)
VALUES (%(name)s, %(kind)s, %(url)s, %(secrets)s, %(sources)s, %(types)s, %(who)s);

-- name: all
SELECT receiver.name, kind, url, sources, types, state, problem, failures, failing_since, next_try_at, created_at, created_by,
       waits.waiting, coalesce(waits.oldest_s, 0) AS oldest_s
FROM reindexer.event_receiver AS receiver
CROSS JOIN LATERAL (
    SELECT count(*) AS waiting,
           extract(epoch FROM clock_timestamp() - min(at))::double precision AS oldest_s
    FROM reindexer.event WHERE event.receiver = receiver.name
) AS waits
ORDER BY receiver.name;

-- name: remove
DELETE FROM reindexer.event_receiver WHERE name = %(name)s RETURNING kind;

-- name: remove_events
-- The listener takes what is locked now, or is written by who had looked before.
DELETE FROM reindexer.event WHERE ctid IN (
    SELECT ctid FROM reindexer.event WHERE receiver = %(name)s FOR UPDATE SKIP LOCKED
);

-- name: rotate
-- The secret before signs as well for a while.
UPDATE reindexer.event_receiver SET
    secrets = %(secret)s::text || secrets[1:1], old_until = clock_timestamp() + make_interval(secs => %(keep_s)s)
WHERE name = %(name)s AND kind = 'webhook'
RETURNING name;

-- name: target
SELECT kind, url, CASE WHEN old_until > clock_timestamp() THEN secrets ELSE secrets[1:1] END
FROM reindexer.event_receiver WHERE name = %(name)s;
