"""`Index` on a Qdrant server, over REST or gRPC, by the official client only.

Every point carries the token of the claim that wrote it, as `_reindexer.version`. An upsert takes effect unless the
stored version is equal to the token or higher (new points always do). A delete or payload update takes effect only if
the stored version is lower.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from json import JSONDecodeError
from typing import Any, cast

import grpc
import httpx
import numpy as np
from pydantic_core import PydanticSerializationError
from qdrant_client import QdrantClient, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from reindexer.adapters.http_deadline import HttpDeadline
from reindexer.adapters.qdrant import collections
from reindexer.adapters.qdrant.address import QdrantAddress, is_of_qdrant
from reindexer.adapters.qdrant.filters import filter_of
from reindexer.adapters.qdrant.parameters import PARAMETERS, wrong_parameter
from reindexer.adapters.qdrant.points import (
    FACTS,
    KEYWORDS,
    MEANING,
    hit_of,
    meaning_of,
    numbers,
    own_point,
    payload_of,
    sparse,
    stored_point,
    stored_vector,
)
from reindexer.adapters.qdrant.queries import query_of
from reindexer.core.errors import DependencyUnavailable, PermanentError, TransientError, UsageError
from reindexer.core.filters import Filter
from reindexer.core.items import StoredPoint, point_id
from reindexer.core.keywords import Keywords
from reindexer.core.owner import Owner
from reindexer.core.payload import PayloadColumn
from reindexer.core.per_process import PerProcess
from reindexer.core.profile import Profile
from reindexer.core.search_terms import SearchTerms
from reindexer.ports import Collection, Hit, IndexConfig, Inspected, Point, ScrolledPage, StoredVector, Vector

_VERSION = f"{FACTS}.version"
_FINGERPRINT = f"{FACTS}.fingerprint"
PAGE = 1024
"""Points per scroll request."""
PREPARE_TIMES = 3
"""`prepare` makes several calls: it may take this many times the timeout of one."""
_NOBODY = "00000000-0000-0000-0000-000000000000"
"""An id that no point of ours has."""
_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
_FORBIDDEN = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)


def _new_client(address: QdrantAddress, api_key: str | None, timeout_s: float, deadline: HttpDeadline) -> QdrantClient:
    # The client keeps connections to a loopback host alive only if it is told to.
    limits = httpx.Limits(max_connections=32, max_keepalive_connections=32)
    return QdrantClient(
        api_key=api_key, timeout=math.ceil(timeout_s), check_compatibility=False,
        limits=limits, event_hooks={"response": [deadline.on_response]}, **address.client_options,
    )  # fmt: skip


class QdrantIndex:
    """Uses one client per process, with its own connections."""

    collection_parameters = PARAMETERS
    takes_keywords = True
    wrong_parameter = staticmethod(wrong_parameter)

    def __init__(self, url: str, *, api_key: str | None, grpc_port: int | None, timeout_s: float = 10.0) -> None:
        self._address = QdrantAddress(url, grpc_port)
        self._timeout_s = timeout_s
        self._counts_corpus = False
        """The server was seen to count how rare a word is among some points alone."""
        self._deadline = HttpDeadline()
        self._clients = PerProcess(partial(_new_client, self._address, api_key, timeout_s, self._deadline))

    @classmethod
    def from_config(cls, config: IndexConfig) -> QdrantIndex:
        """See `reindexer.registry`. Option: `grpc_port`; None: over REST."""
        if config.url is None:
            raise UsageError("the index `qdrant` has no URL; set QDRANT_URL")
        grpc_port: int | None = config.options.get("grpc_port")
        return cls(config.url, api_key=config.api_key, grpc_port=grpc_port, timeout_s=config.timeout_s)

    def prepare(
        self, collection: Collection, dimensions: int, owner: Owner, columns: Sequence[PayloadColumn] = ()
    ) -> str | None:
        """See `reindexer.ports.Index.prepare`."""
        with self._asking(PREPARE_TIMES * self._timeout_s):
            return collections.prepare(self._client, collection, dimensions, owner, columns)

    def inspect(self, collection: Collection, columns: Sequence[PayloadColumn] = ()) -> Inspected:
        """See `reindexer.ports.Index`."""
        with self._asking(self._timeout_s):
            return collections.inspect(self._client, collection, columns)

    def owner(self, collection: Collection) -> Owner:
        """See `reindexer.ports.Index.owner`."""
        try:
            with self._asking(self._timeout_s):
                return collections.owner_of(self._client.get_collection(collection.name))
        except _CollectionMissing:
            return Owner(None)

    def adopt(self, collection: Collection, owner: Owner) -> None:
        """See `reindexer.ports.Index.adopt`."""
        try:
            with self._asking(self._timeout_s):
                collections.note_owner(self._client, collection.name, owner)
        except _CollectionMissing:
            return  # the database that creates it owns it

    def drop(self, collection: Collection) -> None:
        """See `reindexer.ports.Index.drop`."""
        with suppress(_CollectionMissing), self._asking(self._timeout_s):
            self._client.delete_collection(collection.name)

    def follow_alias(self, collection: Collection) -> bool:
        """See `reindexer.ports.Index.follow_alias`."""
        with self._asking(self._timeout_s):
            return collections.follow_alias(self._client, collection)

    def upsert(self, collection: Collection, points: Sequence[Point], token: int, timeout_s: float) -> None:
        """See `reindexer.ports.Index.upsert`. Shape of the request: one batch of float lists, of the vectors and of the
        keywords."""
        vectors: Any = [numbers(p.vector) for p in points if p.vector is not None]
        if collection.keywords:
            vectors = {MEANING: vectors, KEYWORDS: [sparse(p.keywords) for p in points]}
        batch = models.Batch.model_construct(  # unchecked: to check each float takes as long as to send them
            ids=[point_id(collection.source, p.item_id, p.chunk) for p in points],
            vectors=vectors,
            payloads=[payload_of(collection.source, p, token) for p in points],
        )
        with self._asking(timeout_s):
            self._client.upsert(
                collection.name,
                batch,
                wait=True,
                timeout=_seconds(timeout_s),
                update_filter=models.Filter(
                    must_not=[models.FieldCondition(key=_VERSION, range=models.Range(gte=token))]  # guard fence-upsert
                ),
            )

    def update_payload(self, collection: Collection, points: Sequence[Point], token: int, timeout_s: float) -> None:
        """See `reindexer.ports.Index.update_payload`."""
        lower = _lower(token)
        operations: list[models.UpdateOperation] = []
        with self._asking(timeout_s):
            for p in self._there(collection, [p for p in points if p.keywords], timeout_s):
                writes = models.UpdateVectors(
                    points=[_only_keywords(collection.source, p)],
                    update_filter=models.Filter(must=[*_same(collection.source, p), lower]),  # guard fence-keywords
                )
                operations.append(models.UpdateVectorsOperation(update_vectors=writes))
            for p in points:
                # guard keywords-before-token
                has_keywords = [models.HasVectorCondition(has_vector=KEYWORDS)] if p.keywords else []
                conditions = [*_same(collection.source, p), lower, *has_keywords]  # guard fence-payload-update
                writes_payload = models.SetPayload(
                    payload=payload_of(collection.source, p, token), filter=models.Filter(must=conditions)
                )
                operations.append(models.OverwritePayloadOperation(overwrite_payload=writes_payload))
            self._client.batch_update_points(collection.name, operations, wait=True, timeout=_seconds(timeout_s))

    def _there(self, collection: Collection, points: Sequence[Point], timeout_s: float) -> list[Point]:
        """Return those of the points that exist. Qdrant refuses a whole request that writes the vector of one that does
        not."""
        ids = {point_id(collection.source, p.item_id, p.chunk): p for p in points}
        if not ids:
            return []
        found = self._client.retrieve(
            collection.name, list(ids), with_payload=False, with_vectors=False, timeout=_seconds(timeout_s)
        )
        return [ids[str(record.id)] for record in found]

    def delete_items(self, collection: Collection, item_ids: Sequence[str], token: int, timeout_s: float) -> None:
        """See `reindexer.ports.Index.delete_items`."""
        self._delete(collection, [_of_items(item_ids)], token, timeout_s)

    def delete_surplus(self, collection: Collection, chunks: Mapping[str, int], token: int, timeout_s: float) -> None:
        """See `reindexer.ports.Index.delete_surplus`."""
        by_count: dict[int, list[str]] = {}
        for item_id, count in chunks.items():
            by_count.setdefault(count, []).append(item_id)
        for count, item_ids in by_count.items():
            beyond = models.FieldCondition(key=f"{FACTS}.chunk", range=models.Range(gte=count))
            self._delete(collection, [_of_items(item_ids), beyond], token, timeout_s)

    def touch(self, collection: Collection, dimensions: int, timeout_s: float) -> None:
        """See `reindexer.ports.Index.touch`."""
        with self._asking(timeout_s):
            info = self._client.get_collection(collection.name)
            collections.require_dimensions(info, collection.name, dimensions)
        self._delete(collection, [models.HasIdCondition(has_id=[_NOBODY])], 0, timeout_s)

    def tokens(
        self, collection: Collection, points: Sequence[tuple[str, int]], timeout_s: float
    ) -> Mapping[tuple[str, int], int]:
        """See `reindexer.ports.Index.tokens`."""
        ids = {point_id(collection.source, item_id, chunk): (item_id, chunk) for item_id, chunk in points}
        with self._asking(timeout_s):
            records = self._client.retrieve(
                collection.name, list(ids), with_payload=[_VERSION], with_vectors=False, timeout=_seconds(timeout_s)
            )
        return {ids[str(r.id)]: int((r.payload or {}).get(FACTS, {}).get("version") or 0) for r in records}

    def scroll(self, collection: Collection, start: str | int | None, limit: int, timeout_s: float) -> ScrolledPage:
        """See `reindexer.ports.Index.scroll`."""
        try:
            with self._asking(timeout_s):
                records, following = self._client.scroll(
                    collection.name, limit=limit, offset=start, with_payload=[FACTS], with_vectors=False,
                    timeout=_seconds(timeout_s),
                )  # fmt: skip
        except _CollectionMissing:
            return ScrolledPage([], 0, None)
        points = [point for record in records if (point := own_point(collection.source, record))]
        return ScrolledPage(points, len(records) - len(points), cast("str | int | None", following))

    def stored(
        self, collection: Collection, points: Sequence[tuple[str, int]], timeout_s: float, *, payload: bool = True
    ) -> Mapping[tuple[str, int], StoredPoint]:
        """See `reindexer.ports.Index.stored`."""
        ids = {point_id(collection.source, item_id, chunk): (item_id, chunk) for item_id, chunk in points}
        with_keywords = payload and collection.keywords
        try:
            with self._asking(timeout_s):
                records = self._client.retrieve(
                    collection.name, list(ids), with_payload=True if payload else [FACTS],
                    with_vectors=[KEYWORDS] if with_keywords else False, timeout=_seconds(timeout_s),
                )  # fmt: skip
        except _CollectionMissing:
            return {}
        except PermanentError:
            if not with_keywords or self._holds_keywords(collection):  # guard keywords-not-there-yet
                raise
            return self.stored(replace(collection, keywords=False), points, timeout_s)
        return {ids[str(record.id)]: stored_point(*ids[str(record.id)], record) for record in records}

    def points_of(self, collection: Collection, item_ids: Sequence[str], timeout_s: float) -> list[StoredPoint]:
        """See `reindexer.ports.Index.points_of`."""
        found, start, begun = list[StoredPoint](), None, False
        try:
            with self._asking(timeout_s):
                while start is not None or not begun:
                    records, start = self._client.scroll(
                        collection.name, models.Filter(must=[_of_items(item_ids)]), limit=PAGE, offset=start,
                        with_payload=[FACTS], with_vectors=False, timeout=_seconds(timeout_s),
                    )  # fmt: skip
                    found += [point for record in records if (point := own_point(collection.source, record))]
                    begun = True
        except _CollectionMissing:
            return []
        return found

    def vectors(
        self, collection: Collection, points: Sequence[tuple[str, int]], timeout_s: float
    ) -> Mapping[tuple[str, int], StoredVector]:
        """See `reindexer.ports.Index.vectors`."""
        ids = {point_id(collection.source, item_id, chunk): (item_id, chunk) for item_id, chunk in points}
        with self._asking(timeout_s):
            records = self._client.retrieve(
                collection.name, list(ids), with_payload=[_FINGERPRINT], with_vectors=True, timeout=_seconds(timeout_s)
            )
        return {ids[str(record.id)]: stored_vector(record) for record in records}

    def datatype(self, collection: Collection) -> str | None:
        """See `reindexer.ports.Index.datatype`."""
        try:
            with self._asking(self._timeout_s):
                return collections.datatype_of(self._client.get_collection(collection.name))
        except _CollectionMissing:
            return None

    def vectors_of(self, collection: Collection, item_id: str, where: Filter, most: int) -> list[Vector]:
        """See `reindexer.ports.Index.vectors_of`."""
        only = filter_of(where, _of_source(collection.source), _of_items([item_id]))
        try:
            with self._asking(self._timeout_s):
                records, _ = self._client.scroll(
                    # guard similar-own-collection
                    collection.name, only, limit=most, with_payload=False, with_vectors=True,
                )  # fmt: skip
        except _CollectionMissing:
            return []
        return [np.asarray(meaning_of(record), dtype=np.float32) for record in records]

    def search(
        self,
        collection: Collection,
        vector: Vector | None,
        terms: SearchTerms,
        *,
        keywords: Sequence[Keywords] = (),
        exact: bool = False,
    ) -> list[Hit]:
        """See `reindexer.ports.Index.search`."""
        ours = _of_source(collection.source)
        own = [_of_items([terms.without_item])] if terms.without_item is not None else []
        where = filter_of(terms.where, ours, without=own)  # guard search-own-source
        try:
            with self._asking(self._timeout_s):
                if terms.corpus and keywords and not self._counts_corpus:
                    collections.require_corpus(self._client)
                    self._counts_corpus = True
                found = self._found(collection, query_of(vector, keywords, terms, where, exact=exact), terms)
                return [hit_of(each) for each in found]
        except _CollectionMissing:
            return []
        except PermanentError:
            with self._asking(self._timeout_s):  # guard search-refusal-look
                info = self._client.get_collection(collection.name)
            if keywords:
                collections.require_keywords(info, collection)
            if vector is not None:
                collections.require_dimensions(info, collection.name, len(vector))
            raise

    def _found(
        self, collection: Collection, query: Mapping[str, Any], terms: SearchTerms
    ) -> Sequence[models.ScoredPoint]:
        by_meaning = "using" not in query
        asked: dict[str, Any] = {
            "collection_name": collection.name,  # guard search-own-collection
            "score_threshold": _threshold(collection.profile if by_meaning else Profile(), terms.min_score),
            "with_payload": True,
            **query,
        }
        if terms.group == "chunk":
            return self._client.query_points(limit=terms.limit, offset=terms.offset, **asked).points
        # Groups have no offset.
        by_item = f"{FACTS}.item_id"
        found = self._client.query_points_groups(group_by=by_item, limit=terms.depth, group_size=1, **asked).groups
        return [group.hits[0] for group in found[terms.offset :]]

    def ping(self) -> None:
        """See `reindexer.ports.Index.ping`."""
        with self._asking(self._timeout_s):
            self._client.get_collections()

    def _holds_keywords(self, collection: Collection) -> bool:
        """Whether its points can have keywords. A source has them at once, its collection from the next claim on."""
        with self._asking(self._timeout_s):
            return collections.holds_keywords(self._client.get_collection(collection.name))

    def _delete(self, collection: Collection, conditions: list[models.Condition], token: int, timeout_s: float) -> None:
        with self._asking(timeout_s):
            self._client.delete(
                collection.name,
                models.FilterSelector(filter=models.Filter(must=[*conditions, _lower(token)])),  # guard fence-delete
                wait=True,
                timeout=_seconds(timeout_s),
            )

    @property
    def _client(self) -> QdrantClient:
        return self._clients.get()

    @contextmanager
    def _asking(self, timeout_s: float) -> Iterator[None]:
        """Around calls that share `timeout_s`; maps the client's errors to ours."""
        try:
            with self._deadline.within(timeout_s):
                yield
        except UnexpectedResponse as exc:
            status = exc.status_code or 500
            if 300 <= status < 400 or (status == 404 and not is_of_qdrant(exc.content)):  # guard address-foreign-404
                raise DependencyUnavailable(self._address.somebody_else(f"with {status}")) from exc
            if status == 404:
                raise _CollectionMissing("Qdrant has no such collection; it is made again") from exc
            text = f"Qdrant answered {exc.status_code}"
            if exc.status_code in (502, 504):  # from a gateway that gets no answer
                raise DependencyUnavailable(text) from exc
            if exc.status_code in (401, 403):
                text = f"{text}: check QDRANT_API_KEY and what it may do"
            raise (PermanentError(text) if 400 <= (exc.status_code or 500) < 500 else TransientError(text)) from exc
        except JSONDecodeError as exc:
            raise DependencyUnavailable(self._address.somebody_else("without JSON")) from exc
        except (PydanticSerializationError, ValueError, TypeError, RecursionError) as exc:
            raise PermanentError(f"Qdrant's client can't send this payload: {type(exc).__name__}") from exc
        except ResourceExhaustedResponse as exc:
            raise TransientError("Qdrant asks to wait", retry_after_s=float(exc.retry_after_s)) from exc
        except grpc.RpcError as exc:
            raise _rpc_error(exc, self._address.grpc) from exc
        except (ResponseHandlingException, httpx.HTTPError, OSError) as exc:
            source = getattr(exc, "source", exc)
            if isinstance(source, ValueError):  # the client can't read the answer
                raise DependencyUnavailable(self._address.somebody_else(type(source).__name__)) from exc
            raise DependencyUnavailable(f"{self._address.rest} does not answer: {type(source).__name__}") from exc


class _CollectionMissing(TransientError):
    """The collection does not exist: it was lost, or is not created yet."""


def _rpc_error(exc: Any, place: str) -> Exception:
    code: grpc.StatusCode = exc.code()
    if code in _AWAY:
        return DependencyUnavailable(f"{place} does not answer: {code.name}")
    if code == grpc.StatusCode.NOT_FOUND:
        return _CollectionMissing("Qdrant has no such collection; it is made again")
    text = f"Qdrant answered {code.name}"
    if code in _FORBIDDEN:
        return PermanentError(f"{text}: check QDRANT_API_KEY and what it may do")
    return PermanentError(text) if code == grpc.StatusCode.INVALID_ARGUMENT else TransientError(text)


def _lower(token: int) -> models.FieldCondition:
    """The stored token is lower. One condition serves a whole request: making it is a fifth of making an operation."""
    return models.FieldCondition(key=_VERSION, range=models.Range(lt=token))


def _same(source: str, point: Point) -> list[models.Condition]:
    """The same point, with the same text."""
    return [
        models.HasIdCondition(has_id=[point_id(source, point.item_id, point.chunk)]),
        # guard payload-matching-fingerprint
        models.FieldCondition(key=_FINGERPRINT, match=models.MatchValue(value=point.fingerprint)),
    ]


def _only_keywords(source: str, point: Point) -> models.PointVectors:
    named = point_id(source, point.item_id, point.chunk)
    return models.PointVectors(id=named, vector={KEYWORDS: sparse(point.keywords)})


def _of_source(source: str) -> models.FieldCondition:
    return models.FieldCondition(key=f"{FACTS}.source", match=models.MatchValue(value=source))


def _threshold(profile: Profile, min_score: float | None) -> float | None:
    """Qdrant finds what is nearer than a threshold: the next number makes it find what is as near, too."""
    if min_score is None:
        return None
    further = np.float32(math.inf if profile.distance in ("euclid", "manhattan") else -math.inf)
    return float(np.nextafter(np.float32(min_score), further))


def _of_items(item_ids: Sequence[str]) -> models.FieldCondition:
    return models.FieldCondition(key=f"{FACTS}.item_id", match=models.MatchAny(any=list(item_ids)))


def _seconds(timeout_s: float) -> int:
    """The client takes whole seconds."""
    return max(1, int(timeout_s))
