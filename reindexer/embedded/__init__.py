"""Postgres, Redis and Qdrant as child processes of ours, for a machine that has none of them."""
