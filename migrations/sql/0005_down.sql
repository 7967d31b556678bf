-- What was found from outside, taken back.

ALTER TABLE reindexer.ledger DROP COLUMN chunk_tokens;
ALTER TABLE reindexer.due DROP COLUMN chunk_tokens;

ALTER TABLE reindexer.source DROP COLUMN embedder, DROP COLUMN resolved_condition, DROP COLUMN condition_objects;

DROP TABLE reindexer.detached;

DROP INDEX reindexer.due_ready, reindexer.due_marked;
CREATE INDEX due_ready ON reindexer.due (source, lane, not_before);
ALTER TABLE reindexer.due DROP COLUMN marked;

DELETE FROM reindexer.breaker;
ALTER TABLE reindexer.breaker DROP CONSTRAINT breaker_pkey;
ALTER TABLE reindexer.breaker DROP COLUMN account;
ALTER TABLE reindexer.breaker ADD PRIMARY KEY (dependency);
ALTER TABLE reindexer.source DROP COLUMN account;

DROP FUNCTION reindexer.noted_name(text, text);
DROP FUNCTION reindexer.item_name(text);
DROP TABLE reindexer.long_key;

ALTER TABLE reindexer.due DROP COLUMN begun_chunks;
ALTER TABLE reindexer.due DROP COLUMN begun_payload;
ALTER TABLE reindexer.due DROP COLUMN begun_upto;

DROP TABLE reindexer.uncrashed;
