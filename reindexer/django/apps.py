"""The application's configuration."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks

from reindexer.django.checks import check_triggers


class ReindexerConfig(AppConfig):
    """It has no models: the program's own tables are made by `reindexer migrate`."""

    name = "reindexer.django"
    label = "reindexer"
    verbose_name = "reindexer"

    def ready(self) -> None:
        """Register the check."""
        checks.register(check_triggers, checks.Tags.database)
