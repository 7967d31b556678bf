ALTER TABLE reindexer.source
    DROP COLUMN chunk_tokens, DROP COLUMN chunk_overlap, DROP COLUMN tenant_column, DROP COLUMN profile;
