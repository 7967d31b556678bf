-- One generation of each source again: the one that searches use. Collections of others stay in Qdrant.
DELETE FROM reindexer.run WHERE kind = 'rebuild';
DELETE FROM reindexer.due USING reindexer.source WHERE name = due.source AND due.generation <> source.generation;
DELETE FROM reindexer.ledger USING reindexer.source WHERE name = ledger.source AND ledger.generation <> source.generation;
DELETE FROM reindexer.generation USING reindexer.source
WHERE name = generation.source AND generation.number <> source.generation;
ALTER TABLE reindexer.run DROP CONSTRAINT run_kind_check,
    ADD CONSTRAINT run_kind_check CHECK (kind IN ('first_fill', 'whole_source', 'backfill'));
ALTER TABLE reindexer.generation
    DROP COLUMN facts, DROP COLUMN activated_at, DROP COLUMN retired_at, DROP COLUMN standby_until,
    DROP COLUMN live_until, DROP COLUMN servers, DROP COLUMN emptied_at, DROP COLUMN removed_at;
