"""A Django project in this process, and as a folder with a manage.py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.db import connections
from psycopg.conninfo import conninfo_to_dict

APPLICATIONS = ["reindexer.django", "tests.support.django_shop"]

MANAGE = """
import sys

from django.conf import settings
from django.core.management import execute_from_command_line

settings.configure(**{settings!r})
execute_from_command_line(sys.argv)
"""


def database(url: str, **more: Any) -> dict[str, Any]:
    """An entry of DATABASES."""
    place = conninfo_to_dict(url)
    names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
    told = {name: str(place[word]) for name, word in names.items() if place.get(word)}
    return {"ENGINE": "django.db.backends.postgresql", **told, **more}


@contextmanager
def configured(url: str) -> Iterator[None]:
    """Django, set up once a process; its database is this one for the time being."""
    if not settings.configured:
        settings.configure(
            DATABASES={"default": database(url)}, INSTALLED_APPS=APPLICATIONS, LOGGING_CONFIG=None, USE_TZ=True,
            DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        )  # fmt: skip
        django.setup()
    connections.close_all()
    connections.settings = connections.configure_settings({"default": database(url)})
    if hasattr(connections._connections, "default"):
        delattr(connections._connections, "default")
    yield
    connections.close_all()


def create_tables() -> None:
    """The tables of the shop's models."""
    from tests.support.django_shop.models import Product

    with connections["default"].schema_editor() as editor:
        editor.create_model(Product)


def manage(folder: Path, url: str) -> Path:
    """Write a manage.py; return it."""
    program = folder / "manage.py"
    told = {"DATABASES": {"default": database(url)}, "INSTALLED_APPS": APPLICATIONS}
    program.write_text(MANAGE.format(settings=told), encoding="utf-8")
    return program
