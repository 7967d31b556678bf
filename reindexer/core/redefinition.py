"""Differences between two definitions of a source, by the keys of the sources file and of `attach`."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from reindexer.core.profile import other_vectors
from reindexer.core.related import Related
from reindexer.core.source import SAID, Source, default_of

_MOVING = frozenset({"table", "key", "text", "where", "related"})
"""Keys whose change can move rows into or out of the index. Other keys change what is stored for a row in the index."""


@dataclass(frozen=True, slots=True)
class Change:
    """The change of one key. None: not set."""

    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{_shown(self.before)} → {_shown(self.after)}"


def changes(before: Source | None, after: Source) -> Mapping[str, Change]:
    """Return the keys that differ, in the order of the documentation. Without `before`: all keys that are set."""
    was, now = described(before) if before else {}, described(after)
    both = {key: Change(was.get(key), now.get(key)) for key in dict.fromkeys(["table", *SAID, *now, *was])}
    return {key: change for key, change in both.items() if change.before != change.after}


def may_move(differing: Collection[str]) -> bool:
    """Whether a change of these keys can move rows into the index or out of it."""
    return not _MOVING.isdisjoint(key.partition(".")[0] for key in differing)


def rebuild_reasons(
    before: Source, after: Source, made_by: str | None, makes: str | None = None, *, asked: bool = False
) -> list[str]:
    """Return why a change of definition takes another collection. Empty: it can be made in place.

    `made_by` is the embedder on record (None: there are no vectors yet), `makes` the one that would make the vectors
    now (None: not known here). `asked`: the user wants every change of this source to be a rebuild.
    """
    if made_by is None:
        return []
    reasons = []
    if makes not in (None, made_by):
        reasons.append(f"{made_by} made its vectors, {makes} would make them now")
    elif wrong := other_vectors(before.profile, after.profile, made_by):
        reasons.append(f"{made_by} made its vectors, the profile says {wrong}")
    if before.profile.distance != after.profile.distance and not any("distance" in each for each in reasons):
        reasons.append(f"distance {before.profile.distance} → {after.profile.distance}")
    if other_rules(before, after):
        reasons.append("its keywords would be made by other rules")
    if before.profile.collection != after.profile.collection:
        reasons.append("the collection's parameters take effect when it is made")
    if asked and not reasons and changes(before, after):  # guard change-asked-rebuild
        reasons.append('the sources file says change = "rebuild"')
    return reasons


def other_rules(before: Source, after: Source) -> bool:
    """Whether keywords that are there would be beside others that are made by other rules. Weights of two kinds can't
    be compared, so a generation keeps its rules."""
    # guard keywords-fixed-rules
    return before.keywords and after.keywords and before.keyword_rules != after.keyword_rules


def described(source: Source) -> dict[str, Any]:
    """Return a definition by its keys, without unset ones. A profile is listed by its parts, such as
    `profile.model`."""
    told: dict[str, Any] = {"table": f"{source.table_schema}.{source.table_name}"}
    for key, attribute in SAID.items():
        value = getattr(source, attribute.name)
        if key != "profile" and value != default_of(attribute):
            told[key] = list(value) if isinstance(value, tuple) else value
    told |= {f"related.{each.name}": _told(each) for each in source.related}
    return told | {f"profile.{part}": value for part, value in source.profile.as_json().items()}


def _told(relation: Related) -> str:
    """`shop.tags (tag_id = id) through shop.book_tags (id = book_id), many, order: label`: all that differs from what
    is as by default."""
    *through, table = (
        f"{link} ({', '.join(f'{near} = {far}' for near, far in zip(link.near, link.far, strict=True))})"
        for link in relation.links
    )
    told = [" through ".join([table, *through]) + (f" of {relation.of}" if relation.of else "")]
    told += ["many"] if relation.many else []
    told += [f"order: {', '.join(relation.order)}"] if relation.order else []
    told += [f"limit: {relation.limit}"] if relation.limit else []
    told += [f"separator: {json.dumps(relation.separator)}"] if relation.separator != ", " else []
    told += [f"columns: {', '.join(relation.object_columns)}"] if relation.object_columns else []
    told += [f"where: {relation.condition}"] if relation.condition is not None else []
    return ", ".join(told)


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, list):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value)
