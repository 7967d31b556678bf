"""Donors: the other kept generations of a source whose vectors a claim may take, so that they are not paid for again.

A claim asks them only for chunks that its own collection lacks. Whatever fails here, the provider can be asked instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from reindexer.core.errors import PermanentError, TransientError
from reindexer.core.profile import Distance, Profile, hands_on
from reindexer.index.fenced import FencedIndex, IndexView
from reindexer.index.reuse import Known, Wanted, find_elsewhere
from reindexer.ports import Collection, Numbers
from reindexer.postgres.connect import Postgres
from reindexer.postgres.queries import load
from reindexer.queue.claim import Claim
from reindexer.worker.collections import Collections

log = structlog.get_logger(__name__)

View = Callable[[Collection], IndexView]
"""Another collection, as the claim reads it."""


@dataclass(slots=True)
class Donors:
    """The donors of one claim."""

    postgres: Postgres
    collections: Collections
    claim: Claim
    index: FencedIndex
    view: View
    failed: bool = field(default=False, init=False)
    """A donor failed when they were last asked."""
    _open: list[IndexView] | None = field(default=None, init=False)
    """None: not looked up yet."""

    def __bool__(self) -> bool:
        return bool(self.claim.donors if self._open is None else self._open)

    def vectors(self, wanted: Sequence[Wanted]) -> dict[str, Numbers]:
        """Return the vectors, by fingerprint, of those chunks that donors hold. Raises LeaseExpired.

        A donor that fails is left out from then on. `failed` tells whether one did just now.
        """
        self.failed = False
        if self._open is None:
            self._open = self._donors()
        found = dict[str, Numbers]()
        known = self._known([each.step.item.item_id for each in wanted]) if self._open else {}
        for donor in list(self._open):
            left = [
                Wanted(each.step, missing)
                for each in wanted
                if (missing := [chunk for chunk in each.chunks if chunk.fingerprint not in found])
            ]
            if not left:
                break
            try:
                if self._hands_on(donor):
                    found |= find_elsewhere(donor, left, known.get(donor.collection.generation, {}))
                    continue
            except (TransientError, PermanentError) as exc:  # guard donor-failure-not-the-claims
                log.warning("donor_failed", source=self.claim.source, collection=donor.collection.name, error=str(exc))
                self.collections.avoid(donor.collection)
                self.failed = True
            self._open.remove(donor)
        return found

    def _donors(self) -> list[IndexView]:
        claim = self.claim
        named = {"source": claim.source, "numbers": list(claim.donors)}
        with self.postgres.connection() as connection:
            rows = connection.execute(load("generations.sql")["donors"], named).fetchall()
        found = []
        for number, alias, distance in rows:
            profile = Profile(distance=distance)
            collection = Collection(
                claim.source, f"{alias}__g{number}", alias, profile, claim.embedder, number, is_active=False
            )
            found.append(self.view(collection))
        return found

    def _known(self, item_ids: Sequence[str]) -> dict[int, dict[str, Known]]:
        named = {
            "source": self.claim.source, "item_ids": list(item_ids),
            "numbers": [donor.collection.generation for donor in self._open or ()],
        }  # fmt: skip
        found: dict[int, dict[str, Known]] = {}
        with self.postgres.connection() as connection:
            rows = connection.execute(load("generations.sql")["donors_points"], named).fetchall()
        for generation, item_id, chunks, text_fingerprint in rows:
            found.setdefault(generation, {})[item_id] = Known(chunks, text_fingerprint)
        return found

    def _hands_on(self, donor: IndexView) -> bool:
        """Whether a vector of the donor is in our collection what the provider's own would be."""
        theirs = self.collections.datatype(donor)
        ours = self.collections.datatype(self.index) or ""
        of: tuple[Distance, Distance] = (donor.collection.profile.distance, self.index.collection.profile.distance)
        return theirs is not None and hands_on(of[0], theirs, of[1], ours)
