-- name: beat
WITH relaxed AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true)
)
INSERT INTO reindexer.process AS process (name, role, host, version, leads)
SELECT %(name)s, %(role)s, %(host)s, %(version)s, %(leads)s FROM relaxed
ON CONFLICT (name) DO UPDATE SET role = excluded.role, version = excluded.version, beat_at = excluded.beat_at,
    leads = excluded.leads;

-- name: rest
DELETE FROM reindexer.process WHERE name = %(name)s;

-- name: alive
SELECT name, host, version, extract(epoch FROM clock_timestamp() - beat_at)::double precision AS age_s
FROM reindexer.process
WHERE role = %(role)s AND beat_at > clock_timestamp() - make_interval(secs => %(within_s)s)
ORDER BY name;

-- name: forget_processes
DELETE FROM reindexer.process WHERE beat_at < clock_timestamp() - make_interval(days => %(days)s);
