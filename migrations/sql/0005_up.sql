-- What was found from outside.

-- A text that the provider finds too long is cut smaller, by all processes in the same way.
ALTER TABLE reindexer.due ADD COLUMN chunk_tokens integer;
ALTER TABLE reindexer.ledger ADD COLUMN chunk_tokens integer;
COMMENT ON COLUMN reindexer.due.chunk_tokens IS 'As in the ledger, since it became due.';
COMMENT ON COLUMN reindexer.ledger.chunk_tokens IS 'A chunk of the item was too long for the provider: none may hold more tokens, by estimate. NULL: as many as its source allows.';

-- Vectors of two models never meet: who makes a source's is written down once, and outlives a lost collection.
ALTER TABLE reindexer.source ADD COLUMN embedder text;
COMMENT ON COLUMN reindexer.source.embedder IS 'The embedder that its points are made by (provider, model, dimensions); no other writes or searches them. NULL: none is made yet.';
