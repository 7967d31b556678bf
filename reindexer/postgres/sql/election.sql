-- Leading: one listener at a time drains on a timer and owns the bell.

-- name: try_lead
SELECT pg_try_advisory_lock(%(lock_class)s, %(leader_lock)s);

-- name: terminate_stale_leader
-- A process that stands still (stopped, or cut off behind something that keeps its connection open) keeps the lock for as
-- long as its session lives. A leader at work says something each second.
SELECT pg_terminate_backend(pid)
FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND classid = %(lock_class)s AND objid = %(leader_lock)s
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND state_change < clock_timestamp() - make_interval(secs => %(silent_s)s); -- guard leader-silent-termination

-- name: try_sleep
SELECT pg_try_advisory_lock(%(lock_class)s, %(wake_lock)s);

-- name: wake
SELECT pg_advisory_unlock(%(lock_class)s, %(wake_lock)s);
