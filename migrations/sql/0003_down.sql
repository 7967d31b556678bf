ALTER TABLE reindexer.source
    DROP COLUMN template, DROP COLUMN condition, DROP COLUMN condition_columns;
