-- Who did what, and when.

-- name: note
INSERT INTO reindexer.audit (who, action, source, details) VALUES (%(who)s, %(action)s, %(source)s, %(details)s::jsonb);

-- name: recent
SELECT id, at, who, action, source, details FROM reindexer.audit
WHERE %(source)s::text IS NULL OR source = %(source)s
ORDER BY id DESC
LIMIT %(limit)s;

-- name: forget_audit
DELETE FROM reindexer.audit WHERE at < clock_timestamp() - make_interval(days => %(days)s);
