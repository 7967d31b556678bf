-- What all processes have counted.

-- name: add
-- In the order of the key, so that two processes of one slot can't deadlock.
INSERT INTO reindexer.counter AS counter (name, labels, slot, value)
SELECT name, labels, %(slot)s, amount
FROM unnest(%(names)s::text[], %(labels)s::text[], %(amounts)s::double precision[]) AS added (name, labels, amount)
ORDER BY name, labels
ON CONFLICT (name, labels, slot) DO UPDATE SET value = counter.value + excluded.value, added_at = excluded.added_at;

-- name: sums
SELECT name, labels, sum(value) FROM reindexer.counter GROUP BY name, labels;
