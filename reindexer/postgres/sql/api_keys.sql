-- Keys of the HTTP API. Only who migrated writes them; the API reads them.

-- name: retire_expired
-- An expired key of that name ends when it expired, so that its name is free.
UPDATE reindexer.api_key SET revoked_at = expires_at
WHERE name = %(name)s AND revoked_at IS NULL AND expires_at <= clock_timestamp();

-- name: create
INSERT INTO reindexer.api_key (name, hash, role, source, filter, created_by, expires_at)
VALUES (%(name)s, %(hash)s, %(role)s, %(source)s, %(filter)s::jsonb, %(who)s,
        clock_timestamp() + make_interval(secs => %(expires_s)s))
RETURNING id, name, role, source, filter, created_at, created_by, expires_at, revoked_at, 'live' AS state;

-- name: all
SELECT id, name, role, source, filter, created_at, created_by, expires_at, revoked_at,
       CASE WHEN expires_at <= least(revoked_at, clock_timestamp()) THEN 'expired'
            WHEN revoked_at IS NOT NULL THEN 'revoked'
            ELSE 'live' END AS state
FROM reindexer.api_key
ORDER BY name, id;

-- name: revoke
UPDATE reindexer.api_key SET revoked_at = clock_timestamp()
WHERE name = %(name)s AND revoked_at IS NULL AND coalesce(expires_at > clock_timestamp(), true)
RETURNING role, source;

-- name: find
SELECT hash, name, role, source, filter, extract(epoch FROM expires_at - clock_timestamp())::double precision AS left_s
FROM reindexer.api_key
WHERE hash = %(hash)s -- guard key-hash
    AND revoked_at IS NULL -- guard key-revoked
    AND coalesce(expires_at > clock_timestamp(), true); -- guard key-expired
