-- Sources of any shape.

ALTER TABLE reindexer.source
    ADD COLUMN template          text,
    ADD COLUMN condition         text,
    ADD COLUMN condition_columns text[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN reindexer.source.template IS 'How the text columns become one text; NULL: a line each.';
COMMENT ON COLUMN reindexer.source.condition IS 'A row that does not meet it is no item.';
COMMENT ON COLUMN reindexer.source.condition_columns IS 'The columns that it reads.';
