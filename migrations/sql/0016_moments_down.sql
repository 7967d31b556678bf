-- A mark writes a row again, and what a transaction left is noted by item. Tokens that were handed out are not known any more.
DROP FUNCTION reindexer.mark_left(text, integer);
DROP FUNCTION reindexer.mark_states(text[]);
DROP FUNCTION reindexer.failed_of(text, text[], bigint);
DROP FUNCTION reindexer.waiting_of(text, text[], bigint);
DROP FUNCTION reindexer.mark(text);
DROP FUNCTION reindexer.begin_marking(text, text, timestamptz);
DROP PROCEDURE reindexer.wait(text, interval, text, text);
DROP TABLE reindexer.drained;
DROP TABLE reindexer.marker;
ALTER TABLE reindexer.ledger DROP COLUMN claimed;
ALTER TABLE reindexer.due DROP COLUMN claimed, DROP COLUMN traces, DROP COLUMN later_traces;
DROP FUNCTION reindexer.next_moment();
DROP SEQUENCE reindexer.moment;
DELETE FROM reindexer.note;
DELETE FROM reindexer.mark;
CREATE INDEX note_failed ON reindexer.note (xact) WHERE error IS NOT NULL;
COMMENT ON TABLE reindexer.mark IS 'Transactions that somebody may wait for.';
COMMENT ON COLUMN reindexer.mark.secret IS 'The second part of the token. NULL: of our own, which others follow.';
COMMENT ON TABLE reindexer.note IS 'What is left of a marked transaction: an item, a value of a related table, a run, or another transaction.';
COMMENT ON COLUMN reindexer.note.version IS 'Of an item: the version of its due row from which on it is done once that is settled.';
COMMENT ON COLUMN reindexer.note.generation IS NULL;
COMMENT ON COLUMN reindexer.note.error IS 'Why the item failed. NULL: it is not done yet.';

-- Called within the writer's transaction, before or after its writes; again, it returns the same token. A writer needs
-- USAGE of the schema, and no right on its tables. In plpgsql, which plans once a session: before Postgres 18 an SQL function
-- is planned at each call, and a mark took twice as long.
CREATE FUNCTION reindexer.mark(traceparent text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    token text;
BEGIN
    INSERT INTO reindexer.mark AS written (xact, secret, traceparent)
    VALUES (pg_current_xact_id(), left(replace(gen_random_uuid()::text, '-', ''), 16),
            CASE WHEN octet_length($1) <= 512 THEN $1 END)
    ON CONFLICT (xact) DO UPDATE SET traceparent = coalesce(written.traceparent, excluded.traceparent)
    RETURNING xact::text || '-' || secret INTO STRICT token;
    RETURN token;
END $$;
COMMENT ON FUNCTION reindexer.mark(text) IS 'A token that stands for this transaction: reindexer.wait() and POST /wait wait until all that it wrote is indexed.';

-- What became of marked transactions: open (not committed yet), waiting, indexed, failed, rolled_back, expired (no mark of
-- it is kept any more), unknown (it is none of this database's). One statement sees a mark together with what it left: its
-- changes in the outbox and, once they are drained, its notes. OFFSET 0, enable_seqscan: looked up mark by mark, and no further
-- than to the first note, whatever the planner thinks of how many there are.
CREATE FUNCTION reindexer.mark_states(tokens text[]) RETURNS TABLE (token text, state text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
    WITH asked AS MATERIALIZED (
        SELECT each AS token, split_part(each, '-', 1)::xid8 AS xact, split_part(each, '-', 2) AS secret FROM unnest(tokens) AS each
    ), followed AS MATERIALIZED (
        SELECT asked.xact AS whose, asked.xact FROM asked
        UNION
        SELECT asked.xact, note.follows FROM asked JOIN reindexer.note ON note.xact = asked.xact AND note.follows IS NOT NULL
    ), undrained AS MATERIALIZED (
        SELECT DISTINCT whose FROM followed WHERE xact IN (SELECT outbox.xact FROM reindexer.outbox)
    )
    SELECT asked.token,
        CASE
            WHEN asked.xact = pg_current_xact_id_if_assigned() THEN 'open'
            WHEN mark.xact IS NULL THEN
                CASE pg_xact_status(asked.xact)
                    WHEN 'in progress' THEN 'open'
                    WHEN 'aborted' THEN 'rolled_back'
                    -- Committed since this statement began: the next one sees what it left.
                   
                    ELSE CASE WHEN pg_visible_in_snapshot(asked.xact, pg_current_snapshot()) THEN 'expired' ELSE 'open' END
                END
            WHEN mark.secret IS DISTINCT FROM asked.secret THEN 'unknown'
            WHEN EXISTS (
                SELECT FROM unnest(its.xacts) AS each (xact) CROSS JOIN LATERAL (
                    SELECT note.source, note.generation FROM reindexer.note
                    WHERE note.xact = each.xact AND note.error IS NOT NULL OFFSET 0
                ) AS failed
                JOIN reindexer.awaited USING (source, generation) WHERE awaited.searched OFFSET 0
            ) THEN 'failed'
            WHEN EXISTS (
                SELECT FROM unnest(its.xacts) AS each (xact) CROSS JOIN LATERAL (
                    SELECT note.source, note.generation FROM reindexer.note
                    WHERE note.xact = each.xact AND note.error IS NULL AND note.follows IS NULL OFFSET 0
                ) AS left_over
                WHERE left_over.generation IS NULL OR EXISTS (
                    SELECT FROM reindexer.awaited
                    WHERE awaited.source = left_over.source AND awaited.generation = left_over.generation OFFSET 0)
                OFFSET 0
            ) THEN 'waiting'
            WHEN asked.xact IN (SELECT whose FROM undrained) THEN 'waiting'
            ELSE 'indexed'
        END
    FROM asked LEFT JOIN reindexer.mark ON mark.xact = asked.xact
    CROSS JOIN LATERAL (
        SELECT asked.xact || ARRAY(SELECT note.follows FROM reindexer.note
                                   WHERE note.xact = asked.xact AND note.follows IS NOT NULL) AS xacts
    ) AS its
$$;
COMMENT ON FUNCTION reindexer.mark_states(text[]) IS 'What became of marked transactions, without a wait.';

-- What is left of one: its failed items first. Without an item: what has to be looked up before items are known.
CREATE FUNCTION reindexer.mark_left(token text, most integer DEFAULT 10)
RETURNS TABLE (source text, item_id text, failed boolean, reason text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
    WITH asked AS MATERIALIZED (
        SELECT mark.xact FROM reindexer.mark
        WHERE mark.xact = split_part($1, '-', 1)::xid8 AND mark.secret = split_part($1, '-', 2)
    ), followed AS MATERIALIZED (
        SELECT xact FROM asked
        UNION
        SELECT note.follows FROM asked JOIN reindexer.note USING (xact) WHERE note.follows IS NOT NULL
    ), noted AS (
        (SELECT note.source, note.item_id, true AS failed, note.error AS reason
         FROM followed JOIN reindexer.note USING (xact) JOIN reindexer.awaited USING (source, generation)
         WHERE note.error IS NOT NULL AND awaited.searched LIMIT most)
        UNION ALL
        (SELECT note.source, note.item_id, false,
                CASE WHEN source.paused THEN 'the source is paused'
                     ELSE coalesce(due.waits_for, generation.problem, 'it waits for a worker, or is being worked on') END
         FROM followed JOIN reindexer.note USING (xact) JOIN reindexer.awaited USING (source, generation)
         JOIN reindexer.source ON source.name = note.source
         JOIN reindexer.generation ON generation.source = note.source AND generation.number = note.generation
         LEFT JOIN reindexer.due ON due.source = note.source AND due.item_id = note.item_id AND due.generation = note.generation
         WHERE note.error IS NULL LIMIT most)
        UNION ALL
        (SELECT note.source, NULL, false,
                CASE WHEN run IS NULL THEN 'items that read a related table are looked up'
                     ELSE 'all rows of the source are looked at, by run ' || run END
         FROM followed JOIN reindexer.note USING (xact)
         WHERE note.generation IS NULL AND note.follows IS NULL LIMIT most)
        UNION ALL
        (SELECT DISTINCT outbox.source, NULL, false, 'changes are not drained yet'
         FROM reindexer.outbox WHERE outbox.xact IN (SELECT xact FROM followed) LIMIT most)
    )
    SELECT * FROM noted ORDER BY failed DESC LIMIT most
$$;
COMMENT ON FUNCTION reindexer.mark_left(text, integer) IS 'What a mark waits for, or what failed of it.';

-- CALL reindexer.wait(token, '10 s'), outside of a transaction: it commits between its looks, so that it holds no snapshot.
CREATE PROCEDURE reindexer.wait(
    token text, timeout interval DEFAULT '10 s', INOUT status text DEFAULT NULL, INOUT detail text DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
    give_up constant timestamptz := clock_timestamp() + timeout;
    pause_s double precision := 0.002;
BEGIN
    IF token !~ '^[0-9]{1,19}-[0-9a-f]{16}$' THEN
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
COMMENT ON PROCEDURE reindexer.wait(text, interval, text, text) IS 'Waits until all that the transaction of a token wrote is indexed. Status: indexed, failed, timeout, rolled_back, expired or unknown.';

-- Roles of this version may have no rights on what is used again. (Who may claim could be of either.)
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS role, privilege_type AS may
        FROM pg_class, aclexplode(relacl) WHERE pg_class.oid = 'reindexer.outbox'::regclass
    LOOP
        EXECUTE format('GRANT %s ON reindexer.mark, reindexer.note TO %s', granted.may, granted.role);
    END LOOP;
    FOR granted IN
        SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS role, privilege_type AS may
        FROM pg_class, aclexplode(relacl) WHERE pg_class.oid = 'reindexer.due'::regclass
    LOOP
        EXECUTE format('GRANT %s ON reindexer.note TO %s', granted.may, granted.role);
        IF granted.may = 'SELECT' THEN
            EXECUTE format('GRANT SELECT ON reindexer.awaited TO %s', granted.role);
        END IF;
    END LOOP;
END $$;
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS role
        FROM pg_class, aclexplode(relacl)
        WHERE pg_class.oid = 'reindexer.note'::regclass AND privilege_type = 'UPDATE'
    LOOP
        EXECUTE format('GRANT SELECT (xact, traceparent) ON reindexer.mark TO %s', granted.role);
    END LOOP;
END $$;
