"""Turns keys into wanted sources and profiles: all checks that need no database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reindexer import registry
from reindexer.core.errors import DefinitionError, UsageError
from reindexer.core.keywords import LANGUAGES
from reindexer.core.profile import Profile
from reindexer.sources.definition import Wanted, draft
from reindexer.sources.relations import RelatedTable
from reindexer.sources_file import kinds
from reindexer.sources_file.document import Document, dotted, read_document
from reindexer.sources_file.toml_lines import KeyPath

_SOURCE: Mapping[str, kinds.Kind] = {
    "table": kinds.text,
    "key": kinds.names,
    "text": kinds.names,
    "template": kinds.text,
    "payload": kinds.names,
    "where": kinds.text,
    "alias": kinds.text,
    "chunk_tokens": kinds.whole_number,
    "chunk_overlap": kinds.whole_number,
    "chunker": kinds.name_of(registry.CHUNKERS),
    "chunk_header": kinds.text,
    "store_text": kinds.text,
    "tenant": kinds.text,
    "keywords": kinds.boolean,
    "language": kinds.one_of(*LANGUAGES),
    "stop_words": kinds.names,
    "stemmer": kinds.boolean,
    "profile": kinds.text,
    "change": kinds.one_of("in-place", "rebuild"),
    "related": kinds.tables,
}
_RELATION: Mapping[str, kinds.Kind] = {
    "table": kinds.text,
    "of": kinds.text,
    "through": kinds.text,
    "on": kinds.pairs,
    "to": kinds.pairs,
    "many": kinds.boolean,
    "order": kinds.names,
    "separator": kinds.separator,
    "where": kinds.text,
    "limit": kinds.whole_number,
    "columns": kinds.names,
}
_PROFILE: Mapping[str, kinds.Kind] = {
    "provider": kinds.name_of(registry.EMBEDDERS),
    "model": kinds.text,
    "dimensions": kinds.dimensions,
    "base_url": kinds.url,
    "api_key_env": kinds.environment_name,
    "document_prefix": kinds.prefix,
    "query_prefix": kinds.prefix,
    "document_input_type": kinds.prefix,
    "query_input_type": kinds.prefix,
    "distance": kinds.one_of("cosine", "dot", "euclid", "manhattan"),
    "collection": kinds.parameters,
    "options": kinds.options,
}


@dataclass(frozen=True)
class SourcesFile:
    """The file's profiles and sources, by name, in its order."""

    document: Document
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    sources: Mapping[str, Wanted] = field(default_factory=dict)

    def profile(self, name: str) -> Profile:
        """The profile of that name. Raises UsageError with a hint if there is none."""
        if name not in self.profiles:
            close = kinds.alike(name, self.profiles)
            hint = f"did you mean {close!r}?" if close else f"write [{dotted(('profiles', name))}]"
            raise DefinitionError(f"{self.document.name} has no profile {name[:60]!r}; {hint}")
        return self.profiles[name]

    def at(self, source: str, key: str | None = None) -> str:
        """The place of a source's key, `text` or `related.author.on`, or of the header that should hold it."""
        return self.document.at(("sources", source, *(key.split(".") if key else ())))


def read_sources(named: Path | None, *, index: str = "qdrant") -> SourcesFile | None:
    """Read the sources file: the named one, else `reindexer.toml`; None if none is named and that does not exist.

    `index`: the name of the index, which checks what the profiles say about collections.
    Raises UsageError at the first mistake.
    """
    document = read_document(named)
    return parse_sources(document, index=index) if document else None


def parse_sources(document: Document, *, index: str = "qdrant") -> SourcesFile:
    """Raises UsageError at the first mistake."""
    for key in document.data:
        if key in _SOURCE.keys() | _PROFILE.keys():
            raise document.wrong((key,), "stands under no header; write [sources.NAME] above it")
        if key not in ("sources", "profiles"):
            close = kinds.alike(key, ("sources", "profiles"))
            header = f"[{close}.NAME]" if close else "[sources.NAME] or [profiles.NAME]"
            raise document.wrong((key,), f"is not known; write {header}")
    profiles = {name: _profile(document, name, raw, index) for name, raw in _named(document, "profiles").items()}
    file = SourcesFile(document, profiles)
    sources = {name: _source(file, name, raw) for name, raw in _named(document, "sources").items()}
    _require_different_aliases(document, sources)
    return SourcesFile(document, profiles, sources)


def _named(document: Document, kind: str) -> Mapping[str, Any]:
    """The tables under `sources` or `profiles`."""
    tables = document.data.get(kind, {})
    known = _SOURCE if kind == "sources" else _PROFILE
    if not isinstance(tables, dict):
        raise document.wrong((kind,), f"is {kinds.what(tables)}; write [{kind}.NAME]")
    for name, raw in tables.items():
        if not isinstance(raw, dict):
            under = f"[{kind}.NAME], with a name," if name in known else f"[{kind}.{dotted((name,))}]"
            raise document.wrong((kind, name), f"is {kinds.what(raw)}; write {under} above the keys")
        if not name.strip():
            raise document.wrong((kind, name), "has no name")
    return tables


def _source(file: SourcesFile, name: str, raw: Mapping[str, Any]) -> Wanted:
    document, path = file.document, ("sources", name)
    _refuse_strangers(document, path, raw)
    read = kinds.read_table(document, path, raw, _SOURCE)
    for key, example in (("table", 'table = "schema.table"'), ("text", 'text = ["column"]')):
        if not read.get(key):
            raise document.wrong((*path, key) if key in read else path, f"has no {key}; write {example}")
    if (profile := read.pop("profile", None)) is not None:
        try:
            read["profile"] = file.profile(profile)
        except DefinitionError as exc:
            raise DefinitionError(f"{document.at((*path, 'profile'))}: source {name!r}: {exc}") from None
    related = read.pop("related", {})
    relations = tuple(_relation(document, (*path, "related"), each, keys) for each, keys in related.items())
    wanted = Wanted(name, **read, related=relations)
    try:
        draft(wanted)
    except DefinitionError as exc:
        raise DefinitionError(f"{file.at(name, exc.key)}: {exc}") from None
    return wanted


def _relation(document: Document, above: KeyPath, name: str, raw: object) -> RelatedTable:
    path = (*above, name)
    read = kinds.read_table(document, path, raw, _RELATION)
    if "table" not in read:
        raise document.wrong(path, 'has no table; write table = "schema.table"')
    return RelatedTable(name, **read)


def _refuse_strangers(document: Document, path: KeyPath, raw: Mapping[str, Any]) -> None:
    """Refuse keys that belong elsewhere, and a dotted source name that reads as a table."""
    for key, value in raw.items():
        if key in _PROFILE and key not in _SOURCE:
            raise document.wrong((*path, key), 'belongs under [profiles.NAME]; write profile = "NAME" here')
        if isinstance(value, dict) and key not in _SOURCE:
            one = dotted(("sources", f"{path[-1]}_{key}"))
            raise document.wrong((*path, key), f"is not known: a source's name holds no dot; write [{one}]")


def _profile(document: Document, name: str, raw: Mapping[str, Any], index: str) -> Profile:
    path = ("profiles", name)
    read = kinds.read_table(document, path, raw, _PROFILE)
    if "collection" in read:
        _check_collection(document, (*path, "collection"), read["collection"], index)
    return Profile(**read)


def _check_collection(document: Document, path: KeyPath, parameters: object, index: str) -> None:
    if not isinstance(parameters, dict):
        raise document.wrong(path, f"is {kinds.what(parameters)}; write its keys under [{dotted(path)}]")
    try:
        keys, words, known = registry.wrong_parameter(index, parameters)
    except UsageError as exc:
        raise document.wrong(path, f"can't be checked: {exc}") from exc
    if keys:
        raise document.wrong((*path, *keys), words or kinds.unknown(keys[0], known))


def _require_different_aliases(document: Document, sources: Mapping[str, Wanted]) -> None:
    owners: dict[str, str] = {}
    for name, wanted in sources.items():
        alias = wanted.alias or name
        if alias in owners:
            path = ("sources", name, "alias")
            raise DefinitionError(
                f"{document.at(path)}: source {name!r}: the alias {alias!r} is that of the source {owners[alias]!r}; "
                "name another"
            )
        owners[alias] = name
