"""Queries of Qdrant's REST API over one collection of the engine: by vector, point, example or field, with prefetches,
and in groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import qdrant_edge as edge

from reindexer.embedded.qdrant_words import (
    Json,
    all_of,
    as_floats,
    equals_any,
    filter_of,
    order_of,
    params_of,
    selected,
    vector_of,
    without_ids,
)

Look = Callable[[Json, str | None], Any]
"""Returns a point's vector, by point id and vector name. Raises KeyError if there is no such point."""

DEFAULT_LIMIT = 10
CANDIDATES = 100
"""The default number of candidates for `mmr`."""
RRF_K = 2


def query(shard: edge.EdgeShard, raw: Mapping[str, Json], look: Look) -> list[dict[str, Json]]:
    """The points that the query finds, best first."""
    found = shard.query(
        _request(raw, look, count(raw, "limit", DEFAULT_LIMIT), selected(raw.get("with_payload", False)))
    )
    return [_hit(each) for each in found]


def groups(shard: edge.EdgeShard, raw: Mapping[str, Json], look: Look) -> list[dict[str, Json]]:
    """The best points of the best groups. A group is a value at a path of the payload.

    The engine has no groups. So hits are fetched until there are enough groups, and then until each group is full.
    """
    key, limit, size = raw["group_by"], count(raw, "limit", DEFAULT_LIMIT), count(raw, "group_size", 3)
    if raw.get("with_lookup"):
        raise ValueError("with_lookup is not served here")
    best, complete = _until(shard, raw, look, key, 4 * limit * size, None, lambda some: len(some) >= limit)
    chosen = dict(list(best.items())[:limit])
    if not complete and any(len(hits) < size for hits in chosen.values()):
        only = equals_any(key, list(chosen))
        full, _ = _until(
            shard,
            raw,
            look,
            key,
            4 * limit * size,
            only,
            lambda some: all(len(some.get(g, ())) >= size for g in chosen),
        )
        chosen = {group: full[group] for group in chosen}
    records = _records(shard, raw, [hit.id for hits in chosen.values() for hit in hits[:size]])
    return [
        {"id": group, "hits": [_hit(hit) | records[hit.id] for hit in hits[:size]]} for group, hits in chosen.items()
    ]


def _until(
    shard: edge.EdgeShard,
    raw: Mapping[str, Json],
    look: Look,
    key: str,
    take: int,
    only: edge.Filter | None,
    enough: Callable[[Mapping[Any, Sequence[Any]]], bool],
) -> tuple[dict[Any, list[Any]], bool]:
    """The hits of each group, groups and hits ordered by score; and whether these are all hits there are."""
    while True:
        hits = shard.query(_request({**raw, "offset": 0}, look, take, [key], only))
        found: dict[Any, list[Any]] = {}
        for hit in hits:
            for value in dict.fromkeys(values_at(hit.payload or {}, key)):
                if type(value) in (str, int):
                    found.setdefault(value, []).append(hit)
        if len(hits) < take or enough(found):
            return found, len(hits) < take
        take *= 8


def _records(shard: edge.EdgeShard, raw: Mapping[str, Json], ids: Sequence[Any]) -> dict[Any, dict[str, Json]]:
    payload, vector = selected(raw.get("with_payload", False)), raw.get("with_vector", False)
    if not payload and not vector:
        return {each: {"payload": None, "vector": None} for each in ids}
    return {
        each.id: {"payload": each.payload, "vector": as_floats(each.vector)}
        for each in shard.retrieve(list(ids), payload, vector)
    }


def values_at(payload: Json, path: str) -> list[Json]:
    """The values at a plain path; the elements where it holds a list."""
    values = [payload]
    for name in (part.removesuffix("[]").strip('"') for part in path.split(".")):
        values = [one[name] for value in values for one in _each(value) if isinstance(one, dict) and name in one]
    return [one for value in values for one in _each(value)]


def _each(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [value]


def _hit(hit: edge.ScoredPoint) -> dict[str, Json]:
    answer = {
        "id": hit.id, "version": hit.version, "score": hit.score, "payload": hit.payload,
        "vector": as_floats(hit.vector),
    }  # fmt: skip
    return answer if hit.order_value is None else {**answer, "order_value": hit.order_value}


def _request(
    raw: Mapping[str, Json], look: Look, limit: int, payload: Any, only: edge.Filter | None = None
) -> edge.QueryRequest:
    what, besides = _scoring(raw, look)
    return edge.QueryRequest(
        limit=limit,
        offset=raw.get("offset") or 0,
        query=what,
        prefetches=_prefetches(raw.get("prefetch"), look),
        filter=all_of(filter_of(raw.get("filter")), without_ids(besides), only),
        score_threshold=raw.get("score_threshold"),
        params=params_of(raw.get("params")),
        with_payload=payload,
        with_vector=raw.get("with_vector", False),
    )


def _prefetches(raw: Json, look: Look) -> list[edge.Prefetch]:
    return [_prefetch(each, look) for each in (raw if isinstance(raw, list) else [raw]) if each is not None]


def _prefetch(raw: Mapping[str, Json], look: Look) -> edge.Prefetch:
    what, besides = _scoring(raw, look)
    return edge.Prefetch(
        limit=count(raw, "limit", DEFAULT_LIMIT),
        query=what,
        prefetches=_prefetches(raw.get("prefetch"), look),
        params=params_of(raw.get("params")),
        filter=all_of(filter_of(raw.get("filter")), without_ids(besides)),
        score_threshold=raw.get("score_threshold"),
    )


def _scoring(raw: Mapping[str, Json], look: Look) -> tuple[Any, list[Json]]:
    """The scoring of a query, and the points that it names and therefore does not find."""
    asked, using = raw.get("query"), raw.get("using")
    named: list[Json] = []

    def vector(of: Json) -> Any:
        if isinstance(of, bool) or not isinstance(of, int | str):
            return vector_of(of)
        named.append(of)
        return look(of, using)

    what: Any
    match asked:
        case None:
            what = None
        case {"nearest": near, "mmr": dict(mmr)}:
            among, diversity = mmr.get("candidates_limit") or CANDIDATES, mmr.get("diversity")
            what = edge.Mmr(vector(near), 1 - (0.5 if diversity is None else diversity), among, using)
        case {"nearest": near, **rest} if not any(rest.values()):
            what = edge.Query.Nearest(vector(near), using)
        case {"recommend": dict(examples)}:
            positive = [vector(each) for each in examples.get("positive") or []]
            negative = [vector(each) for each in examples.get("negative") or []]
            what = _recommend(positive, negative, examples.get("strategy"), using)
        case {"fusion": "dbsf"}:
            what = edge.Fusion.Dbsf()
        case {"fusion": "rrf"}:
            what = edge.Fusion.Rrf(RRF_K)
        case {"rrf": dict(rrf)}:
            what = edge.Fusion.Rrf(rrf.get("k") or RRF_K, rrf.get("weights"))
        case {"order_by": order}:
            what = order_of(order)
        case {"sample": "random"}:
            what = edge.Sample.Random
        case dict() if asked.keys() != {"indices", "values"}:
            raise ValueError(f"queries of the form {sorted(asked)} are not served here")
        case _:
            what = edge.Query.Nearest(vector(asked), using)
    return what, named


def _recommend(positive: list[Any], negative: list[Any], strategy: str | None, using: str | None) -> Any:
    if strategy in ("best_score", "sum_scores"):
        by = edge.Query.RecommendBestScore if strategy == "best_score" else edge.Query.RecommendSumScores
        return by(edge.RecommendQuery(positive, negative), using)
    if not positive:
        raise ValueError("At least one positive vector ID required with this strategy")
    average = np.mean(positive, axis=0)
    if negative:
        average = 2 * average - np.mean(negative, axis=0)
    return edge.Query.Nearest(average.tolist(), using)


def count(raw: Mapping[str, Json], name: str, default: int) -> int:
    """A requested number of points, at least one."""
    value = raw.get(name)
    if value is None:
        return default
    if type(value) is not int:
        raise TypeError(f"{name}: not a number of points")
    if value < 1:
        raise OutOfRange(f"{name}: value {value} invalid, must be 1 or larger")
    return value


class OutOfRange(ValueError):
    """An integer that is too small."""
