"""Queries as Qdrant takes them: by meaning, by keywords, or by several rankings that are fused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qdrant_client import models

from reindexer.adapters.qdrant.filters import filter_of
from reindexer.adapters.qdrant.points import KEYWORDS, sparse
from reindexer.core.keywords import Keywords
from reindexer.core.search_terms import SearchTerms
from reindexer.ports import Vector

TIMES, LEAST = 8, 100
"""Each ranking is fused so far: an item may have several chunks, which count once."""
_EXACT = models.SearchParams(exact=True, quantization=models.QuantizationSearchParams(ignore=True))


def query_of(
    vector: Vector | None, keywords: Sequence[Keywords], terms: SearchTerms, where: models.Filter, *, exact: bool
) -> dict[str, Any]:
    """Return the arguments of a query for Qdrant's client. `where` is the filter of the whole.

    Each of several rankings carries it, and the query over them does not: Qdrant would join the two filters, and where
    both have alternatives it takes points that meet those of either (qdrant issue 10594).
    """
    params, words = _EXACT if exact else None, _EXACT if exact else None
    if terms.corpus:  # guard keywords-own-corpus
        idf = models.IdfCorpusParams(corpus=filter_of(terms.corpus))
        words = (params or models.SearchParams()).model_copy(update={"idf": idf})
    rankings: list[dict[str, Any]] = [] if vector is None else [{"query": vector.tolist(), "params": params}]
    rankings += [{"query": sparse(each), "using": KEYWORDS, "params": words} for each in keywords]
    if len(rankings) == 1:
        alone = {"search_params" if name == "params" else name: value for name, value in rankings[0].items()}
        return {"query_filter": where, **alone}
    most = max(LEAST, TIMES * terms.depth)
    # guard hybrid-filter-in-each-ranking
    parts = [models.Prefetch(**each, filter=where, limit=most) for each in rankings]
    return {"prefetch": parts, "query": models.FusionQuery(fusion=models.Fusion.RRF)}
