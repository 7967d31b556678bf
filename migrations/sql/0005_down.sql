-- What was found from outside, taken back.

ALTER TABLE reindexer.ledger DROP COLUMN chunk_tokens;
ALTER TABLE reindexer.due DROP COLUMN chunk_tokens;

ALTER TABLE reindexer.source DROP COLUMN embedder;

DROP TABLE reindexer.detached;
