-- What was spent is forgotten with the tables.
DROP TABLE reindexer.spend_reservation;
DROP TABLE reindexer.spend;
