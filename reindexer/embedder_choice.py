"""Which embedder makes a source's vectors: the one on record. Until one is, what the profile says, then the settings.

Once a generation's embedder is recorded (provider, model, dimensions), profile and settings are wishes. A process that
wishes another one says so once, and works by the record. So nobody mixes the vectors of two models, and a fleet whose
settings change one process after the other has no gap.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from functools import lru_cache

import structlog

from reindexer import registry
from reindexer.core.errors import NotThisProcess, OtherEmbedder, SourceError, UsageError
from reindexer.core.model_sides import advice as advice_on
from reindexer.core.profile import DEFAULT_MODEL, Profile, Side
from reindexer.core.source import Source
from reindexer.core.urls import server_address
from reindexer.ports import Embedder, EmbedderConfig
from reindexer.settings import Settings

log = structlog.get_logger(__name__)

OPENAI = "openai"
"""The embedder that the settings OPENAI_… are for."""

OPENAI_URL = "https://api.openai.com/v1"
"""Its address where nothing names another."""

_told: set[tuple[str, str, str | None]] = set()
"""Sources, records and wishes that this process has told of."""


def make_embedder(settings: Settings, source: Source, side: Side = "document") -> Embedder:
    """Make the embedder of a source's vectors, for chunks or for queries.

    Raises OtherEmbedder if this process can't make the one on record, SourceError if a profile can't be used here,
    UsageError where nothing is recorded and no embedder is set.
    """
    if source.made_by is None:
        return _make(settings, source, source.profile, side)
    wished = _wished(settings, source, side)
    if wished is not None and wished.fingerprint == source.made_by:
        return wished
    recorded = _recorded(settings, source, side)  # guard embedder-as-recorded
    _tell_once(source, wished.fingerprint if wished else None)
    return recorded


def _wished(settings: Settings, source: Source, side: Side) -> Embedder | None:
    """What profile and settings say. None: that can't be made, or nothing is said."""
    try:
        return _make(settings, source, source.profile, side)
    except (SourceError, UsageError):
        return None


def _recorded(settings: Settings, source: Source, side: Side) -> Embedder:
    """Make the embedder on record, whatever profile and settings say. A plug-in may be given its model by another name
    than its fingerprint holds."""
    profile = in_effect(source)
    why = "another version of the program made them"
    for model in dict.fromkeys((profile.model, source.profile.model, settings.embedding_model)):
        try:
            made = _make(settings, source, replace(profile, model=model), side, model_is_open=False)
        except NotThisProcess:
            raise
        except (SourceError, UsageError) as exc:
            why = str(exc).removeprefix(f"source {source.name!r}: ")
            continue
        if made.fingerprint == source.made_by:
            return made
        why = f"it makes {made.fingerprint}"
    raise OtherEmbedder(
        f"generation {source.generation} of {source.name!r} is made by {source.made_by}, and this process can't make "
        f"that: {why}; give it what the others have, or fill a generation by another embedder: `reindexer rebuild "
        f"{source.name}`"
    )


def _tell_once(source: Source, wished: str | None) -> None:
    event = source.name, str(source.made_by), wished
    if wished is None or event in _told:
        return
    _told.add(event)
    log.warning(
        "embedder_settings_ignored", source=source.name, recorded=source.made_by, settings=wished,
        advice=f"`reindexer rebuild {source.name}` fills a generation by the settings",
    )  # fmt: skip


def in_effect(source: Source) -> Profile:
    """The profile with the identity that is on record."""
    return source.profile if source.made_by is None else _identified(source.profile, source.made_by)


@lru_cache
def _identified(profile: Profile, made_by: str) -> Profile:
    name, _, rest = made_by.partition(":")
    model, _, dimensions = rest.rpartition(":")
    return replace(profile, provider=_registered(name), model=model or None, dimensions=int(dimensions))


def _registered(name: str) -> str:
    """The embedder's name in the registry: a fingerprint may add the version of its method, `hashing-1`."""
    known, method = registry.EMBEDDERS, re.sub(r"-\d+$", "", name)
    return method if method in known.built_in or name not in known.names() else name


def _make(settings: Settings, source: Source, profile: Profile, side: Side, *, model_is_open: bool = True) -> Embedder:
    name = provider(settings, profile)
    config = EmbedderConfig(
        model=profile.model or (settings.embedding_model if model_is_open else None),
        dimensions=profile.dimensions or settings.embedding_dimensions,
        base_url=base_url(settings, profile),
        api_key=api_key(settings, source, profile),
        limits=settings.request_limits,
        options=profile.options,
        profile=source.profile,
        side=side,
        input_type=profile.asking(side).input_type,  # guard input-type-of-side
    )
    try:
        return registry.embedder(name, config)
    except UsageError as exc:
        raise SourceError(f"source {source.name!r}: {exc}") from exc


def provider(settings: Settings, profile: Profile) -> str:
    """The embedder's name in the registry. Raises UsageError where none is set."""
    return profile.implied_provider or settings.require_embedder()


def base_url(settings: Settings, profile: Profile) -> str | None:
    """The provider's address. What OPENAI_BASE_URL says is the server of `openai` alone."""
    return profile.base_url or (settings.openai_base_url if provider(settings, profile) == OPENAI else None)


def server_of(settings: Settings, source: Source) -> str | None:
    """The address of a source's provider, without credentials. None: it computes in this process, or the address is
    not known."""
    profile = in_effect(source)
    url = base_url(settings, profile) or (OPENAI_URL if provider(settings, profile) == OPENAI else None)
    return server_address(url) if url and not registry.is_in_process(provider(settings, profile)) else None


def model(settings: Settings, profile: Profile) -> str:
    """The model's name."""
    return profile.model or settings.embedding_model or DEFAULT_MODEL


def advice(settings: Settings, source: Source) -> str | None:
    """What a source's profile should say for its model, in one line; None: nothing is known of it. See
    `reindexer.core.model_sides`."""
    profile = in_effect(source)
    if (profile.implied_provider or settings.embedder_name) != OPENAI:
        return None
    told = advice_on(model(settings, profile), profile)
    return told and f"source {source.name!r}: {told}; docs/providers.md, Queries and documents"


def api_key(settings: Settings, source: Source, profile: Profile) -> str | None:
    """The provider's key. A server that a profile names gets the key that the profile names, never the one of the
    settings. That one is for `openai` alone.

    Raises NotThisProcess if the key is not in this environment.
    """
    needed = f"source {source.name!r}: "
    if source.made_by is not None:
        needed += f"generation {source.generation} is made by {source.made_by}, and "
    if name := profile.api_key_env:
        if not (key := os.environ.get(name)):
            raise NotThisProcess(f"{needed}its profile's api_key_env names {name}, which is not set here")
        return key
    is_of_settings = not profile.base_url and provider(settings, profile) == OPENAI
    key_of_settings = settings.openai_api_key if is_of_settings else None
    if is_of_settings and source.made_by is not None and not (settings.openai_base_url or key_of_settings):
        raise NotThisProcess(f"{needed}OPENAI_API_KEY is not set here")  # guard embedder-key-missing
    return key_of_settings.get_secret_value() if key_of_settings else None
