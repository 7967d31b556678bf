"""Vectors that another generation holds: what of them is kept in memory, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from reindexer.index.fenced import IndexView, Place
from reindexer.index.reuse import VECTORS, Known, Wanted, find_elsewhere
from reindexer.ports import StoredVector


class _Holds:
    """Holds a vector for every place, whose fingerprint is the chunk's number."""

    def vectors(self, places: Sequence[Place]) -> Mapping[Place, StoredVector]:
        return {place: StoredVector(str(place[1]), [float(place[1])]) for place in places}


@pytest.mark.parametrize(("chunks", "kind"), [(VECTORS, list), (VECTORS + 1, np.ndarray)])
def test_only_the_vectors_of_one_request_are_kept_as_lists(chunks: int, kind: type) -> None:
    wanted = [SimpleNamespace(fingerprint=str(number)) for number in range(chunks)]
    step = SimpleNamespace(item=SimpleNamespace(item_id="1"), chunks=wanted, text_fingerprint="same")
    found = find_elsewhere(
        cast(IndexView, _Holds()), [Wanted(cast(Any, step), cast(Any, wanted))], {"1": Known(chunks, "same")}
    )
    assert len(found) == chunks
    assert {type(vector) for vector in found.values()} == {kind}
    assert [float(vector[0]) for vector in found.values()] == list(map(float, range(chunks)))
