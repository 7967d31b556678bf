"""Why sources can't be worked on or searched, as far as that is known before any of their items waits."""

from __future__ import annotations

from reindexer import wiring
from reindexer.core.errors import SourceError
from reindexer.postgres.connect import connect
from reindexer.settings import Settings
from reindexer.sources.embedder_record import recorded, require_same
from reindexer.sources.store import all_sources, problems


def source_problems(settings: Settings, url: str) -> list[str]:
    """One line per problem. This includes sources whose embedder the settings can't make."""
    with connect(url, application_name="reindexer up") as connection:
        told, made_by = dict(problems(connection)), recorded(connection)
        for source in all_sources(connection):
            try:
                embedder = wiring.embedder_of(settings)(source)
                require_same(source.name, made_by.get(source.name), embedder.fingerprint)
            except SourceError as exc:
                told[source.name] = str(exc)
    return list(told.values())
