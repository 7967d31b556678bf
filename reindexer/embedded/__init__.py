"""The services that a machine without them runs on: Postgres, Redis, Qdrant, started by us."""
