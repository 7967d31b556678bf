"""Django's databases, as the program's own connections name them."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from psycopg import pq
from psycopg.conninfo import make_conninfo

_OF_LIBPQ = frozenset(each.keyword.decode() for each in pq.Conninfo.get_defaults())


def is_postgres(alias: str) -> bool:
    """Whether the database is one that can be followed."""
    return bool(connections[alias].vendor == "postgresql")


def database_url(alias: str) -> str:
    """The database of that alias in libpq's form, whatever driver Django uses. Raises ImproperlyConfigured."""
    if not is_postgres(alias):
        raise ImproperlyConfigured(f"the database {alias!r} is no PostgreSQL: its tables can't be kept indexed")
    given = connections[alias].get_connection_params()
    return make_conninfo(**{name: value for name, value in given.items() if name in _OF_LIBPQ and value is not None})
