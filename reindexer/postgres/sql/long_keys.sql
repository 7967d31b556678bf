-- Keys that are too long for an index of ours go by a name, which stands for them everywhere but where a row is read.

-- name: names
-- What the items of these keys are called, in their order; which key each stands for is noted.
SELECT reindexer.noted_name(%(source)s, key) FROM unnest(%(keys)s::text[]) WITH ORDINALITY AS each (key, place) ORDER BY place;

-- name: name
SELECT reindexer.item_name(%(key)s);

-- name: keys
SELECT item_id, key FROM reindexer.long_key WHERE source = %(source)s AND item_id = ANY (%(names)s::text[]);
