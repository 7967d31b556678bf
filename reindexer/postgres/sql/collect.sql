-- States that /metrics tells. None reads what waits.

-- name: sources
SELECT name, source.generation, paused, generation.problem IS NOT NULL AS has_problem FROM reindexer.source
JOIN reindexer.generation ON generation.source = name AND generation.number = source.generation
ORDER BY name;

-- name: open_breakers
SELECT dependency FROM reindexer.breaker WHERE opened_at IS NOT NULL;

-- name: processes
SELECT role,
       count(*) FILTER (WHERE beat_at > clock_timestamp() - make_interval(secs => %(within_s)s)) AS beating,
       count(*) FILTER (WHERE beat_at <= clock_timestamp() - make_interval(secs => %(within_s)s)) AS silent,
       extract(epoch FROM clock_timestamp() - max(beat_at))::double precision AS age_s
FROM reindexer.process
GROUP BY role;
