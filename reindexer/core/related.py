"""Related tables: what a source's document reads beside its own row."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any

from reindexer.core.errors import DefinitionError

MOST_DEPTH = 2
"""How many relations may follow one another."""

MAX_LIMIT = 10_000

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")


@dataclass(frozen=True, slots=True)
class Link:
    """A table, and how its rows are found from the rows before it: `far`, columns of it, equal `near`, columns of
    those."""

    table_schema: str
    table_name: str
    near: tuple[str, ...]
    far: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.table_schema}.{self.table_name}"


@dataclass(frozen=True, slots=True)
class Related:
    """A related table under a name, which begins the names of its columns: `author.name`.

    - `links` lead to it from the source's row, or from the row of the relation `of`. The last one is the table itself.
    - `many`: there can be several rows. In a text they are joined by `separator`, in a payload they are a list.
    - They come in the order of the columns `order`, then `key_columns`; at most `limit` of them.
    - A row that does not meet `condition`, over its `condition_columns`, does not count.
    - `object_columns` are what `name.*` stands for in a payload: each row as one object.
    """

    name: str
    links: tuple[Link, ...]
    of: str | None = None
    many: bool = False
    key_columns: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    separator: str = ", "
    limit: int | None = None
    object_columns: tuple[str, ...] = ()
    condition: str | None = None
    condition_columns: tuple[str, ...] = ()
    resolved_condition: str | None = field(default=None, compare=False)
    condition_objects: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise DefinitionError(
                f"relation name {self.name!r}: use up to 40 letters, digits and '_', and start with a letter or '_'",
                key=f"related.{self.name}",
            )
        if self.limit is not None and not 1 <= self.limit <= MAX_LIMIT:
            raise DefinitionError(
                f"relation {self.name!r}: limit is {self.limit}; use 1 to {MAX_LIMIT}", key=f"related.{self.name}.limit"
            )

    @property
    def table(self) -> Link:
        """The related table itself."""
        return self.links[-1]

    def as_json(self) -> dict[str, Any]:
        """The relation as the definition's document keeps it, without what is as by default."""
        said = {
            each.name: getattr(self, each.name) for each in fields(self) if getattr(self, each.name) != _default(each)
        }
        said["links"] = [[each.table_schema, each.table_name, list(each.near), list(each.far)] for each in self.links]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Related:
        """The reverse. Raises KeyError with the name of an attribute that this version does not know."""
        if unknown := document.keys() - {each.name for each in fields(cls)}:
            raise KeyError(min(unknown))
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in document.items()
        }
        values["links"] = tuple(
            Link(schema, table, tuple(near), tuple(far)) for schema, table, near, far in document["links"]
        )
        return cls(**values)


def _default(attribute: Any) -> Any:
    return attribute.default if attribute.default is not MISSING else None


@dataclass(frozen=True, slots=True)
class Followed:
    """A table whose changes are recorded for a relation, by the values of its `far` columns, old and new."""

    relation: Related
    place: int
    """Of the relation's links."""
    columns: tuple[str, ...]
    """An UPDATE that changes none of them records nothing. The columns `far` are among them."""

    @property
    def link(self) -> Link:
        """The table, and what joins it."""
        return self.relation.links[self.place]

    @property
    def id(self) -> str:
        """Names it in the outbox, and its triggers. The same in every generation that follows the table by the same
        columns for a relation of the same name."""
        said = [self.relation.name, self.place, self.link.table_schema, self.link.table_name, self.link.far]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:8]


def split_name(name: str, related: Sequence[Related]) -> tuple[Related | None, str]:
    """Return the relation that a column's name begins with, and the column. None: it is the source's own column."""
    begin, dot, column = name.partition(".")
    found = next((each for each in related if each.name == begin), None) if dot else None
    return (found, column) if found else (None, name)


def chain(relation: Related, related: Sequence[Related]) -> tuple[Related, ...]:
    """Return the relations that lead from the source's row to this one, which is the last."""
    of = next((each for each in related if each.name == relation.of), None)
    return (*(chain(of, related) if of else ()), relation)


def is_many(relation: Related, related: Sequence[Related]) -> bool:
    """Whether one row of the source can have several rows of the relation."""
    return any(each.many for each in chain(relation, related))


def check_related(related: Sequence[Related], text: Sequence[str], payload: Sequence[str]) -> None:
    """Raises DefinitionError if relations don't lead to the source's row, or don't fit the columns that are named."""
    names = [each.name for each in related]
    for each in related:
        if names.count(each.name) > 1:
            raise _wrong(each, "is defined twice")
        _check_chain(each, related)
        read = [column for name in (*text, *payload) for of, column in [split_name(name, related)] if of is each]
        onward = any(other.of == each.name for other in related)
        if not read and not onward:
            raise _wrong(each, f"is not read; name a column of it, like {each.name}.name, in text or payload")
        if "*" in (column for name in text for of, column in [split_name(name, related)] if of is each):
            raise _wrong(each, f"can't be text as a whole; name columns instead of {each.name}.*")
        whole = f"{each.name}.*" in payload
        if whole and sum(name.startswith(f"{each.name}.") for name in payload) > 1:
            raise _wrong(each, f"is in the payload as a whole ({each.name}.*); name none of its columns beside that")
        if whole != bool(each.object_columns):
            raise _wrong(
                each,
                f"needs columns = [...], which {each.name}.* stands for"
                if whole
                else f"lists columns, which only {each.name}.* in the payload reads",
            )
        if each.name in payload:
            raise _wrong(each, "has the name of a payload column; give it another")


def _check_chain(relation: Related, related: Sequence[Related]) -> None:
    known, seen, at = {each.name: each for each in related}, [relation.name], relation
    while at.of is not None:
        if at.of not in known:
            raise _wrong(relation, f"is said to be of {at.of!r}, and there is no such relation")
        if at.of in seen:
            raise _wrong(relation, f"leads back to itself: {' of '.join([*seen, at.of])}")
        seen.append(at.of)
        at = known[at.of]
    if len(seen) > MOST_DEPTH:
        raise _wrong(relation, f"is {len(seen)} relations away; {MOST_DEPTH} can follow one another")


def _wrong(relation: Related, words: str) -> DefinitionError:
    return DefinitionError(f"relation {relation.name!r} {words}", key=f"related.{relation.name}")


def columns_of(relation: Related, related: Sequence[Related], names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of a relation among the names, each once, in order. `*` stands for its object columns."""
    found = list[str]()
    for name in names:
        of, column = split_name(name, related)
        if of is not None and of.name == relation.name:
            found += relation.object_columns if column == "*" else [column]
    return tuple(dict.fromkeys(found))


def joined_by(relation: Related | None, related: Sequence[Related]) -> tuple[str, ...]:
    """Return the columns of a relation's table (None: the source's) by which further relations are found."""
    of = relation.name if relation else None
    return tuple(dict.fromkeys(column for each in related if each.of == of for column in each.links[0].near))


def followed(related: Sequence[Related], names: Sequence[str]) -> tuple[Followed, ...]:
    """Return the tables whose changes are recorded. `names`: the source's text and payload columns."""
    found = list[Followed]()
    for each in related:
        for place, link in enumerate(each.links):
            if link is each.table:
                # guard related-compared-columns
                read = columns_of(each, related, names) + each.condition_columns + each.order + joined_by(each, related)
            else:
                read = each.links[place + 1].near
            found.append(Followed(each, place, tuple(dict.fromkeys((*link.far, *read)))))
    return tuple(found)


def merged(all_followed: Iterable[Followed]) -> tuple[Followed, ...]:
    """Return each followed table once, with the columns that any generation compares, in an order of its own."""
    found = dict[str, Followed]()
    for each in all_followed:
        columns = {*each.columns, *(found[each.id].columns if each.id in found else ())}
        found[each.id] = replace(found.get(each.id, each), columns=tuple(sorted(columns)))
    return tuple(found[name] for name in sorted(found))
