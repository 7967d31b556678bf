-- Nothing limits what is spent any more.
DROP VIEW reindexer.over_budget;
DROP VIEW reindexer.budget_use;
DROP TABLE reindexer.budget;
DROP TABLE reindexer.spender;
