-- Nobody is told any more.
DROP FUNCTION reindexer.acknowledge_events(text, bigint[]);
DROP FUNCTION reindexer.waiting_events(text, integer);
DROP FUNCTION reindexer.event_data(reindexer.event);
DROP TABLE reindexer.event;
DROP TABLE reindexer.event_receiver;
COMMENT ON TABLE reindexer.spender IS 'The name of the database that spends: its system identifier and OID, or REINDEXER_INSTANCE.';
