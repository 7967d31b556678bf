"""The collection parameters that a profile may set, checked by the models of Qdrant's own client."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from qdrant_client import models

from reindexer.core.wording import refusal

OF_VECTORS = ("on_disk", "datatype")
"""Parameters of the vectors, not of the collection."""

PARAMETERS = (
    *OF_VECTORS, "on_disk_payload", "hnsw_config", "quantization_config", "optimizers_config", "wal_config",
    "shard_number", "replication_factor", "write_consistency_factor", "strict_mode_config",
)  # fmt: skip
"""The other parameters of Qdrant's create-collection call (vectors, metadata) are the program's; sharding by key is not
used."""


HIDING = "would keep new points from being found until Qdrant has an index of them, long after they count as searchable"


def hides_points(parameters: Mapping[str, Any]) -> bool:
    """Whether searches would not find points whose write was answered."""
    optimizers = parameters.get("optimizers_config")
    return isinstance(optimizers, Mapping) and bool(optimizers.get("prevent_unoptimized"))


def wrong_parameter(parameters: Mapping[str, Any]) -> tuple[tuple[str, ...], str] | None:
    """The path of the first parameter that Qdrant's client would refuse, and why; None if it takes all.

    All must be of `PARAMETERS`. The server judges the values themselves when the collection is created.
    """
    if hides_points(parameters):
        return ("optimizers_config", "prevent_unoptimized"), f"{HIDING}; leave it out"
    of_vectors = {name: value for name, value in parameters.items() if name in OF_VECTORS}
    others = {name: value for name, value in parameters.items() if name not in OF_VECTORS}
    checks: tuple[tuple[type[models.VectorParams | models.CreateCollection], Mapping[str, Any]], ...] = (
        (models.VectorParams, {"size": 1, "distance": "Dot"} | of_vectors),
        (models.CreateCollection, others),
    )
    for model, given in checks:
        try:
            model.model_validate_json(json.dumps(given), strict=True)
        except ValidationError as exc:
            return _nearest(exc, given)
    return None


def _nearest(exc: ValidationError, given: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """Of the errors (one per alternative that does not fit), the one that goes deepest into the given value."""
    found = []
    for error in exc.errors():
        path = _real(error["loc"], given)
        unknown = error["type"] == "extra_forbidden"
        missing = f"lacks {str(error['loc'][-1])!r}" if error["type"] == "missing" else None
        words = "is not known to Qdrant" if unknown else missing or f"does not fit: {refusal(error)}"
        found.append((len(path), not unknown, path, words))
    *_, path, words = max(found)
    return path, words


def _real(location: tuple[int | str, ...], given: Any) -> tuple[str, ...]:
    """The location as the user wrote it: without the names of alternatives."""
    path: list[str] = []
    for part in location:
        if isinstance(given, dict) and part in given:
            path.append(str(part))
            given = given[part]
    return tuple(path)
