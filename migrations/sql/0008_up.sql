-- A change of a related table: the values of its join columns, old and new, that lead to the items which read it.
ALTER TABLE reindexer.outbox ADD COLUMN related text;
COMMENT ON COLUMN reindexer.outbox.related IS 'Of a related table: which one. item_id then holds values of its join columns.';

CREATE TABLE reindexer.fan_out (
    source     text NOT NULL,
    related    text NOT NULL,
    value      text NOT NULL,
    lane       text NOT NULL CHECK (lane IN ('live', 'bulk')),
    changed_at timestamptz NOT NULL,
    cursor     text,
    not_before timestamptz NOT NULL DEFAULT clock_timestamp(),
    tries      integer NOT NULL DEFAULT 0,
    PRIMARY KEY (source, related, value)
);
COMMENT ON TABLE reindexer.fan_out IS 'Values of join columns whose items are to be found. Never holds text.';
COMMENT ON COLUMN reindexer.fan_out.cursor IS 'The items up to this id are queued, of a value that leads to many.';

DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS role, privilege_type AS may
        FROM pg_class, aclexplode(relacl) WHERE pg_class.oid = 'reindexer.outbox'::regclass
    LOOP
        EXECUTE format('GRANT %s ON reindexer.fan_out TO %s', granted.may, granted.role);
        IF granted.may = 'DELETE' THEN -- the listener, which now also writes there
            EXECUTE format('GRANT INSERT ON reindexer.outbox, reindexer.fan_out TO %s', granted.role);
        END IF;
    END LOOP;
END $$;
