-- Nobody can wait for a transaction any more.
DROP PROCEDURE reindexer.wait(text, interval, text, text);
DROP FUNCTION reindexer.mark_left(text, integer);
DROP FUNCTION reindexer.mark_states(text[]);
DROP FUNCTION reindexer.mark(text);
DROP VIEW reindexer.awaited;
DROP TABLE reindexer.note;
DROP TABLE reindexer.mark;
ALTER TABLE reindexer.outbox DROP COLUMN xact;
