-- API keys: a hash of each, what it may do, and which rows it sees.
CREATE TABLE reindexer.api_key (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL,
    hash       bytea NOT NULL UNIQUE,
    role       text NOT NULL CHECK (role IN ('search', 'operate', 'admin')),
    source     text,
    filter     jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(filter) = 'object'),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by text NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    CHECK (role = 'search' OR source IS NULL),
    CHECK (source IS NOT NULL OR filter = '{}')
);
CREATE UNIQUE INDEX api_key_live ON reindexer.api_key (name) WHERE revoked_at IS NULL;
COMMENT ON TABLE reindexer.api_key IS 'Keys of the HTTP API. A key itself is shown once, and stands nowhere.';
COMMENT ON COLUMN reindexer.api_key.hash IS 'SHA-256 of the key, which is random: nothing slower is needed.';
COMMENT ON COLUMN reindexer.api_key.source IS 'The only source that it may search. NULL: all.';
COMMENT ON COLUMN reindexer.api_key.filter IS 'Payload columns and the values that their rows must have for this key.';

-- Who is settled without a point, and is to be forgotten when its last verification is through.
ALTER TABLE reindexer.ledger ADD COLUMN forgotten_at timestamptz;
COMMENT ON COLUMN reindexer.ledger.forgotten_at IS 'The item is forgotten as soon as no verification of its deletion is left.';

-- An audit names no item: one that is forgotten would stand there for a year.
UPDATE reindexer.audit SET details = details - 'item_id' || jsonb_build_object('item',
    'sha256:' || encode(sha256(convert_to(coalesce(source, '') || E'\n' || (details ->> 'item_id'), 'UTF8')), 'hex'))
WHERE details ->> 'item_id' IS NOT NULL;

-- Whoever pauses sources is the API, which from now on asks for keys.
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS role
        FROM pg_attribute, aclexplode(attacl)
        WHERE privilege_type = 'UPDATE' AND attrelid = 'reindexer.source'::regclass AND attname = 'paused'
        UNION
        SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END
        FROM pg_class, aclexplode(relacl)
        WHERE pg_class.oid = 'reindexer.source'::regclass AND privilege_type = 'UPDATE'
    LOOP
        EXECUTE format('GRANT SELECT ON reindexer.api_key TO %s', granted.role); -- guard key-grant-api
    END LOOP;
END $$;
