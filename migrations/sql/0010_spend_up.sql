-- What requests to providers cost: by UTC day, source, account, model and purpose.
CREATE TABLE reindexer.spend (
    day                date NOT NULL,
    source             text NOT NULL,
    account            text NOT NULL,
    model              text NOT NULL,
    purpose            text NOT NULL,
    requests           bigint NOT NULL DEFAULT 0,
    tokens             bigint NOT NULL DEFAULT 0,
    unconfirmed_tokens bigint NOT NULL DEFAULT 0,
    unpriced_tokens    bigint NOT NULL DEFAULT 0,
    micro_dollars      numeric NOT NULL DEFAULT 0,
    PRIMARY KEY (day, source, account, model, purpose)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
COMMENT ON TABLE reindexer.spend IS 'Requests to providers, added up. Together with spend_reservation it is never below what a provider counted.';
COMMENT ON COLUMN reindexer.spend.account IS 'A hash of the server and the API key.';
COMMENT ON COLUMN reindexer.spend.tokens IS 'As the provider counted them.';
COMMENT ON COLUMN reindexer.spend.unconfirmed_tokens IS 'The most that requests without a count may have cost: no answer came, or their process died.';
COMMENT ON COLUMN reindexer.spend.unpriced_tokens IS 'Those of both whose price was not known.';
COMMENT ON COLUMN reindexer.spend.micro_dollars IS 'The price of the others, as it was then.';

-- What processes have set aside for requests that are not accounted yet.
CREATE TABLE reindexer.spend_reservation (
    id         uuid PRIMARY KEY,
    day        date NOT NULL,
    source     text NOT NULL,
    account    text NOT NULL,
    model      text NOT NULL,
    purpose    text NOT NULL,
    price      numeric,
    tokens     bigint NOT NULL,
    renewed_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE reindexer.spend_reservation IS 'Blocks of tokens that processes hold. Of one that is not renewed any more, the listener makes spend.';
COMMENT ON COLUMN reindexer.spend_reservation.price IS 'Micro-dollars of a token. NULL: not known.';

-- Whoever counts for /metrics accounts, too: listener, workers, API.
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS role
        FROM pg_class, aclexplode(relacl)
        WHERE pg_class.oid = 'reindexer.counter'::regclass AND privilege_type = 'INSERT'
    LOOP
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON reindexer.spend TO %s', granted.role);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON reindexer.spend_reservation TO %s', granted.role);
    END LOOP;
END $$;
