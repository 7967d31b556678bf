-- The past is forgotten with the table.
DROP TABLE reindexer.history;
