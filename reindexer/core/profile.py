"""A source's profile: its embedder, and how the index stores its points. The settings decide what it leaves open."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, NamedTuple

DEFAULT_MODEL = "text-embedding-3-small"
DEFAULT_DIMENSIONS = 1536
"""Of `openai`, where neither profile nor settings say another."""

Distance = Literal["cosine", "dot", "euclid", "manhattan"]


Side = Literal["document", "query"]
"""What is embedded: the chunks of items, or queries."""
SIDES: tuple[Side, Side] = ("document", "query")


class Asking(NamedTuple):
    """How a model is asked for the vectors of one side."""

    prefix: str
    """In front of each text. Empty: nothing."""
    input_type: str | None
    """What a request says as `input_type`. None: nothing."""


@dataclass(frozen=True, slots=True)
class Profile:
    """None in a field: the settings decide, or nothing is said. Holds no secret: a key stays in an environment variable
    of the workers."""

    provider: str | None = None
    """The embedder's name in the registry."""
    model: str | None = None
    dimensions: int | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    """Name of the environment variable that holds the provider's key."""
    distance: Distance = "cosine"
    collection: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Parameters for the index, for when it makes the collection."""
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Passed on to the embedder."""
    document_prefix: str | None = None
    """What is embedded in front of every chunk, such as `search_document: `."""
    query_prefix: str | None = None
    """What is embedded in front of every query."""
    document_input_type: str | None = None
    """What a request for chunks says as `input_type`."""
    query_input_type: str | None = None
    """What a request for queries says as `input_type`."""

    @property
    def implied_provider(self) -> str | None:
        """The provider that the profile names or implies: a `base_url` implies OpenAI's API."""
        return self.provider or ("openai" if self.base_url else None)

    def asking(self, side: Side) -> Asking:
        """How vectors of chunks are asked for, or of queries. Only the former changes what is stored."""
        if side == "query":
            return Asking(self.query_prefix or "", self.query_input_type or None)
        return Asking(self.document_prefix or "", self.document_input_type or None)

    def as_json(self) -> dict[str, Any]:
        """Return the values that differ from the default profile."""
        default = asdict(Profile())
        return {name: value for name, value in asdict(self).items() if value != default[name]}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Profile:
        """The reverse of `as_json`. Raises KeyError for a name that this version does not know."""
        if unknown := stored.keys() - {each.name for each in fields(cls)}:
            raise KeyError(min(unknown))
        return cls(**stored)


def other_vectors(before: Profile, after: Profile, embedder: str) -> str | None:
    """Return the part of a profile that would make other vectors than `embedder` made under the profile `before`.

    `embedder` is a fingerprint. None: no part would. A value that is given must agree with the fingerprint. A value
    that was given must not be removed, because the settings would decide instead.
    """
    made_by, _, rest = embedder.partition(":")
    model, _, dimensions = rest.rpartition(":")
    provider = after.implied_provider
    same = provider is not None and re.fullmatch(rf"{re.escape(provider)}-\d+", made_by)  # a method's version
    parts = {
        "provider": (before.implied_provider, provider, provider if same else made_by),
        "model": (before.model, after.model, model or after.model),
        "dimensions": (before.dimensions, after.dimensions, int(dimensions)),
        "distance": (before.distance, after.distance, before.distance),
    }
    for name, (said, says, is_so) in parts.items():
        if says not in (None, is_so):
            return f"{name} {says}"
        if says is None and said is not None:
            return f"no {name} any more"
    for name, said, says in zip(Asking._fields, before.asking("document"), after.asking("document"), strict=True):
        if said != says:  # guard profile-document-side
            return f"document_{name} {says!r}" if says else f"no document_{name} any more"
    return None


EXACT = "float32"
"""The datatype in which an index keeps a vector as it was written."""


def hands_on(distance: Distance, datatype: str, to_distance: Distance, to_datatype: str) -> bool:
    """Whether a vector that was stored in one way becomes, stored in another, what the original would have become.

    A point that moves within a collection is as good as embedded anew, so it is between two that store alike.
    """
    if (distance, datatype) == (to_distance, to_datatype):
        return True
    # guard donor-kept-vector
    return datatype == EXACT and (distance == to_distance or distance != "cosine")  # `cosine` may normalise
