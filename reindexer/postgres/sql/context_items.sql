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
