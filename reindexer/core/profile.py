"""A source's profile: who embeds its texts, and how Qdrant keeps its points. What it leaves open, the settings say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

Provider = Literal["openai", "hashing"]
Distance = Literal["cosine", "dot", "euclid", "manhattan"]


@dataclass(frozen=True, slots=True)
class Profile:
    """None: as the settings say. Holds no secret: a key stays in the environment of the workers, under a name."""

    provider: Provider | None = None
    model: str | None = None
    dimensions: int | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    """Name of the environment variable that holds the provider's key."""
    distance: Distance = "cosine"
    collection: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Parameters of Qdrant's create-collection call that are passed on when the collection is made."""

    def as_json(self) -> dict[str, Any]:
        """What differs from the default profile."""
        default = asdict(Profile())
        return {name: value for name, value in asdict(self).items() if value != default[name]}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Profile:
        """The reverse of `as_json`; names that this version does not know are left out."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in stored.items() if name in known})
