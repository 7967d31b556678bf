"""Generations of a source: a next one is filled beside the active one, promoted, kept as a way back, and dropped."""
