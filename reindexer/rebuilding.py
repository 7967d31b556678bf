"""Rebuild a source into a next generation, promote it, go back: for the command line, the API and `Client`."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import replace

from reindexer import wiring
from reindexer.core.errors import (
    ChangedMeanwhile,
    PermanentError,
    ReindexerError,
    SourceError,
    UsageError,
)
from reindexer.core.owner import Owner
from reindexer.core.profile import SIDES
from reindexer.core.source import Source
from reindexer.generations import lifecycle, promotion
from reindexer.generations.lifecycle import Made
from reindexer.generations.promotion import Promoted, Terms
from reindexer.generations.rows import generations
from reindexer.index.search import collection_of
from reindexer.ports import Collection, Embedder, Index
from reindexer.postgres.connect import Connection
from reindexer.settings import Settings
from reindexer.sources.definition import check, define
from reindexer.sources.store import find_source
from reindexer.sources_file.read import read_sources


def wanted(settings: Settings, connection: Connection, name: str, profile: str | None = None) -> Source:
    """Return the definition that a rebuild would go by: the file's if the source is in it, else the active one's.

    `profile` names another profile of the file. The embedder is what the profile says and, where it says nothing, the
    settings. Raises UsageError if there is no such source or profile, or if the definition does not fit the table.
    """
    active = find_source(connection, name)
    file = read_sources(settings.sources, index=settings.index)
    found = define(connection, file.sources[name]) if file and name in file.sources else active
    if profile is not None:
        if file is None:
            raise UsageError(f"--profile {profile}: there is no sources file here; see docs/sources.md")
        found = replace(found, profile=file.profile(profile))
    check(connection, found)
    return replace(found.in_place_of(active), made_by=None)


def rebuild(
    settings: Settings, connection: Connection, index: Index, name: str, *, who: str, profile: str | None = None,
    max_usd: float | None = None,
) -> Made:  # fmt: skip
    """Make the next generation of a source, and start its fill. A new embedder is asked for one vector before. Once the
    fill has cost `max_usd`, its items wait.

    Raises UsageError if the definition or the embedder can't be used, GenerationConflict if a generation is under way,
    DependencyUnavailable if the provider or the index does not answer.
    """
    return rebuild_as(
        settings, connection, index, wanted(settings, connection, name, profile), who=who, max_usd=max_usd
    )


def rebuild_as(
    settings: Settings, connection: Connection, index: Index, source: Source, *, who: str, makes: str | None = None,
    max_usd: float | None = None,
) -> Made:  # fmt: skip
    """As `rebuild`, by this definition. `makes`: the only embedder that is to make its vectors.

    Raises ChangedMeanwhile if the settings here name another one.
    """
    name, paying = source.name, wiring.purse(settings)
    embedder = wiring.embedder_of(settings, purse=paying)(source)
    if makes not in (None, embedder.fingerprint):  # guard plan-same-embedder
        raise ChangedMeanwhile(
            f"source {name!r}: the plan says {makes}, and the settings here make vectors of {embedder.fingerprint}; "
            "nothing was changed; plan again with the settings that are meant"
        )
    with closing(paying):
        if embedder.fingerprint not in {each.embedder for each in generations(connection, name) if each.is_kept}:
            # guard rebuild-embedder-asked
            require_usable(embedder, name, settings.embedding_timeout_s)  # else it was usable, and may not be needed
        for side in SIDES:
            if source.profile.asking(side).input_type:  # guard rebuild-input-type-asked
                asked = wiring.embedder_of(settings, side=side, purse=paying)(source)
                require_usable(asked, name, settings.embedding_timeout_s)

    def is_free(number: int) -> bool:
        there = Collection(name, f"{source.alias}__g{number}", source.alias, source.profile, None, number, False)
        return index.owner(there) == Owner(None)

    return lifecycle.rebuild(connection, source, embedder.fingerprint, who=who, is_free=is_free, max_usd=max_usd)


def require_usable(embedder: Embedder, source: str, timeout_s: float) -> None:
    """Ask for one vector. Raises UsageError if the provider refuses: the model does not exist, say."""
    try:
        embedder.embed(["reindexer"], timeout_s=timeout_s)
    except (PermanentError, SourceError) as exc:
        raise UsageError(f"source {source!r}: {exc}; nothing was changed") from exc


def promote(settings: Settings, connection: Connection, index: Index, name: str, *, who: str, terms: Terms) -> Promoted:
    """Make searches use the generation that is ready. The alias follows. Raises GenerationConflict."""
    return _followed(connection, index, promotion.promote(connection, name, who=who, terms=_kept(settings, terms)))


def rollback(
    settings: Settings, connection: Connection, index: Index, name: str, *, who: str, terms: Terms
) -> Promoted:
    """Make searches use the former generation again. The alias follows. Raises GenerationConflict."""
    return _followed(connection, index, promotion.rollback(connection, name, who=who, terms=_kept(settings, terms)))


def _kept(settings: Settings, terms: Terms) -> Terms:
    return replace(terms, standby_for_s=settings.standby_for_s)


def _followed(connection: Connection, index: Index, done: Promoted) -> Promoted:
    # Searches of ours follow Postgres. If this fails, a worker moves the alias within ten seconds.
    with suppress(ReindexerError):
        index.follow_alias(collection_of(connection, done.source))
    return done
