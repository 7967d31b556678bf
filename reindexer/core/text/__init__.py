"""Texts: rendered from columns, cut into chunks, counted in tokens, packed into requests."""
