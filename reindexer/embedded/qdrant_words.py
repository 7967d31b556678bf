"""Translates Qdrant's REST API to its engine: conditions, queries, points, indexes, parameters.

Pure functions. They raise ValueError for what makes no sense, with a text that names the place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import qdrant_edge as edge

Json = Any

_BOOLEANS: Mapping[bool, Any] = {True: np.bool_(True), False: np.bool_(False)}
"""qdrant-edge-py 0.9.0 reads Python's booleans as the numbers 1 and 0, which match nothing; it reads numpy's as
booleans. `tests/contract/test_qdrant_engine.py` tells when that is mended."""

_CLAUSES = ("must", "should", "must_not", "min_should")


def filter_of(raw: Json) -> edge.Filter | None:
    """The engine's filter; None for none."""
    if raw is None:
        return None
    _known(raw, _CLAUSES, "filter")
    least = raw.get("min_should")
    return edge.Filter(
        must=_conditions(raw.get("must")),
        should=_conditions(raw.get("should")),
        must_not=_conditions(raw.get("must_not")),
        min_should=least and edge.MinShould(_conditions(least["conditions"]) or [], least["min_count"]),
    )


def all_of(*filters: edge.Filter | None) -> edge.Filter | None:
    """A filter that matches what all of them match."""
    some = [each for each in filters if each is not None]
    return some[0] if len(some) == 1 else edge.Filter(must=list(some)) if some else None


def without_ids(ids: Sequence[Json]) -> edge.Filter | None:
    """A filter that excludes these points."""
    return edge.Filter(must_not=[edge.HasIdCondition(set(ids))]) if ids else None


def equals_any(key: str, values: Sequence[str | int]) -> edge.Filter:
    """A filter for points that have one of the values at this key."""
    kinds: list[Any] = [[each for each in values if isinstance(each, kind)] for kind in (str, int)]
    return edge.Filter(should=[edge.FieldCondition(key=key, match=edge.MatchAny(some)) for some in kinds if some])


def _conditions(raw: Json) -> list[Any] | None:
    if raw is None:
        return None
    return [_condition(each) for each in (raw if isinstance(raw, list) else [raw])]


def _condition(raw: Json) -> Any:
    found: Any
    match raw:
        case {"key": str(key)}:
            found = _of_field(key, raw)
        case {"has_id": list(ids)}:
            found = edge.HasIdCondition(set(ids))
        case {"is_empty": {"key": str(key)}}:
            found = edge.IsEmptyCondition(key)
        case {"is_null": {"key": str(key)}}:
            found = edge.IsNullCondition(key)
        case {"has_vector": str(name)}:
            found = edge.HasVectorCondition(name)
        case {"nested": {"key": str(key), "filter": dict(inner)}}:
            found = edge.NestedCondition(key, filter_of(inner) or edge.Filter())
        case dict() if raw and raw.keys() <= set(_CLAUSES):
            found = filter_of(raw)
        case _:
            raise ValueError(f"no condition is known that looks like {_short(raw)}")
    return found


def _of_field(key: str, raw: Mapping[str, Json]) -> edge.FieldCondition:
    _known(raw, ("key", *_TESTS), "condition")
    tests = {name: _TESTS[name](value) for name, value in raw.items() if name != "key" and value is not None}
    if not tests:
        raise ValueError(f"the condition on {key!r} tests nothing")
    return edge.FieldCondition(key=key, **tests)


def _match(raw: Json) -> Any:
    found: Any
    match raw:
        case {"value": bool(value)}:
            found = edge.MatchValue(_BOOLEANS[value])  # guard embedded-boolean-match
        case {"value": str(value) | int(value)}:
            found = edge.MatchValue(value)
        case {"any": list(values)}:
            found = edge.MatchAny(values)
        case {"except": list(values)}:
            found = edge.MatchExcept(values)
        case {"text": str(text)}:
            found = edge.MatchText(text)
        case {"text_any": str(text)}:
            found = edge.MatchTextAny(text)
        case {"phrase": str(text)}:
            found = edge.MatchPhrase(text)
        case _:
            raise ValueError(f"no match is known that looks like {_short(raw)}")
    return found


def _range(raw: Json) -> edge.RangeFloat | edge.RangeDateTime:
    _known(raw, ("lt", "lte", "gt", "gte"), "range")
    bounds = {name: value for name, value in raw.items() if value is not None}
    return (edge.RangeDateTime if any(isinstance(b, str) for b in bounds.values()) else edge.RangeFloat)(**bounds)


def _line(raw: Json) -> list[edge.GeoPoint]:
    return [edge.GeoPoint(**each) for each in raw["points"]]


_TESTS: Mapping[str, Callable[[Json], Any]] = {
    "match": _match,
    "range": _range,
    "values_count": lambda raw: edge.ValuesCount(**raw),
    "geo_bounding_box": lambda raw: edge.GeoBoundingBox(**{name: edge.GeoPoint(**at) for name, at in raw.items()}),
    "geo_radius": lambda raw: edge.GeoRadius(edge.GeoPoint(**raw["center"]), raw["radius"]),
    "geo_polygon": lambda raw: edge.GeoPolygon(
        _line(raw["exterior"]), [_line(each) for each in raw.get("interiors") or []]
    ),
    "is_empty": lambda raw: raw,
    "is_null": lambda raw: raw,
}


def selected(raw: Json) -> Any:
    """The wanted part of a payload: all, nothing, or by paths."""
    match raw:
        case None | bool() | list():
            return raw
        case {"include": list(paths)}:
            return edge.PayloadSelector.Include(paths)
        case {"exclude": list(paths)}:
            return edge.PayloadSelector.Exclude(paths)
    raise ValueError(f"with_payload does not understand {_short(raw)}")


def order_of(raw: Json) -> edge.OrderBy | None:
    """The order of points by a field."""
    if raw is None:
        return None
    asked = {"key": raw} if isinstance(raw, str) else raw
    direction = {None: None, "asc": edge.Direction.Asc, "desc": edge.Direction.Desc}[asked.get("direction")]
    return edge.OrderBy(asked["key"], direction, asked.get("start_from"))


def params_of(raw: Json) -> edge.SearchParams | None:
    """Parameters of a search."""
    if raw is None:
        return None
    quantization = raw.get("quantization")
    return edge.SearchParams(
        hnsw_ef=raw.get("hnsw_ef"),
        exact=bool(raw.get("exact")),
        indexed_only=bool(raw.get("indexed_only")),
        quantization=edge.QuantizationSearchParams(
            ignore=bool(quantization.get("ignore")),
            rescore=quantization.get("rescore"),
            oversampling=quantization.get("oversampling"),
        )
        if quantization
        else None,
        idf=_idf(raw.get("idf")),
    )


def _idf(raw: Json) -> edge.IdfParams | None:
    match raw:
        case None | "global":
            return None
        case {"corpus": dict(corpus)}:
            return edge.IdfParams(filter_of(corpus))
    raise ValueError(f"idf does not understand {_short(raw)}")


# Points and vectors


def vector_of(raw: Json) -> Any:
    """One vector, or one per vector name."""
    if not isinstance(raw, dict):
        return raw
    if raw.keys() == {"indices", "values"}:
        return edge.SparseVector(raw["indices"], raw["values"])
    if "model" in raw and not any(isinstance(each, list) for each in raw.values()):
        raise ValueError("InferenceService is not initialized")
    return {name: vector_of(each) for name, each in raw.items()}


def points_of(raw: Json) -> list[edge.Point]:
    """The points to write, from a list or from a batch of columns."""
    match raw:
        case {"points": list(points)}:
            return [edge.Point(each["id"], vector_of(each["vector"]), each.get("payload")) for each in points]
        case {"batch": {"ids": list(ids), "vectors": vectors} as batch}:
            rows = _rows(vectors, len(ids))
            payloads = batch.get("payloads") or [None] * len(ids)
            return [edge.Point(i, v, p) for i, v, p in zip(ids, rows, payloads, strict=True)]
    raise ValueError("points or batch is missing")


def _rows(vectors: Json, count: int) -> list[Any]:
    if isinstance(vectors, dict):
        return [{name: vector_of(column[row]) for name, column in vectors.items()} for row in range(count)]
    return list(vectors)


def as_floats(vector: Any) -> Any:
    """A stored vector in the form that the serializer writes shortest: it is of single precision, so nine digits name
    each number."""
    if isinstance(vector, dict):
        return {name: as_floats(each) for name, each in vector.items()}
    return np.asarray(vector, dtype=np.float32) if isinstance(vector, list) else vector


def as_json(value: Any) -> Json:
    """The JSON form of values that the serializer does not know."""
    if isinstance(value, edge.SparseVector):
        return {"indices": value.indices, "values": value.values}
    raise TypeError(f"{type(value).__name__} has no JSON")


# Parameters of collections and their indexes

_DISTANCES = {
    "Cosine": edge.Distance.Cosine, "Dot": edge.Distance.Dot, "Euclid": edge.Distance.Euclid,
    "Manhattan": edge.Distance.Manhattan,
}  # fmt: skip
_DATATYPES = {
    "float32": edge.VectorStorageDatatype.Float32, "float16": edge.VectorStorageDatatype.Float16,
    "uint8": edge.VectorStorageDatatype.Uint8,
}  # fmt: skip


def shard_config(params: Mapping[str, Json], *, log: bool) -> edge.EdgeConfig:
    """The configuration of a shard with a collection's parameters. `log`: whether writes survive the process."""
    vectors = params.get("vectors") or {}
    named = {"": vectors} if "size" in vectors else vectors
    sparse = params.get("sparse_vectors") or {}
    return edge.EdgeConfig(
        vectors={name: _dense(each, params.get("quantization_config")) for name, each in named.items()},
        sparse_vectors={name: sparse_of(each or {}) for name, each in sparse.items()},
        on_disk_payload=True,
        wal_enabled=log,  # guard wal-embedded-write
    )


def _dense(raw: Mapping[str, Json], of_all: Json) -> edge.EdgeVectorParams:
    multi, datatype = raw.get("multivector_config"), raw.get("datatype")
    return edge.EdgeVectorParams(
        size=raw["size"],
        distance=_DISTANCES[raw["distance"]],
        on_disk=True,  # in the page cache, which other programs get when they need the memory
        multivector_config=edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim) if multi else None,
        datatype=_DATATYPES[datatype] if datatype else None,
        quantization_config=_quantization(raw.get("quantization_config") or of_all),
    )


def sparse_of(raw: Mapping[str, Json]) -> edge.EdgeSparseVectorParams:
    """Parameters of a sparse vector."""
    return edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf if raw.get("modifier") == "idf" else None)


def _quantization(raw: Json) -> Any:
    match raw:
        case None:
            return None
        case {"scalar": {"quantile": float(quantile)}}:
            return edge.ScalarQuantizationConfig(edge.ScalarType.Int8, quantile)
        case {"scalar": dict()}:
            return edge.ScalarQuantizationConfig(edge.ScalarType.Int8)
        case {"binary": dict()}:
            return edge.BinaryQuantizationConfig()
        case {"product": {"compression": str(by)}}:
            return edge.ProductQuantizationConfig(_member(edge.CompressionRatio, by.upper()))
    raise ValueError(f"quantization_config does not understand {_short(raw)}")


_INDEXES: Mapping[str, tuple[Any, Any]] = {
    "keyword": (edge.PayloadSchemaType.Keyword, edge.KeywordIndexParams),
    "integer": (edge.PayloadSchemaType.Integer, edge.IntegerIndexParams),
    "float": (edge.PayloadSchemaType.Float, edge.FloatIndexParams),
    "bool": (edge.PayloadSchemaType.Bool, edge.BoolIndexParams),
    "datetime": (edge.PayloadSchemaType.Datetime, edge.DatetimeIndexParams),
    "uuid": (edge.PayloadSchemaType.Uuid, edge.UuidIndexParams),
    "geo": (edge.PayloadSchemaType.Geo, edge.GeoIndexParams),
    "text": (edge.PayloadSchemaType.Text, edge.TextIndexParams),
}


def index_of(schema: Json) -> tuple[str, Json, Any]:
    """An index's type, its parameters as in the request, and both for the engine."""
    match schema:
        case str(kind) if kind in _INDEXES:
            return kind, None, _INDEXES[kind][0]
        case {"type": str(kind)} if kind in _INDEXES:
            given = {name: value for name, value in schema.items() if value is not None}
            ours = {name: _TEXT.get(name, _same)(value) for name, value in given.items() if name != "type"}
            return kind, given, _INDEXES[kind][1](**ours)
    raise ValueError(f"field_schema does not understand {_short(schema)}")


def _member(of: type, name: str) -> Any:
    found = getattr(of, name.capitalize(), None)
    if found is None:
        raise ValueError(f"{name!r} is not known")
    return found


def _same(value: Json) -> Json:
    return value


def _stopwords(raw: Json) -> Any:
    if isinstance(raw, str):
        return _member(edge.Language, raw)
    languages = {_member(edge.Language, each) for each in raw.get("languages") or []}
    return edge.StopwordsSet(languages or None, set(raw.get("custom") or []) or None)


_TEXT: Mapping[str, Callable[[Json], Any]] = {
    "tokenizer": lambda raw: _member(edge.TokenizerType, raw),
    "stopwords": _stopwords,
    "stemmer": lambda raw: edge.SnowballParams(_member(edge.SnowballLanguage, raw["language"])),
}


def _known(raw: Json, names: Sequence[str], what: str) -> None:
    if not isinstance(raw, dict):
        raise ValueError(f"a {what} must be an object, not {_short(raw)}")
    if unknown := raw.keys() - set(names):
        raise ValueError(f"unknown field `{sorted(unknown)[0]}` in a {what}")


def _short(raw: Json) -> str:
    text = repr(raw)
    return text if len(text) <= 80 else f"{text[:77]}..."
