"""A source's profile: who embeds its texts, and how Qdrant keeps its points. What it leaves open, the settings say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

Provider = Literal["openai", "static", "hashing"]
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

    @property
    def implied_provider(self) -> Provider | None:
        """A server of its own speaks OpenAI's API."""
        return self.provider or ("openai" if self.base_url else None)

    def as_json(self) -> dict[str, Any]:
        """What differs from the default profile."""
        default = asdict(Profile())
        return {name: value for name, value in asdict(self).items() if value != default[name]}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Profile:
        """The reverse of `as_json`; names that this version does not know are left out."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in stored.items() if name in known})


def other_vectors(before: Profile, after: Profile, embedder: str) -> str | None:
    """What in a profile would make other vectors than those that `embedder`, a fingerprint, made under the profile
    `before`; None: nothing.

    What is said has to agree with the fingerprint. What was said has to stay: the settings would decide instead.
    """
    made_by, _, rest = embedder.partition(":")
    model, _, dimensions = rest.rpartition(":")
    parts = {
        "provider": (before.implied_provider, after.implied_provider, made_by.partition("-")[0]),
        "model": (before.model, after.model, model or after.model),
        "dimensions": (before.dimensions, after.dimensions, int(dimensions)),
        "distance": (before.distance, after.distance, before.distance),
    }
    for name, (said, says, is_so) in parts.items():
        if says not in (None, is_so):
            return f"{name} {says}"
        if says is None and said is not None:
            return f"no {name} any more"
    return None
