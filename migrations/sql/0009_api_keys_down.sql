-- Keys are gone with their table: whoever used one needs another after an upgrade.
ALTER TABLE reindexer.ledger DROP COLUMN forgotten_at;
DROP TABLE reindexer.api_key;
