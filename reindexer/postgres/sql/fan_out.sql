-- From values of a related table's join columns to the items that read it. They go back into the outbox as items: whatever
-- makes an item due does so in one place.

-- name: waiting
SELECT DISTINCT source FROM reindexer.fan_out WHERE not_before <= clock_timestamp() ORDER BY source;

-- name: take
-- Until the transaction ends. Whoever records the same value meanwhile waits, and makes it due again.
SELECT related, value, lane, changed_at, cursor FROM reindexer.fan_out
WHERE source = %(source)s AND not_before <= clock_timestamp()
ORDER BY lane DESC, changed_at, related, value
LIMIT %(most)s
FOR UPDATE SKIP LOCKED;

-- name: record_items
INSERT INTO reindexer.outbox (source, item_id, lane, changed_at)
SELECT %(source)s, item_id, %(lane)s, %(changed_at)s FROM unnest(%(item_ids)s::text[]) AS item_id;

-- name: done
DELETE FROM reindexer.fan_out
WHERE source = %(source)s AND related = %(related)s AND value = ANY (%(values)s::text[]);

-- name: advance
UPDATE reindexer.fan_out SET cursor = %(cursor)s, tries = 0
WHERE source = %(source)s AND related = %(related)s AND value = %(value)s;

-- name: postpone
UPDATE reindexer.fan_out SET tries = tries + 1,
    not_before = clock_timestamp() + make_interval(secs => least(10, 2 ^ least(tries, 4)))
WHERE source = %(source)s AND not_before <= clock_timestamp();

-- name: backlog_is_long
SELECT count(*) >= %(most)s FROM (
    SELECT FROM reindexer.due
    WHERE source = %(source)s AND lane = 'bulk' AND NOT marked
        AND generation = (SELECT generation FROM reindexer.source WHERE name = %(source)s)
    LIMIT %(most)s) AS backlog;

-- name: forget
DELETE FROM reindexer.fan_out WHERE source = %(source)s;
