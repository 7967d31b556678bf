"""Walks over whole sources: first fills, rebuilds, and looks at everything."""
