"""A source: a table that is kept indexed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any

from reindexer.core.errors import DefinitionError, NewerDefinition, UsageError
from reindexer.core.fingerprint import RESERVED
from reindexer.core.keywords import ENGLISH, LANGUAGES, KeywordRules
from reindexer.core.profile import Profile
from reindexer.core.related import Followed, Related, check_related, followed, joined_by, merged, split_name
from reindexer.core.text.header import check_header, header_columns
from reindexer.core.text.template import check_template, parse

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")

_PAYLOAD_KEY = re.compile(r"[\w-]{1,64}")

_BESIDE = frozenset(
    {"name", "alias", "read_by", "generation", "made_by", "recorded_by_others", "followed_by_others", "servers"}
)
"""Attributes that the database keeps in columns of their own, beside the document."""

MIN_CHUNK_TOKENS = 16
"""Shorter chunks are no useful texts."""

MAX_CHUNK_TOKENS = 1_000_000
"""More than any model accepts."""


@dataclass(frozen=True, slots=True)
class Source:
    """A table (or partition tree) whose text is indexed.

    - `name` also names the trigger functions, so it is short and plain.
    - `key_columns` have a valid unique NOT NULL index. Their values as text are the item id.
    - A change of any *declared* column (key, text, payload, condition) makes the item due. Other columns never do.
    - `alias` is the name under which Qdrant serves the active generation.
    - `template` joins the text columns. None: one line each.
    - A row that does not meet `condition`, a boolean SQL expression over its `condition_columns`, is no item.
    - A text of more than `chunk_tokens` (None: more than the model accepts) is split. Each chunk begins with the last
      `chunk_overlap` tokens of the one before.
    - `chunker` is the name in the registry of what splits it.
    - `chunk_header` is a template over the text columns and `{headings}`, embedded in front of each chunk.
    - `store_text` is the key under which the payload of a point holds its chunk's text. None: it does not.
    - `tenant_column` is the payload column by which Qdrant keeps the points of one tenant together.
    - `keywords`: points are found by their words as well. `language`, `stop_words` and `stemmer` say what a word is.
    - `related` are the tables that a row is read with. `author.name` among the text and payload columns is a column of
      the relation `author`.
    """

    name: str
    table_schema: str
    table_name: str
    key_columns: tuple[str, ...]
    text_columns: tuple[str, ...]
    payload_columns: tuple[str, ...] = ()
    alias: str = field(default="")
    template: str | None = None
    condition: str | None = None
    condition_columns: tuple[str, ...] = ()
    chunk_tokens: int | None = None
    chunk_overlap: int = 0
    chunker: str = field(default="text", kw_only=True)
    chunk_header: str | None = field(default=None, kw_only=True)
    store_text: str | None = field(default=None, kw_only=True)
    tenant_column: str | None = None
    profile: Profile = field(default_factory=Profile)
    keywords: bool = field(default=False, kw_only=True)
    language: str = field(default=ENGLISH, kw_only=True)
    stop_words: tuple[str, ...] = field(default=(), kw_only=True)
    stemmer: bool = field(default=True, kw_only=True)
    related: tuple[Related, ...] = field(default=(), kw_only=True)
    resolved_condition: str | None = field(default=None, compare=False)
    """The condition with its names resolved when the source was attached. Rows are read by this one."""
    condition_objects: tuple[str, ...] = field(default=(), compare=False)
    """The user's functions, operators, types and collations that those names resolved to, as the catalog identifies
    them."""
    read_by: str = field(default="", compare=False)
    """A hash of what the rows were last seen to be read by (types, functions). Not part of the definition."""
    generation: int = field(default=1, compare=False, kw_only=True)
    """The generation whose definition this is."""
    made_by: str | None = field(default=None, compare=False, kw_only=True)
    """The embedder on record for that generation, as its fingerprint. None: none is recorded yet."""
    recorded_by_others: tuple[str, ...] = field(default=(), compare=False, kw_only=True)
    """Columns of the table that the other generations declare."""
    followed_by_others: tuple[Followed, ...] = field(default=(), compare=False, kw_only=True)
    """Related tables that the other generations follow."""
    servers: tuple[str, ...] = field(default=(), compare=False, kw_only=True)
    """Addresses of its provider that were shown to make the generation's vectors."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise DefinitionError(
                f"source name {self.name!r}: use up to 40 letters, digits, '_' and '-', and start with a letter or '_'"
            )
        if not self.key_columns:
            raise self._wrong("key", "there is no key column")
        if not self.text_columns:
            raise self._wrong("text", "there is no text column")
        if "_reindexer" in self.payload_columns:
            raise self._wrong("payload", "the payload column '_reindexer' is reserved for the program's facts")
        for what, columns in (
            ("key", self.key_columns),
            ("text", self.text_columns),
            ("payload", self.payload_columns),
        ):
            for column in columns:
                if columns.count(column) > 1:
                    raise self._wrong(what, f"the {what} column {column!r} is named twice")
        self._check_templates()
        self._check_shape()
        self._check_store_text()
        self._check_keywords()
        try:
            check_related(self.related, self.text_columns, self.payload_columns)
        except DefinitionError as exc:
            raise DefinitionError(f"source {self.name!r}: {exc}", key=exc.key) from None
        if not self.alias:
            object.__setattr__(self, "alias", self.name)

    def _check_templates(self) -> None:
        key = "chunk_header"
        try:
            if self.chunk_header is not None:
                check_header(self.chunk_header, self.text_columns)
            key = "template"
            if self.template is not None:
                check_template(self.template, self.text_columns, header_columns(self.chunk_header))
        except UsageError as exc:
            raise self._wrong(key, str(exc)) from None

    def _check_shape(self) -> None:
        tokens, overlap = self.chunk_tokens, self.chunk_overlap
        if tokens is not None and not MIN_CHUNK_TOKENS <= tokens <= MAX_CHUNK_TOKENS:
            raise self._wrong("chunk_tokens", f"chunk_tokens is {tokens}; use {MIN_CHUNK_TOKENS} to {MAX_CHUNK_TOKENS}")
        if not 0 <= overlap <= (tokens or MAX_CHUNK_TOKENS) // 2:
            raise self._wrong("chunk_overlap", f"chunk_overlap is {overlap}; use 0 to half of chunk_tokens")
        if self.tenant_column is not None and self.tenant_column not in self.payload_columns:
            raise self._wrong(
                "tenant", f"the tenant column {self.tenant_column!r} is no payload column; name it there too"
            )

    def _check_keywords(self) -> None:
        if self.language not in LANGUAGES:
            close = get_close_matches(self.language.lower(), LANGUAGES, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(LANGUAGES)}"
            raise self._wrong("language", f"the language {self.language[:40]!r} is not known; {hint}")

    def _check_store_text(self) -> None:
        key = self.store_text
        if key is None:
            return
        if not _PAYLOAD_KEY.fullmatch(key):
            raise self._wrong("store_text", f"store_text is {key[:64]!r}; use letters, digits, '_' and '-', at most 64")
        if key in (*self.payload_columns, *(each.name for each in self.related)):
            raise self._wrong("store_text", f"store_text is {key!r}, which the payload has for something else")
        if key == RESERVED:
            raise self._wrong("store_text", f"store_text is {key!r}, which is reserved for the program's facts")

    def _wrong(self, key: str, words: str) -> DefinitionError:
        return DefinitionError(f"source {self.name!r}: {words}", key=key)

    @property
    def keyword_rules(self) -> KeywordRules | None:
        """How its texts become keywords. None: it has none."""
        return KeywordRules(self.language, self.stop_words, self.stemmer) if self.keywords else None

    @property
    def declared_columns(self) -> tuple[str, ...]:
        """Text, payload and condition columns of the table itself, and those by which related rows are found, each
        once, in order. An UPDATE must change one of them to make an item due."""
        read = self.own_columns(self.text_columns) + self.own_columns(self.payload_columns)
        joined = joined_by(None, self.related)  # guard related-join-columns
        # guard condition-columns-recorded
        return tuple(dict.fromkeys(read + self.condition_columns + joined))

    @property
    def columns_of_text(self) -> tuple[str, ...]:
        """The text columns that an item's text is made of. The others stand in the chunk header alone."""
        if self.template is None:
            return self.text_columns
        named = {name for _, name in parse(self.template)}
        return tuple(name for name in self.text_columns if name in named)

    def own_columns(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return those of the names that are columns of the table itself."""
        return tuple(name for name in names if split_name(name, self.related)[0] is None)

    @property
    def followed(self) -> tuple[Followed, ...]:
        """The related tables that this generation reads."""
        return followed(self.related, self.text_columns + self.payload_columns)

    @property
    def recorded_tables(self) -> tuple[Followed, ...]:
        """The related tables whose changes the triggers record: those of every generation that is kept."""
        return merged((*self.followed, *self.followed_by_others))  # guard related-generation-tables

    @property
    def recorded_columns(self) -> tuple[str, ...]:
        """What the triggers compare: the declared columns of every generation that is kept. In the same order whichever
        of them this is, so that a promotion changes no function."""
        if not self.recorded_by_others:
            return self.declared_columns
        return tuple(sorted({*self.declared_columns, *self.recorded_by_others}))  # guard generation-columns-recorded

    def as_document(self) -> dict[str, Any]:
        """Return the definition as the database keeps it: one JSON object, without what is as by default."""
        document: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in _BESIDE or value == default_of(each):
                continue
            if each.name == "related":
                value = tuple(relation.as_json() for relation in self.related)
            document[each.name] = value.as_json() if isinstance(value, Profile) else value
        return {name: list(value) if isinstance(value, tuple) else value for name, value in document.items()}

    @classmethod
    def from_document(
        cls,
        name: str,
        alias: str,
        document: Mapping[str, Any],
        read_by: str = "",
        generation: int = 1,
        made_by: str | None = None,
        recorded_by_others: Sequence[str] = (),
        servers: Sequence[str] = (),
        others: Sequence[Mapping[str, Any]] = (),
    ) -> Source:
        """The reverse of `as_document`. `others`: the documents of the other generations, if they have relations.

        Raises NewerDefinition if the document says what this version does not know."""
        if unknown := document.keys() - {each.name for each in fields(cls)}:  # guard definition-unknown-attribute
            raise NewerDefinition(name, min(unknown))
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in document.items()
        }
        if "profile" in values:
            try:
                values["profile"] = Profile.from_json(values["profile"])
            except KeyError as exc:
                raise NewerDefinition(name, f"profile.{exc.args[0]}") from None
        if "related" in values:
            try:
                values["related"] = tuple(map(Related.from_json, values["related"]))
            except KeyError as exc:
                raise NewerDefinition(name, f"related.{exc.args[0]}") from None
        beside = {"name": name, "alias": alias, "read_by": read_by, "generation": generation, "made_by": made_by}
        beside |= {"servers": tuple(servers)}
        read = [cls.from_document(name, alias, other) for other in others]
        beside["followed_by_others"] = tuple(each for other in read for each in other.followed)
        joined = {column for other in read for column in joined_by(None, other.related)}
        beside["recorded_by_others"] = (*recorded_by_others, *sorted(joined - {*recorded_by_others}))
        return cls(**{**values, **beside})

    def in_place_of(self, attached: Source) -> Source:
        """Return this definition as that of the generation that another is the definition of now."""
        return replace(
            self,
            generation=attached.generation,
            made_by=attached.made_by,
            recorded_by_others=attached.recorded_by_others,
            followed_by_others=attached.followed_by_others,
            servers=attached.servers,
        )

    @property
    def definition_hash(self) -> str:
        """Changes when triggers must be recreated or rows must be scanned again."""
        document = self.as_document() | {"alias": self.alias}
        document.pop("condition_objects", None)  # a renamed object is the same
        for relation in document.get("related", ()):
            relation.pop("condition_objects", None)
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def collection(self) -> str:
        """The physical Qdrant collection of this generation. `alias` points at the active one."""
        return f"{self.alias}__g{self.generation}"


CALLED = {
    "key_columns": "key", "text_columns": "text", "payload_columns": "payload", "condition": "where",
    "tenant_column": "tenant",
}  # fmt: skip
"""What users call an attribute, in the sources file and in commands, where that is not its name."""

_UNSAID = frozenset(
    {
        "name",
        "table_schema",
        "table_name",
        "condition_columns",
        "resolved_condition",
        "condition_objects",
        "related",
        "read_by",
        "generation",
        "made_by",
        "recorded_by_others",
        "followed_by_others",
        "servers",
    }
)

SAID: Mapping[str, Field[Any]] = {
    CALLED.get(each.name, each.name): each for each in fields(Source) if each.name not in _UNSAID
}
"""The attributes that a user gives beside the table, by what users call them."""


def default_of(attribute: Field[Any]) -> Any:
    """Return what an attribute of a dataclass is if nothing is said of it. MISSING: something has to be said."""
    return attribute.default if attribute.default_factory is MISSING else attribute.default_factory()


CONTEXT_ITEMS = Source(
    name="context_items",
    table_schema="public",
    table_name="context_items",
    key_columns=("id",),
    text_columns=("title", "content"),
    payload_columns=("title", "metadata"),
)
"""The built-in source for users without a table of their own. `migrate --with-context-items`, `up` and `demo` create
it."""
