-- The built-in table, as the API serves it: each query gives ids, and items as JSON text.

-- name: page
-- The cursor is the first id of the page: an item that is deleted meanwhile loses no other.
SELECT id, row_to_json(item)::text
FROM (SELECT id, title, content, metadata, created_at, updated_at FROM public.context_items
      WHERE id >= %(cursor)s ORDER BY id LIMIT %(rows)s) AS item;

-- name: one
SELECT id, row_to_json(item)::text
FROM (SELECT id, title, content, metadata, created_at, updated_at FROM public.context_items WHERE id = %(id)s) AS item;

-- name: create
WITH item AS (
    INSERT INTO public.context_items (title, content, metadata) VALUES (%(title)s, %(content)s, %(metadata)s)
    RETURNING id, title, content, metadata, created_at, updated_at
)
SELECT id, row_to_json(item)::text FROM item;

-- name: change
WITH item AS (
    UPDATE public.context_items SET
        title = CASE WHEN %(set_title)s THEN %(title)s ELSE title END,
        content = CASE WHEN %(set_content)s THEN %(content)s ELSE content END,
        metadata = CASE WHEN %(set_metadata)s THEN %(metadata)s ELSE metadata END,
        updated_at = now()
    WHERE id = %(id)s
    RETURNING id, title, content, metadata, created_at, updated_at
)
SELECT id, row_to_json(item)::text FROM item;

-- name: delete
DELETE FROM public.context_items WHERE id = %(id)s RETURNING id, NULL::text;

-- name: make
CREATE TABLE public.context_items (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    title      text,
    content    text NOT NULL,
    metadata   jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE public.context_items IS 'Made by reindexer.';

-- name: there
-- Whatever has the name: whether it is a table with columns as ours has them, and whether we may put triggers on it.
SELECT relkind IN ('r', 'p') AND (
           SELECT count(*) FROM pg_attribute
           WHERE attrelid = pg_class.oid AND NOT attisdropped AND (attname, format_type(atttypid, NULL)) IN (
               ('title', 'text'), ('title', 'character varying'), ('content', 'text'), ('content', 'character varying'),
               ('metadata', 'jsonb'), ('metadata', 'json'))
       ) = 3 AS fits,
       pg_has_role(relowner, 'USAGE') AS may
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = 'public' AND relname = 'context_items';

-- name: was_detached
SELECT EXISTS (SELECT FROM reindexer.detached WHERE source = %(name)s);

-- name: is_attached
SELECT EXISTS (SELECT FROM reindexer.source WHERE name = 'context_items'
               AND definition @> '{"table_schema": "public", "table_name": "context_items"}')
   AND to_regclass('public.context_items') IS NOT NULL;
