"""Qdrant, by its official client."""
