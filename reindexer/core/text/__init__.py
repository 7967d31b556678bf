"""Texts: put together from columns, cut into chunks, counted in tokens, packed into requests."""
