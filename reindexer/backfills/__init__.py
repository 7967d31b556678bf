"""Scans of whole sources: initial scans, rebuilds, resync scans and backfills."""
