"""What a source is: a table that is kept indexed."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field

from reindexer.core.errors import UsageError
from reindexer.core.profile import Profile
from reindexer.core.template import check_template

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")

MIN_CHUNK_TOKENS = 16
"""Shorter chunks are no texts."""


@dataclass(frozen=True, slots=True)
class Source:
    """A table (or partition tree) whose text is indexed.

    `name` also names the trigger functions, so it is short and plain. `key_columns` lie under a valid unique NOT NULL
    index; their values as text are the item id. A change of any *declared* column (key, text, payload, condition) makes
    the item due; other columns never do. `alias` is the name under which Qdrant serves the active generation.
    `template` joins the text columns; None: a line each. A row that does not meet `condition`, a boolean SQL expression
    over its `condition_columns`, is no item. A text of more than `chunk_tokens` (None: more than the model takes) is
    split; each chunk begins with the last `chunk_overlap` tokens of the one before. `tenant_column` is the payload
    column by which Qdrant keeps the points of one tenant together.
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
    tenant_column: str | None = None
    profile: Profile = field(default_factory=Profile)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(
                f"source name {self.name!r}: use up to 40 letters, digits, '_' and '-', and start with a letter or '_'"
            )
        if not self.key_columns:
            raise UsageError(f"source {self.name!r} has no key column")
        if not self.text_columns:
            raise UsageError(f"source {self.name!r} has no text column")
        if "_reindexer" in self.payload_columns:
            raise UsageError(
                f"source {self.name!r}: the payload column '_reindexer' is reserved for the program's facts"
            )
        for what, columns in (
            ("key", self.key_columns),
            ("text", self.text_columns),
            ("payload", self.payload_columns),
        ):
            for column in columns:
                if columns.count(column) > 1:
                    raise UsageError(f"source {self.name!r}: the {what} column {column!r} is named twice")
        if self.template is not None:
            try:
                check_template(self.template, self.text_columns)
            except UsageError as exc:
                raise UsageError(f"source {self.name!r}: {exc}") from None
        self._check_shape()
        if not self.alias:
            object.__setattr__(self, "alias", self.name)

    def _check_shape(self) -> None:
        if self.chunk_tokens is not None and self.chunk_tokens < MIN_CHUNK_TOKENS:
            raise UsageError(
                f"source {self.name!r}: chunk_tokens is {self.chunk_tokens}; use {MIN_CHUNK_TOKENS} or more"
            )
        if self.chunk_overlap < 0 or (self.chunk_tokens and self.chunk_overlap > self.chunk_tokens // 2):
            raise UsageError(
                f"source {self.name!r}: chunk_overlap is {self.chunk_overlap}; use 0 to half of chunk_tokens"
            )
        if self.tenant_column is not None and self.tenant_column not in self.payload_columns:
            raise UsageError(
                f"source {self.name!r}: the tenant column {self.tenant_column!r} is no payload column; "
                "name it there too"
            )

    @property
    def declared_columns(self) -> tuple[str, ...]:
        """Text, payload and condition columns, each once, in order: what an UPDATE must change to make an item due."""
        return tuple(dict.fromkeys(self.text_columns + self.payload_columns + self.condition_columns))

    @property
    def definition_hash(self) -> str:
        """Changes when triggers have to be made anew or rows have to be looked at again."""
        definition = [
            self.table_schema, self.table_name, self.key_columns, self.text_columns, self.payload_columns, self.alias,
            self.template, self.condition, self.condition_columns, self.chunk_tokens, self.chunk_overlap,
            self.tenant_column, self.profile.as_json(),
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()[:16]

    def collection(self, generation: int) -> str:
        """The physical Qdrant collection of one generation; `alias` points at the active one."""
        return f"{self.alias}__g{generation}"


CONTEXT_ITEMS = Source(
    name="context_items",
    table_schema="public",
    table_name="context_items",
    key_columns=("id",),
    text_columns=("title", "content"),
    payload_columns=("title", "metadata"),
)
"""The built-in source: a table that `migrate` makes, for whoever has none yet."""
