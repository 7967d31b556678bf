-- How a source's texts become points.

ALTER TABLE reindexer.source
    ADD COLUMN chunk_tokens  integer CHECK (chunk_tokens > 0),
    ADD COLUMN chunk_overlap integer NOT NULL DEFAULT 0 CHECK (chunk_overlap >= 0),
    ADD COLUMN tenant_column text,
    ADD COLUMN profile       jsonb NOT NULL DEFAULT '{}';
COMMENT ON COLUMN reindexer.source.chunk_tokens IS 'Longest chunk of a text; NULL: as long as the model takes.';
COMMENT ON COLUMN reindexer.source.chunk_overlap IS 'Tokens of a chunk that the next one begins with.';
COMMENT ON COLUMN reindexer.source.tenant_column IS 'Payload column by which Qdrant keeps a tenant''s points together.';
COMMENT ON COLUMN reindexer.source.profile IS 'Who embeds, and how Qdrant keeps the points, where it is not as the settings say.';
