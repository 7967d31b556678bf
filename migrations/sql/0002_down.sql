DROP TABLE reindexer.counter, reindexer.audit, reindexer.breaker;
ALTER TABLE reindexer.run DROP COLUMN changed_at;
ALTER TABLE reindexer.ledger DROP COLUMN changed_at;
UPDATE reindexer.due SET changed_at = clock_timestamp() WHERE changed_at IS NULL;
ALTER TABLE reindexer.due
    DROP COLUMN later_changed_at,
    ALTER COLUMN changed_at SET DEFAULT clock_timestamp(),
    ALTER COLUMN changed_at SET NOT NULL;
DROP INDEX reindexer.ledger_dead_letters, reindexer.ledger_recheck, reindexer.request_untold;
ALTER TABLE reindexer.request DROP COLUMN told_at;
ALTER TABLE reindexer.ledger DROP COLUMN recheck_at, DROP COLUMN doubted_at, DROP COLUMN losses;
ALTER TABLE reindexer.due DROP COLUMN losses;
ALTER TABLE reindexer.process DROP COLUMN leads;
ALTER TABLE reindexer.source DROP COLUMN facts, DROP COLUMN collection_id;
