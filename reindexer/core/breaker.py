"""When a dependency that does not answer is left alone, and for how long. Times are the database's to tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Dependency = Literal["provider", "qdrant"]

NAMES: dict[Dependency, str] = {"provider": "the embedding provider", "qdrant": "Qdrant"}


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """Opens after `opens_at` failures in a row; single probes then wait `base_s`, doubling to at most `max_s`.

    Everything waits for the probe that finds the dependency back, so `max_s` is well below the minute in which all is
    to have converged.
    """

    base_s: float = 1.0
    max_s: float = 30.0
    opens_at: int = 3
