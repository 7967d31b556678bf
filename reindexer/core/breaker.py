"""When a breaker opens for a dependency that does not answer, and how long its probes wait. The database measures
time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Dependency = Literal["provider", "qdrant"]
"""`qdrant` means the index, whichever it is. Users query that value, in the table `breaker`, metrics and `/readyz`."""

NAMES: dict[Dependency, str] = {"provider": "the embedding provider", "qdrant": "the vector index"}
"""How messages name a dependency. The reason, which follows, names the product."""


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """A breaker opens after `opens_at` failures in a row. Probes then wait `base_s`, doubling up to `max_s` (seconds).

    Everything waits for the probe that finds the dependency available again. `max_s` is therefore well below the minute
    within which everything is to have converged.
    """

    base_s: float = 1.0
    max_s: float = 30.0
    opens_at: int = 3
