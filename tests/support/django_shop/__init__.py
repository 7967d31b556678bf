"""A Django application of a shop's."""
