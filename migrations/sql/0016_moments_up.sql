-- A mark writes nothing. What a drain took is kept until it is settled; claims and drains are numbered in one order.

-- A settle covers what was drained before its claim: whoever claims reads the row after that.
CREATE SEQUENCE reindexer.moment;
COMMENT ON SEQUENCE reindexer.moment IS 'The order of claims and of what was drained.';
CREATE FUNCTION reindexer.next_moment() RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT nextval('reindexer.moment')
$$;
COMMENT ON FUNCTION reindexer.next_moment() IS 'A right on the sequence is not needed.';
ALTER TABLE reindexer.due
    ADD COLUMN claimed bigint,
    ADD COLUMN traces text[],
    ADD COLUMN later_traces text[];
COMMENT ON COLUMN reindexer.due.claimed IS 'The moment of its last claim, once its row was locked.';
COMMENT ON COLUMN reindexer.due.traces IS 'Of the marked transactions that wrote it: the id, a space, and the traceparent.';
COMMENT ON COLUMN reindexer.due.later_traces IS 'The same, of those that wrote it since it was claimed.';
ALTER TABLE reindexer.ledger ADD COLUMN claimed bigint;
COMMENT ON COLUMN reindexer.ledger.claimed IS 'The moment of the last claim that succeeded.';

CREATE TABLE reindexer.marker (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    seed       text NOT NULL DEFAULT replace(gen_random_uuid()::text, '-', ''),
    pid        integer NOT NULL DEFAULT pg_backend_pid(),
    began_at   timestamptz,
    made_by    xid8 NOT NULL DEFAULT pg_current_xact_id(),
    made_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at   timestamptz,
    forgotten  xid8
);
CREATE INDEX marker_pid ON reindexer.marker (pid);
COMMENT ON TABLE reindexer.marker IS 'Sessions that mark their transactions. While there is one, what is drained is kept until it is settled.';
COMMENT ON COLUMN reindexer.marker.seed IS 'What the tokens of its session are made with.';
COMMENT ON COLUMN reindexer.marker.began_at IS 'When the session began.';
COMMENT ON COLUMN reindexer.marker.made_by IS 'The first transaction that it marked.';
COMMENT ON COLUMN reindexer.marker.ended_at IS 'Since when it is known that the session has ended.';
COMMENT ON COLUMN reindexer.marker.forgotten IS 'Of transactions up to this one, something may be forgotten.';

CREATE TABLE reindexer.drained (
    moment     bigint PRIMARY KEY DEFAULT reindexer.next_moment(),
    source     text NOT NULL,
    within     int8range NOT NULL,
    xacts      xid8[] NOT NULL,
    item_ids   text[] NOT NULL,
    settled    boolean NOT NULL DEFAULT false,
    drained_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX drained_unsettled ON reindexer.drained (drained_at) WHERE NOT settled;
CREATE INDEX drained_within ON reindexer.drained USING gist (within);
ALTER TABLE reindexer.drained ALTER COLUMN xacts SET STORAGE EXTERNAL, ALTER COLUMN item_ids SET STORAGE EXTERNAL;
ALTER TABLE reindexer.drained SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000,
    toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 2000, toast.autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE reindexer.drained IS 'Items that one drain took of a source, each with the transaction that changed it.';
COMMENT ON COLUMN reindexer.drained.within IS 'The least and the greatest of the transactions.';
COMMENT ON COLUMN reindexer.drained.settled IS 'Each item was settled since; only those that failed are kept.';

-- Notes are of runs and of values of related tables, and of whatever those lead to.
DELETE FROM reindexer.note;
DELETE FROM reindexer.mark;
DROP INDEX reindexer.note_failed;
COMMENT ON TABLE reindexer.mark IS 'Traces that marked transactions belong to.';
COMMENT ON COLUMN reindexer.mark.secret IS 'Not used any more.';
COMMENT ON TABLE reindexer.note IS 'What leads to items that a transaction changed: a value of a related table, a run, or another transaction.';
COMMENT ON COLUMN reindexer.note.version IS 'Not used any more.';
COMMENT ON COLUMN reindexer.note.generation IS 'Not used any more.';
COMMENT ON COLUMN reindexer.note.error IS 'Not used any more.';

-- Once a session, for what was not marked before: the row by which a drain knows that somebody marks. It commits with what is
-- marked. The session keeps what it makes tokens with from its second transaction on, once the row is committed for sure: it
-- is committed no later than what is marked by it. (PREPARE TRANSACTION keeps settings, whatever becomes of the rows.) And
-- whenever the transaction belongs to a trace.
CREATE FUNCTION reindexer.begin_marking(own text, traceparent text, since timestamptz) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF own IS NULL OR own = '' THEN
        SELECT marker.seed || '-' || marker.id INTO own FROM reindexer.marker
        WHERE pid = pg_backend_pid() AND began_at = since AND ended_at IS NULL
            AND made_by <> pg_current_xact_id()
        LIMIT 1;
        IF FOUND THEN
            PERFORM set_config('reindexer.marker', own, false);
        ELSE
            INSERT INTO reindexer.marker AS made (began_at) VALUES (since) RETURNING made.seed || '-' || made.id INTO STRICT own;
            PERFORM set_config('reindexer.marker', own, true); -- guard mark-session-committed
        END IF;
    END IF;
    IF octet_length($2) BETWEEN 55 AND 512 THEN -- guard trace-bounded-text
        INSERT INTO reindexer.mark (xact, traceparent) VALUES (pg_current_xact_id(), $2) ON CONFLICT (xact) DO NOTHING;
    END IF;
    RETURN own;
END $$;
COMMENT ON FUNCTION reindexer.begin_marking(text, text, timestamptz) IS 'Called by reindexer.mark().';

-- Called within the writer's transaction, before or after its writes; again, it returns the same token. A writer needs
-- USAGE of the schema, and no right on its tables. No statement within, and few expressions: a statement costs more than all
-- the rest, and each expression is made ready anew in each transaction. What a session forgets (RESET) it looks up again.
CREATE OR REPLACE FUNCTION reindexer.mark(traceparent text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    own text := current_setting('reindexer.marker', true);
BEGIN
    IF (traceparent IS NULL AND own <> '') IS NOT TRUE THEN
        -- When this session began is seen here: there, who may see all sessions is asked of the functions' owner.
        own := reindexer.begin_marking(own, traceparent, (SELECT backend_start FROM pg_stat_get_activity(pg_backend_pid())));
    END IF;
    RETURN pg_current_xact_id() || '-' || left(encode(sha256((own || pg_current_xact_id())::bytea), 'hex'), 16) || substr(own, 33);
END $$;
COMMENT ON FUNCTION reindexer.mark(text) IS 'A token that stands for this transaction: reindexer.wait() and POST /wait wait until all that it wrote is indexed.';

-- Of these items, drained at this moment, those that are due, and that no later claim has settled with success.
-- OFFSET 0, here and below: looked up one by one, and no further than to the first, whatever the planner thinks of how many
-- there are. No SET, so that it becomes part of whatever calls it.
CREATE FUNCTION reindexer.waiting_of(of_source text, item_ids text[], moment bigint) RETURNS TABLE (item_id text, generation integer)
LANGUAGE sql STABLE AS $$
    SELECT each.item_id, its.generation FROM unnest($2) AS each (item_id)
    CROSS JOIN LATERAL (
        SELECT due.generation FROM reindexer.due WHERE due.source = $1 AND due.item_id = each.item_id OFFSET 0
    ) AS its
    WHERE EXISTS (SELECT FROM reindexer.awaited
                  WHERE awaited.source = $1 AND awaited.generation = its.generation OFFSET 0)
        AND NOT EXISTS (
            SELECT FROM reindexer.ledger
            WHERE ledger.source = $1 AND ledger.item_id = each.item_id AND ledger.generation = its.generation
                AND ledger.claimed > $3 -- guard mark-own-version
            OFFSET 0)
$$;
COMMENT ON FUNCTION reindexer.waiting_of(text, text[], bigint) IS 'Called by reindexer.mark_states() and reindexer.mark_left().';

-- Of these items, drained at this moment, those that failed, that no later claim had settled before, and that are not due
-- again.
CREATE FUNCTION reindexer.failed_of(of_source text, item_ids text[], moment bigint) RETURNS TABLE (item_id text, error text)
LANGUAGE sql STABLE AS $$
    SELECT each.item_id, its.error
    -- Where none of the source's failed, no item is looked up.
    FROM (SELECT FROM reindexer.ledger WHERE ledger.source = $1 AND ledger.outcome = 'FAILED' LIMIT 1) AS any_one
    CROSS JOIN unnest($2) AS each (item_id)
    CROSS JOIN LATERAL (
        SELECT ledger.error, ledger.generation FROM reindexer.ledger
        WHERE ledger.source = $1 AND ledger.item_id = each.item_id AND ledger.outcome = 'FAILED'
            AND (ledger.claimed > $3) IS NOT TRUE -- guard mark-later-failure
        OFFSET 0
    ) AS its
    WHERE EXISTS (SELECT FROM reindexer.awaited
                  WHERE awaited.source = $1 AND awaited.generation = its.generation AND awaited.searched OFFSET 0)
        AND NOT EXISTS (SELECT FROM reindexer.due
                        WHERE due.source = $1 AND due.item_id = each.item_id AND due.generation = its.generation OFFSET 0)
$$;
COMMENT ON FUNCTION reindexer.failed_of(text, text[], bigint) IS 'Called by reindexer.mark_states() and reindexer.mark_left().';

-- What became of marked transactions: open (not committed yet), waiting, indexed, failed, rolled_back, expired (its session's
-- row is not kept any more), unknown (it is none of this database's). One statement sees what a transaction left: its
-- changes in the outbox and, once they are drained, its items. While the session's row is there, each drain kept them.
-- What is kept of a single transaction is read up to the first item that waits, what is kept of many once for all tokens.
CREATE OR REPLACE FUNCTION reindexer.mark_states(tokens text[]) RETURNS TABLE (token text, state text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_nestloop = off
SET jit = off AS $$
    WITH asked AS MATERIALIZED (
        SELECT each AS token, split_part(each, '-', 1)::xid8 AS xact, split_part(each, '-', 2) AS hash,
               nullif(split_part(each, '-', 3), '')::bigint AS marker
        FROM unnest(tokens) AS each
    ), begun AS MATERIALIZED (
        SELECT asked.token, asked.xact,
            CASE
                WHEN pg_xact_status(asked.xact) = 'in progress' THEN 'open'
                WHEN pg_xact_status(asked.xact) = 'aborted' THEN 'rolled_back'
                -- Committed since this statement began: the next one sees what it left.
                WHEN NOT pg_visible_in_snapshot(asked.xact, pg_current_snapshot()) THEN 'open' -- guard mark-seen-by-statement
                WHEN marker.seed IS NULL OR pg_xact_status(asked.xact) IS NULL -- so old that Postgres has forgotten
                    OR asked.xact <= marker.forgotten THEN 'expired' -- guard mark-forgotten-told
                WHEN asked.hash <> left(encode(sha256((marker.seed || '-' || asked.marker || asked.xact)::bytea), 'hex'), 16) THEN 'unknown'
            END AS state
        FROM asked LEFT JOIN LATERAL (SELECT seed, forgotten FROM reindexer.marker WHERE id = asked.marker OFFSET 0) AS marker ON true
    ), followed AS MATERIALIZED (
        SELECT begun.xact AS whose, begun.xact FROM begun WHERE begun.state IS NULL
        UNION
        SELECT begun.xact, its.follows FROM begun CROSS JOIN LATERAL (
            SELECT note.follows FROM reindexer.note WHERE note.xact = begun.xact AND note.follows IS NOT NULL OFFSET 0
        ) AS its WHERE begun.state IS NULL
    ), undrained AS MATERIALIZED (
        SELECT DISTINCT whose FROM followed WHERE xact IN (SELECT outbox.xact FROM reindexer.outbox)
        UNION
        SELECT whose FROM followed CROSS JOIN LATERAL (
            SELECT FROM reindexer.note WHERE note.xact = followed.xact AND note.follows IS NULL OFFSET 0) AS its
    ), kept AS MATERIALIZED (
        SELECT followed.whose, followed.xact, its.moment, its.alone FROM followed CROSS JOIN LATERAL (
            SELECT drained.moment, upper(within) - lower(within) = 1 AS alone
            FROM reindexer.drained WHERE within @> followed.xact::text::bigint OFFSET 0
        ) AS its
    ), shared AS MATERIALIZED (
        SELECT kept.whose, each.source, each.moment, array_agg(each.item_id) AS item_ids
        FROM (
            SELECT part.source, its.moment, item.xact, item.item_id
            FROM (SELECT DISTINCT moment FROM kept WHERE NOT alone) AS its
            CROSS JOIN LATERAL (
                SELECT source, xacts, item_ids FROM reindexer.drained WHERE drained.moment = its.moment OFFSET 0) AS part
            CROSS JOIN LATERAL unnest(part.xacts, part.item_ids) AS item (xact, item_id)
            OFFSET 0
        ) AS each JOIN kept ON kept.moment = each.moment AND kept.xact = each.xact
        GROUP BY kept.whose, each.source, each.moment
    ), alone AS MATERIALIZED (
        SELECT whose, array_agg(moment ORDER BY moment) AS moments FROM kept WHERE alone GROUP BY whose
    ), failed AS MATERIALIZED (
        SELECT shared.whose FROM shared WHERE EXISTS (SELECT FROM reindexer.failed_of(shared.source, shared.item_ids, shared.moment) OFFSET 0)
        UNION
        SELECT alone.whose FROM alone WHERE EXISTS (
            SELECT FROM unnest(alone.moments) AS its (moment)
            CROSS JOIN LATERAL (
                SELECT drained.source, drained.item_ids FROM reindexer.drained WHERE drained.moment = its.moment OFFSET 0) AS part
            CROSS JOIN LATERAL reindexer.failed_of(part.source, part.item_ids, its.moment)
            OFFSET 0)
    ), waiting AS MATERIALIZED (
        SELECT undrained.whose FROM undrained -- guard mark-outbox
        UNION
        SELECT shared.whose FROM shared
        WHERE EXISTS (SELECT FROM reindexer.waiting_of(shared.source, shared.item_ids, shared.moment) OFFSET 0)
        UNION
        SELECT alone.whose FROM alone WHERE EXISTS (
            SELECT FROM unnest(alone.moments) AS its (moment)
            CROSS JOIN LATERAL (
                SELECT drained.source, drained.item_ids FROM reindexer.drained WHERE drained.moment = its.moment OFFSET 0) AS part
            CROSS JOIN LATERAL reindexer.waiting_of(part.source, part.item_ids, its.moment)
            OFFSET 0)
    )
    SELECT begun.token,
        CASE
            WHEN begun.state IS NOT NULL THEN begun.state
            WHEN begun.xact IN (SELECT whose FROM failed) THEN 'failed'
            WHEN begun.xact IN (SELECT whose FROM waiting) THEN 'waiting'
            ELSE 'indexed'
        END
    FROM begun
$$;

-- What is left of one: its failed items first. Without an item: what has to be looked up before items are known.
CREATE OR REPLACE FUNCTION reindexer.mark_left(token text, most integer DEFAULT 10)
RETURNS TABLE (source text, item_id text, failed boolean, reason text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
    WITH asked AS MATERIALIZED (
        SELECT split_part($1, '-', 1)::xid8 AS xact FROM reindexer.marker
        WHERE id = nullif(split_part($1, '-', 3), '')::bigint
            AND split_part($1, '-', 2) = left(encode(sha256((seed || '-' || id || split_part($1, '-', 1))::bytea), 'hex'), 16)
    ), followed AS MATERIALIZED (
        SELECT xact FROM asked
        UNION
        SELECT note.follows FROM asked JOIN reindexer.note USING (xact) WHERE note.follows IS NOT NULL
    ), kept AS MATERIALIZED (
        SELECT its.* FROM followed CROSS JOIN LATERAL (
            SELECT drained.source, drained.moment,
                   CASE WHEN upper(within) - lower(within) = 1 THEN drained.item_ids
                        ELSE ARRAY(SELECT item.item_id FROM unnest(drained.xacts, drained.item_ids) AS item (xact, item_id)
                                   WHERE item.xact = followed.xact) END AS item_ids
            FROM reindexer.drained WHERE within @> followed.xact::text::bigint
            ORDER BY drained.moment OFFSET 0
        ) AS its
    ), noted AS (
        (SELECT DISTINCT each.source, each.item_id, true AS failed, coalesce(each.error, 'it failed') AS reason
         FROM (
             SELECT kept.source, failed.item_id, failed.error
             FROM kept CROSS JOIN LATERAL reindexer.failed_of(kept.source, kept.item_ids, kept.moment) AS failed
             LIMIT most
         ) AS each)
        UNION ALL
        (SELECT DISTINCT waiting.source, waiting.item_id, false,
                CASE WHEN source.paused THEN 'the source is paused'
                     ELSE coalesce(due.waits_for, generation.problem, 'it waits for a worker, or is being worked on') END
         FROM (
             SELECT kept.source, waiting.item_id, waiting.generation
             FROM kept CROSS JOIN LATERAL reindexer.waiting_of(kept.source, kept.item_ids, kept.moment) AS waiting
             LIMIT most
         ) AS waiting
         JOIN reindexer.source ON source.name = waiting.source
         JOIN reindexer.generation ON generation.source = waiting.source AND generation.number = waiting.generation
         JOIN reindexer.due ON due.source = waiting.source AND due.item_id = waiting.item_id AND due.generation = waiting.generation)
        UNION ALL
        (SELECT note.source, NULL, false,
                CASE WHEN run IS NULL THEN 'items that read a related table are looked up'
                     ELSE 'all rows of the source are looked at, by run ' || run END
         FROM followed JOIN reindexer.note USING (xact)
         WHERE note.follows IS NULL LIMIT most)
        UNION ALL
        (SELECT DISTINCT outbox.source, NULL, false, 'changes are not drained yet'
         FROM reindexer.outbox WHERE outbox.xact IN (SELECT xact FROM followed) LIMIT most)
    )
    SELECT * FROM noted ORDER BY failed DESC LIMIT most
$$;

-- CALL reindexer.wait(token, '10 s'), outside of a transaction: it commits between its looks, so that it holds no snapshot.
CREATE OR REPLACE PROCEDURE reindexer.wait(
    token text, timeout interval DEFAULT '10 s', INOUT status text DEFAULT NULL, INOUT detail text DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
    give_up constant timestamptz := clock_timestamp() + timeout;
    pause_s double precision := 0.002;
BEGIN
    IF token !~ '^[0-9]{1,19}-[0-9a-f]{16}(-[0-9]{1,18})?$' THEN
        RAISE EXCEPTION 'this is no token of reindexer.mark(): %', left(token, 40) USING ERRCODE = 'invalid_parameter_value';
    END IF;
    LOOP
        SELECT state INTO STRICT status FROM reindexer.mark_states(ARRAY[token]);
        IF status = 'open' AND split_part(token, '-', 1)::xid8 = pg_current_xact_id_if_assigned() THEN
            RAISE EXCEPTION 'commit the transaction first, and call reindexer.wait() outside of a transaction'
                USING ERRCODE = 'invalid_transaction_state';
        END IF;
        EXIT WHEN status NOT IN ('open', 'waiting');
        IF clock_timestamp() >= give_up THEN
            detail := CASE status WHEN 'open' THEN 'the transaction has not committed' END;
            status := 'timeout';
            EXIT;
        END IF;
        COMMIT;
        PERFORM pg_sleep(pause_s);
        pause_s := least(0.05, pause_s * 1.2);
    END LOOP;
    IF status = 'failed' OR (status = 'timeout' AND detail IS NULL) THEN
        SELECT concat_ws(' ', left_over.source, left_over.item_id) || ': ' || left_over.reason INTO detail
        FROM reindexer.mark_left(token, 1) AS left_over;
    END IF;
END $$;

-- Whoever drains keeps what it took, and forgets it; whoever settles looks whether anybody marks.
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS role, privilege_type AS may
        FROM pg_class, aclexplode(relacl) WHERE pg_class.oid = 'reindexer.outbox'::regclass
    LOOP
        EXECUTE format('GRANT %s ON reindexer.drained TO %s', granted.may, granted.role);
        IF granted.may = 'SELECT' THEN
            EXECUTE format('GRANT SELECT (id, pid, made_by, made_at, ended_at, forgotten) ON reindexer.marker TO %s', granted.role);
        ELSIF granted.may = 'INSERT' THEN
            EXECUTE format('GRANT UPDATE (ended_at, forgotten), DELETE ON reindexer.marker TO %s', granted.role);
        ELSIF granted.may = 'DELETE' THEN -- forgets items
            EXECUTE format('GRANT UPDATE ON reindexer.drained TO %s', granted.role);
        END IF;
    END LOOP;
    FOR granted IN
        SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS role, privilege_type AS may
        FROM pg_class, aclexplode(relacl) WHERE pg_class.oid = 'reindexer.ledger'::regclass
    LOOP
        IF granted.may = 'UPDATE' THEN
            EXECUTE format('GRANT SELECT (id) ON reindexer.marker TO %s', granted.role);
        END IF;
    END LOOP;
END $$;
