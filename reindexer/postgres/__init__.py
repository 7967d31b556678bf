"""Access to Postgres: connections, the SQL files, and the triggers on the users' tables."""
