-- Runs belong to no trace any more.
ALTER TABLE reindexer.run DROP COLUMN traceparent;
