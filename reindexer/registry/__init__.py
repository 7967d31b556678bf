"""The registry: finds embedders, chunkers and indexes by name, the built-in ones and those of packages alike.

A package registers a plug-in under an entry point (docs/extend.md). It is imported when it is first used. Nothing is
guessed: an unknown name, a name that two packages register, a plug-in that can't be imported and one that lacks a part
are refused in one line each.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property, lru_cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Any, cast

from reindexer.core.errors import ReindexerError, UsageError
from reindexer.core.text.batching import RequestLimits
from reindexer.ports import Chunker, Embedder, EmbedderConfig, Index, IndexConfig
from reindexer.registry.checked_chunker import CheckedChunker

OURS = "reindexer"
"""The distribution that registers the built-in ones."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plug-in that was found and imported."""

    what: str
    """For messages: "the embedder 'x' of the package y"."""
    is_ours: bool
    make: Any
    """What the entry point names: it takes the configuration, and returns the plug-in."""

    def attribute(self, name: str, default: object) -> Any:
        """An optional attribute of the plug-in's class."""
        owner = getattr(self.make, "__self__", self.make)  # of a classmethod: the class
        return getattr(owner, name, default)

    def made(self, config: object, parts: Mapping[str, type | None]) -> Any:
        """Make the plug-in. `parts`: what it must have, and of which type; None: something that can be called.

        Raises UsageError if that fails or a part is missing.
        """
        try:
            made = self.make(config)
        except ReindexerError:
            raise
        except Exception as exc:
            raise UsageError(f"{self.what} can't be made: {_shown(exc)}") from exc
        for name, kind in parts.items():
            part = getattr(made, name, None)
            if not (callable(part) if kind is None else isinstance(part, kind)):
                wanted = "method" if kind is None else kind.__name__
                raise UsageError(f"{self.what} has no `{name}` ({wanted}); see docs/extend.md")
        return made


@dataclass(frozen=True)
class Registry:
    """The plug-ins of one kind."""

    word: str
    group: str
    """Of entry points."""
    built_in: Mapping[str, str] = field(default_factory=dict)
    """The built-in ones: name and `module:object`, as an entry point has it."""
    needs: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Of built-in ones that need more than is always installed: the extra that has it, and a module of it."""

    @cached_property
    def _found(self) -> Mapping[str, tuple[EntryPoint, ...]]:
        """The entry points of each name. A process looks once: that takes some milliseconds."""
        found: dict[str, tuple[EntryPoint, ...]] = {}
        for name, value in self.built_in.items():
            found[name] = (EntryPoint(name, value, self.group),)
        for each in entry_points(group=self.group):
            found[each.name] = (*found.get(each.name, ()), each)
        return found

    def names(self) -> list[str]:
        """The known names: the built-in ones first."""
        return list(self._found)

    def require(self, name: str) -> None:
        """Raises UsageError if the name is not known, or if its extra is not installed. Does not import the plug-in."""
        if name not in self.built_in and name not in self._found:
            raise UsageError(f"there is no {self.word} {name[:60]!r}; {self.known(name)}")
        if name in self.needs:
            extra, module = self.needs[name]
            if find_spec(module) is None:  # guard chunker-extra-missing
                raise UsageError(f"the {self.word} {name!r} needs other packages: pip install '{OURS}[{extra}]'")

    def known(self, name: str) -> str:
        """The known names in words, for the message about an unknown one."""
        close = get_close_matches(name, self.names(), n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        return f"{hint}there are {', '.join(self.names())}; docs/extend.md tells how a package adds one"

    def load(self, name: str) -> Plugin:
        """Import the plug-in. Raises UsageError if there is none, if there are two, or if the import fails."""
        self.require(name)
        first, *others = self._found[name]
        if others:  # guard plugin-one-name-two-packages
            packages = " and ".join(sorted(_package(each) for each in (first, *others)))
            raise UsageError(f"two packages register the {self.word} {name!r}: {packages}; uninstall one of them")
        what = f"the {self.word} {name!r} of the package {_package(first)}"
        try:
            make = first.load()
        except Exception as exc:
            raise UsageError(f"{what} can't be imported: {_shown(exc)}") from exc
        if not callable(make):
            raise UsageError(f"{what} is {type(make).__name__}, and can't be called; see docs/extend.md")
        return Plugin(what, first.dist is None, make)


EMBEDDERS = Registry("embedder", "reindexer.embedders", {
    "openai": "reindexer.adapters.embedders.openai:OpenAIEmbedder.from_config",
    "static": "reindexer.adapters.embedders.static:StaticEmbedder.from_config",
    "hashing": "reindexer.adapters.embedders.hashing:HashingEmbedder.from_config",
})  # fmt: skip
_LANGUAGES = (
    "c", "cpp", "csharp", "go", "java", "javascript", "php", "python", "ruby", "rust", "tsx", "typescript"
)  # fmt: skip
_CODE = "reindexer.adapters.chunkers.code"
_OF_CODE = {"code": f"{_CODE}:spans"} | {f"code-{each}": f"{_CODE}:{each}" for each in _LANGUAGES}
CHUNKERS = Registry("chunker", "reindexer.chunkers", {
    "text": "reindexer.core.text.chunks:spans",
    "html": "reindexer.adapters.chunkers.html:spans",
    "markdown": "reindexer.adapters.chunkers.markdown:spans",
    **_OF_CODE,
}, {"markdown": ("structure", "markdown_it"), **dict.fromkeys(_OF_CODE, ("structure", "tree_sitter"))})  # fmt: skip
INDEXES = Registry("index", "reindexer.indexes", {"qdrant": "reindexer.adapters.qdrant.index:QdrantIndex.from_config"})

_IN_PROCESS = {"openai": False, "static": True, "hashing": True}
"""Of the built-in embedders: known without an import, because the client of `openai` takes a second to import."""


def embedder(name: str, config: EmbedderConfig) -> Embedder:
    """Make an embedder. Raises UsageError."""
    plugin = EMBEDDERS.load(name)
    made = plugin.made(config, {"fingerprint": str, "dimensions": int, "limits": RequestLimits, "embed": None})
    wanted = rf"{re.escape(name)}(-\d+)?(:.*)?:{made.dimensions}"
    if not re.fullmatch(wanted, made.fingerprint, re.DOTALL):  # guard plugin-fingerprint-form
        raise UsageError(
            f"{plugin.what} has the fingerprint {made.fingerprint[:60]!r}; it must be NAME:MODEL:DIMENSIONS, here "
            f"{name}:MODEL:{made.dimensions}"
        )
    if plugin.is_ours:
        return cast(Embedder, made)
    from reindexer.registry.checked_embedder import CheckedEmbedder

    return CheckedEmbedder(made, plugin.what)


def is_in_process(name: str) -> bool:
    """Whether an embedder computes in this process: it sends no request, costs nothing and has no rate limit.

    Raises UsageError.
    """
    if name in _IN_PROCESS:
        return _IN_PROCESS[name]
    return bool(EMBEDDERS.load(name).attribute("in_process", False))


@lru_cache
def chunker(name: str) -> Chunker:
    """Find a chunker; a class is made once in a process, without arguments. Raises UsageError.

    A package's is checked at each text. The built-in ones are not, because a short text would take two thirds longer;
    tests hold them to the port.
    """
    plugin = CHUNKERS.load(name)
    if plugin.is_ours:
        return cast(Chunker, plugin.make)
    cut = plugin.make
    if isinstance(cut, type):
        try:
            cut = cut()
        except Exception as exc:
            raise UsageError(f"{plugin.what} can't be made: {_shown(exc)}") from exc
        if not callable(cut):
            raise UsageError(f"{plugin.what} has no `__call__` (method); see docs/extend.md")
    return CheckedChunker(cut, plugin.what)


def index(name: str, config: IndexConfig) -> Index:
    """Make an index. Raises UsageError."""
    methods = {each: None for each in vars(Index) if not each.startswith("_")}
    return cast(Index, INDEXES.load(name).made(config, methods))


def takes_keywords(index_name: str) -> bool:
    """Whether an index writes and finds the keywords of points. Raises UsageError."""
    return bool(INDEXES.load(index_name).attribute("takes_keywords", False))


def wrong_parameter(index_name: str, parameters: Mapping[str, Any]) -> tuple[tuple[str, ...], str, Collection[str]]:
    """Check a profile's collection parameters with the index that gets them.

    Returns the path of the first wrong one, why it is wrong, and the known names if it is not known; an empty path if
    none is wrong. An index without `wrong_parameter` judges them when it makes the collection. Raises UsageError.
    """
    plugin = INDEXES.load(index_name)
    known: Collection[str] = plugin.attribute("collection_parameters", ())
    for name in parameters:
        if known and name not in known:
            return (name,), "", known
    check = plugin.attribute("wrong_parameter", None)
    found = check(parameters) if check else None
    return (found[0], found[1], ()) if found else ((), "", ())


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else OURS


def _shown(exc: Exception) -> str:
    """The error in one line."""
    words = " ".join(str(exc).split())[:200]
    return f"{type(exc).__name__}: {words}" if words else type(exc).__name__
