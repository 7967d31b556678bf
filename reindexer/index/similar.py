"""More like this: what is nearest to an item, by the vectors that the index holds of it. No provider is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from reindexer.core.errors import NoSuchItem
from reindexer.core.search_terms import SearchTerms
from reindexer.index.as_of import Connecting
from reindexer.index.search import (
    FilterOf,
    Found,
    Resolve,
    Searchable,
    Searcher,
    SearchResult,
    by_active_generation,
    every_item,
    fitting_filter,
    result,
)
from reindexer.ports import Hit
from reindexer.sources.long_keys import item_id_of

MOST_CHUNKS = 64
"""An item stands for the mean of its chunks, of at most so many: more of them change the mean little."""


def similar(
    resolve: Resolve,
    connecting: Connecting,
    by: Searcher,
    item_id: str,
    terms: SearchTerms,
    filter_of: FilterOf,
    *,
    forced_of: FilterOf = every_item,
    text: bool = False,
) -> SearchResult:
    """Search a source for what is nearest to one of its items, which is no hit itself.

    `filter_of` is for the hits. `forced_of` returns the conditions of the caller's key, for the hits and for the item:
    one that does not pass is as one that is not there. `text`:
    hits get their texts. Raises NoSuchItem, UnfitRequest, what `resolve` raises, and what the index does.
    """
    terms.check()

    def ask(there: Searchable) -> Sequence[Hit] | None:
        forced = forced_of(there.columns)
        where = (*forced, *fitting_filter(there, filter_of))  # guard key-forced-filter-similar
        with connecting() as connection:
            own = item_id_of(connection, there.source, item_id)
        vectors = by.index.vectors_of(there.collection, own, forced, MOST_CHUNKS)  # guard similar-item-seen
        if not vectors:
            return None
        mean = np.asarray(np.mean(vectors, axis=0), dtype=np.float32)
        alike = replace(terms, where=where, without_item=own)  # guard similar-own-item
        return by.index.search(there.collection, mean, alike)

    there, hits = by_active_generation(resolve(), resolve, ask)
    if hits is None:
        raise NoSuchItem(
            f"the index holds nothing of this item of {there.source.name!r}: there is no such item, it is not indexed "
            "yet, or it has no text; `reindexer why` tells which"
        )
    found = Found(there, hits)
    return result(by, [(found, hit) for hit in hits], [found], connecting if text else None)
