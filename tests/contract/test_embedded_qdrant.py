"""What this project asks of Qdrant, asked through the official client.

Runs on the embedded server, and on a real one instead where REINDEXER_TEST_QDRANT_URL names it.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from qdrant_client import QdrantClient
from qdrant_client import models as m
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

REAL_URL = os.environ.get("REINDEXER_TEST_QDRANT_URL")
TOKEN = 1_754_000_000_000_123
"""Microseconds since 1970, as the fencing tokens are."""

FAILURES = (UnexpectedResponse, ResponseHandlingException, AssertionError)

embedded_only = pytest.mark.skipif(REAL_URL is not None, reason="about the embedded server's own process")


class Process:
    """The server as users start it. Ends it by its own process id."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "reindexer.embedded.qdrant_server", "--port", "0", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:"), line or self.end()
        self.url = line.split()[-1]

    def end(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        self.process.send_signal(how)
        out, err = self.process.communicate(timeout=10)
        return self.process.returncode, out, err

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGKILL)


def connect(url: str) -> QdrantClient:
    """Without the check of versions: that runs in a thread of its own, which may outlive a server that a test ends."""
    return QdrantClient(url=url, timeout=30, check_compatibility=False)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    if REAL_URL is not None:
        yield REAL_URL
        return
    with Process("--memory") as server:
        yield server.url
        assert server.end() == (0, "", "")


@pytest.fixture
def client(url: str) -> Iterator[QdrantClient]:
    client = connect(url)
    yield client
    client.close()


NewName = Callable[[], str]


@pytest.fixture
def new_name(client: QdrantClient) -> Iterator[NewName]:
    """Names nobody else uses; what has them afterwards is deleted."""
    names: list[str] = []

    def make() -> str:
        names.append(f"test_{uuid.uuid4().hex}")
        return names[-1]

    yield make
    for name in names:
        client.delete_collection(name)


@pytest.fixture
def collection(client: QdrantClient, new_name: NewName) -> str:
    name = new_name()
    client.create_collection(name, vectors_config=m.VectorParams(size=4, distance=m.Distance.COSINE))
    return name


def point(item_id: str, version: int = TOKEN, chunk: int = 0, **payload: Any) -> m.PointStruct:
    point_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{item_id}/{chunk}"))
    angle = int(uuid.UUID(point_id)) % 1000 / 1000
    own = {"source": "items", "item_id": item_id, "chunk": chunk, "version": version}
    return m.PointStruct(
        id=point_id, vector=[1.0, angle, angle / 2, 0.1], payload={"_reindexer": own, **payload} if version else payload
    )


def matches(field: str, value: Any) -> m.FieldCondition:
    return m.FieldCondition(key=f"_reindexer.{field}", match=m.MatchValue(value=value))


def older_than(token: int) -> m.FieldCondition:
    return m.FieldCondition(key="_reindexer.version", range=m.Range(lt=token))


def unless_newer(token: int) -> m.Filter:
    return m.Filter(must_not=[m.FieldCondition(key="_reindexer.version", range=m.Range(gte=token))])


def stored(client: QdrantClient, collection: str, **scroll: Any) -> dict[str, dict[str, Any]]:
    """Payloads by item id, or by point id where there is none."""
    records, _ = client.scroll(collection, limit=1000, **scroll)
    payloads = [(str(record.id), record.payload or {}) for record in records]
    return {payload.get("_reindexer", {}).get("item_id", point_id): payload for point_id, payload in payloads}


def refused(call: Callable[[], object]) -> UnexpectedResponse:
    with pytest.raises(UnexpectedResponse) as caught:
        call()
    return caught.value


# Collections and aliases


def test_a_collection_reports_its_parameters_and_its_size(client: QdrantClient, collection: str) -> None:
    client.upsert(collection, [point("a"), point("b")])
    info = client.get_collection(collection)
    assert isinstance(info.config.params.vectors, m.VectorParams)
    assert (info.config.params.vectors.size, info.config.params.vectors.distance) == (4, m.Distance.COSINE)
    assert (info.points_count, info.status) == (2, m.CollectionStatus.GREEN)
    assert client.collection_exists(collection)
    assert collection in {each.name for each in client.get_collections().collections}
    assert client.update_collection(collection, optimizers_config=m.OptimizersConfigDiff(indexing_threshold=10_000))


def test_payload_indexes_show_in_the_schema(client: QdrantClient, collection: str) -> None:
    client.create_payload_index(collection, "_reindexer.item_id", m.PayloadSchemaType.KEYWORD)
    client.create_payload_index(collection, "_reindexer.version", m.IntegerIndexParams(type=m.IntegerIndexType.INTEGER))
    schema = client.get_collection(collection).payload_schema
    assert {field: index.data_type.value for field, index in schema.items()} == {
        "_reindexer.item_id": "keyword",
        "_reindexer.version": "integer",
    }
    client.delete_payload_index(collection, "_reindexer.item_id")
    assert set(client.get_collection(collection).payload_schema) == {"_reindexer.version"}


def test_what_does_not_exist_is_404(client: QdrantClient) -> None:
    name = f"test_{uuid.uuid4().hex}"
    vector = [1.0, 0.0, 0.0, 0.0]
    calls: list[Callable[[], object]] = [
        lambda: client.get_collection(name),
        lambda: client.upsert(name, [point("a")]),
        lambda: client.scroll(name),
        lambda: client.count(name),
        lambda: client.retrieve(name, [1]),
        lambda: client.query_points(name, query=vector),
        lambda: client.query_points_groups(name, "a", query=vector),
        lambda: client.delete(name, m.Filter(must=[matches("item_id", "a")])),
        lambda: client.set_payload(name, {"a": 1}, points=[1]),
        lambda: client.create_payload_index(name, "a", m.PayloadSchemaType.KEYWORD),
    ]
    for call in calls:
        error = refused(call)
        assert error.status_code == 404
        assert f"Collection `{name}` doesn't exist!" in error.content.decode()
    assert not client.collection_exists(name)
    assert not client.delete_collection(name)


def test_a_missing_point_is_404_by_its_route_and_absent_from_a_list(
    client: QdrantClient, collection: str, url: str
) -> None:
    client.upsert(collection, [present := point("a", title="x")])
    assert [record.payload for record in client.retrieve(collection, [present.id, str(uuid.uuid4())])] == [
        present.payload
    ]
    assert httpx.get(f"{url}/collections/{collection}/points/{present.id}").json()["result"]["payload"]["title"] == "x"
    assert httpx.get(f"{url}/collections/{collection}/points/{uuid.uuid4()}").status_code == 404
    assert httpx.get(f"{url}/collections/{collection}/points/nonsense").status_code == 400


def test_creating_a_collection_twice_is_409(client: QdrantClient, collection: str) -> None:
    vectors = m.VectorParams(size=4, distance=m.Distance.COSINE)
    error = refused(lambda: client.create_collection(collection, vectors_config=vectors))
    assert error.status_code == 409
    assert f"Collection `{collection}` already exists!" in error.content.decode()


def test_wrong_dimensions_are_400_and_say_which(client: QdrantClient, collection: str) -> None:
    wrong = m.PointStruct(id=1, vector=[1.0, 2.0, 3.0])
    for call in (
        lambda: client.upsert(collection, [point("a"), wrong]),
        lambda: client.upsert(collection, m.Batch(ids=[1], vectors=[[1.0, 2.0, 3.0]])),
        lambda: client.query_points(collection, query=[1.0, 2.0, 3.0]),
    ):
        error = refused(call)
        assert error.status_code == 400
        assert "expected dim: 4, got 3" in error.content.decode()
    assert client.count(collection).count == 0, "the good neighbour of a bad point is not written either"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "points", b"{"),
        ("PUT", "points", b""),
        ("PUT", "points", b'{"points": [{"id": 1}]}'),
        ("PUT", "points", b'{"points": [{"id": "not a uuid", "vector": [1, 2, 3, 4]}]}'),
        ("PUT", "points", b'{"points": [{"id": -1, "vector": [1, 2, 3, 4]}]}'),
        ("PUT", "points", b'{"points": [{"id": 1, "vector": ["1", "2", "3", "4"]}]}'),
        ("PUT", "points", b'{"points": [{"id": 1, "vector": [1, null, 3, 4]}]}'),
        ("PUT", "points?wait=true", b'{"points": [{"id": 1, "vector": {"other": [1, 2, 3, 4]}}]}'),
        ("PUT", "points/vectors", b'{"points": [{"id": 1, "vector": {"text": "a", "model": "b"}}]}'),
        ("PUT", "points", b'{"batch": {"ids": [1, 2], "vectors": [[1, 2, 3, 4]]}}'),
        ("POST", "points/scroll", b'{"limit": "many"}'),
        ("POST", "points/scroll", b'{"limit": 0}'),
        ("POST", "points/scroll", b'{"filter": {"must": [{"nonsense": 1}]}}'),
        ("POST", "points/query", b'{"query": [[]]}'),
        ("POST", "points/query", b'{"query": [1, 2, 3, 4], "using": "other"}'),
        ("POST", "points/query/groups", b'{"query": [1, 2, 3, 4]}'),
        ("POST", "points/delete", b"{}"),
        ("POST", "points/delete", b'{"points": "all"}'),
        ("POST", "points/payload", b'{"payload": {"a": 1}}'),
        ("POST", "points/batch", b'{"operations": [{"nonsense": {}}]}'),
        ("POST", "points/batch", b"[]"),
        ("PUT", "index", b'{"field_name": "a", "field_schema": "nonsense"}'),
    ],
)
def test_what_cannot_be_understood_is_refused_not_500(
    url: str, collection: str, method: str, path: str, body: bytes
) -> None:
    answer = httpx.request(
        method, f"{url}/collections/{collection}/{path}", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["status"]["error"]


def test_a_vector_that_the_collection_does_not_have_is_told_to_who_waits_and_written_for_nobody(
    client: QdrantClient, collection: str
) -> None:
    """Who does not wait is answered before it is tried."""
    wrong = [m.PointStruct(id=1, vector={"other": [1.0, 2.0, 3.0, 4.0]})]
    assert refused(lambda: client.upsert(collection, wrong, wait=True)).status_code == 400
    assert client.upsert(collection, wrong, wait=False).status == m.UpdateStatus.ACKNOWLEDGED
    client.upsert(collection, [point("a")], wait=True)
    assert set(stored(client, collection)) == {"a"}


def test_an_alias_moves_atomically_and_stands_for_its_collection(
    client: QdrantClient, new_name: NewName, url: str
) -> None:
    old, new, alias = new_name(), new_name(), new_name()
    for name, item in ((old, "old"), (new, "new")):
        client.create_collection(name, vectors_config=m.VectorParams(size=4, distance=m.Distance.COSINE))
        client.upsert(name, [point(item)])
    create_old = m.CreateAliasOperation(create_alias=m.CreateAlias(collection_name=old, alias_name=alias))
    create_new = m.CreateAliasOperation(create_alias=m.CreateAlias(collection_name=new, alias_name=alias))
    remove = m.DeleteAliasOperation(delete_alias=m.DeleteAlias(alias_name=alias))

    client.update_collection_aliases([create_old])
    assert list(stored(client, alias)) == ["old"]
    errors: list[Exception] = []
    stop = threading.Event()

    def read() -> None:
        reader = connect(url)
        while not stop.is_set():
            try:
                assert reader.query_points(alias, query=[1.0, 0.0, 0.0, 0.0]).points
            except FAILURES as exc:
                errors.append(exc)
        reader.close()

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(10):
        client.update_collection_aliases([remove, create_new])
        client.update_collection_aliases([remove, create_old])
    client.update_collection_aliases([remove, create_new])
    stop.set()
    thread.join()
    assert errors == []

    assert list(stored(client, alias)) == ["new"]
    client.upsert(alias, [point("more")])
    client.create_payload_index(alias, "a", m.PayloadSchemaType.KEYWORD)
    assert client.get_collection(alias).points_count == client.get_collection(new).points_count == 2
    assert set(client.get_collection(new).payload_schema) == {"a"}
    assert client.collection_exists(alias)
    assert [each.alias_name for each in client.get_collection_aliases(new).aliases] == [alias]
    assert (alias, new) in {(each.alias_name, each.collection_name) for each in client.get_aliases().aliases}
    missing = m.CreateAliasOperation(create_alias=m.CreateAlias(collection_name=new_name(), alias_name=new_name()))
    assert refused(lambda: client.update_collection_aliases([missing])).status_code == 404
    taken = m.CreateAliasOperation(create_alias=m.CreateAlias(collection_name=new, alias_name=old))
    assert refused(lambda: client.update_collection_aliases([taken])).status_code == 409
    vectors = m.VectorParams(size=4, distance=m.Distance.COSINE)
    assert refused(lambda: client.create_collection(alias, vectors_config=vectors)).status_code == 400

    client.delete_collection(new)
    assert not client.collection_exists(alias), "the alias goes with its collection"
    assert alias not in {each.alias_name for each in client.get_aliases().aliases}


# Fencing


@pytest.mark.parametrize("form", ["list", "batch"])
def test_an_upsert_passes_by_what_is_as_new_or_newer(client: QdrantClient, collection: str, form: str) -> None:
    client.upsert(
        collection,
        [
            point("older", TOKEN - 1, text="before"),
            point("same", TOKEN, text="before"),
            point("newer", TOKEN + 1, text="before"),
            point("unversioned", 0, text="before"),
        ],
    )
    written = [point(item, TOKEN, text="after") for item in ("older", "same", "newer", "unversioned", "new")]
    batch = m.Batch(
        ids=[each.id for each in written],
        vectors=[each.vector for each in written],  # type: ignore[arg-type]
        payloads=[each.payload or {} for each in written],
    )
    client.upsert(collection, written if form == "list" else batch, update_filter=unless_newer(TOKEN))
    assert {item: payload["text"] for item, payload in stored(client, collection).items()} == {
        "older": "after",
        "same": "before",
        "newer": "before",
        "unversioned": "after",
        "new": "after",
    }


def test_versions_come_back_exactly(client: QdrantClient, collection: str) -> None:
    versions = {str(number): TOKEN + number for number in range(20)} | {"largest": 2**53 - 1}
    client.upsert(collection, [point(item, version) for item, version in versions.items()])
    assert {item: each["_reindexer"]["version"] for item, each in stored(client, collection).items()} == versions
    for item, version in versions.items():
        exact = m.Filter(must=[m.FieldCondition(key="_reindexer.version", range=m.Range(gte=version, lt=version + 1))])
        assert list(stored(client, collection, scroll_filter=exact)) == [item]


def test_update_modes_insert_only_and_update_only(client: QdrantClient, collection: str) -> None:
    client.upsert(collection, [point("a", text="before")])
    client.upsert(collection, [point("a", text="x"), point("b", text="inserted")], update_mode=m.UpdateMode.INSERT_ONLY)
    client.upsert(collection, [point("a", text="updated"), point("c", text="x")], update_mode=m.UpdateMode.UPDATE_ONLY)
    assert {item: each["text"] for item, each in stored(client, collection).items()} == {
        "a": "updated",
        "b": "inserted",
    }


def test_a_fenced_deletion_spares_what_is_newer(client: QdrantClient, collection: str) -> None:
    points = [point("old", TOKEN - 5), point("new", TOKEN + 5), point("other", TOKEN - 5)]
    client.upsert(collection, points)
    chosen = m.HasIdCondition(has_id=[points[0].id, points[1].id])
    client.delete(collection, m.Filter(must=[chosen, older_than(TOKEN)]))
    assert set(stored(client, collection)) == {"new", "other"}
    client.delete(collection, m.Filter(must=[matches("item_id", "other"), older_than(TOKEN)]))
    assert set(stored(client, collection)) == {"new"}
    client.delete(collection, [points[1].id])
    assert client.count(collection).count == 0
    client.upsert(collection, points, update_filter=unless_newer(TOKEN - 5))
    assert len(stored(client, collection)) == 3, "a deleted point fences nothing"


def test_surplus_chunks_go_by_number(client: QdrantClient, collection: str) -> None:
    client.upsert(collection, [point("a", chunk=chunk) for chunk in range(5)] + [point("b", chunk=4)])
    surplus = m.FieldCondition(key="_reindexer.chunk", range=m.Range(gte=2))
    client.delete(collection, m.Filter(must=[matches("item_id", "a"), surplus, older_than(TOKEN + 1)]))
    left = client.scroll(collection)[0]
    own = [(record.payload or {})["_reindexer"] for record in left]
    assert sorted((each["item_id"], each["chunk"]) for each in own) == [("a", 0), ("a", 1), ("b", 4)]


def test_payload_changes_by_filter_touch_those_points_only(client: QdrantClient, collection: str) -> None:
    client.upsert(collection, [point("a", TOKEN - 1, k=1), point("b", TOKEN - 1, k=1), point("c", TOKEN + 1, k=1)])
    fenced = m.Filter(
        must=[m.FieldCondition(key="_reindexer.item_id", match=m.MatchAny(any=["a", "c"])), older_than(TOKEN)]
    )
    client.set_payload(collection, {"k": 2, "l": [1]}, points=fenced)
    client.set_payload(collection, {"version": TOKEN}, points=fenced, key="_reindexer")
    after = stored(client, collection)
    assert (after["a"]["k"], after["a"]["l"], after["a"]["_reindexer"]["version"]) == (2, [1], TOKEN)
    assert after["a"]["_reindexer"]["chunk"] == 0, "set_payload merges"
    assert after["b"]["k"] == after["c"]["k"] == 1

    client.overwrite_payload(collection, {"only": True}, points=m.Filter(must=[matches("item_id", "b")]))
    client.delete_payload(collection, ["k"], points=m.Filter(must=[matches("item_id", "c")]))
    assert list(stored(client, collection).values()).count({"only": True}) == 1
    assert "k" not in stored(client, collection)["c"]
    client.clear_payload(collection, [point("c").id])
    assert list(stored(client, collection).values()).count({}) == 1


def test_a_batch_holds_every_kind_of_operation_in_order(client: QdrantClient, collection: str) -> None:
    a, b, c = point("a"), point("b"), point("c")
    every = m.Filter(must=[matches("source", "items")])
    results = client.batch_update_points(
        collection,
        [
            m.UpsertOperation(upsert=m.PointsList(points=[a, b, c], update_filter=unless_newer(TOKEN))),
            m.SetPayloadOperation(set_payload=m.SetPayload(payload={"s": 1, "t": 1}, filter=every)),
            m.DeletePayloadOperation(delete_payload=m.DeletePayload(keys=["t"], points=[a.id])),
            m.OverwritePayloadOperation(overwrite_payload=m.SetPayload(payload={"o": 1}, points=[b.id])),
            m.ClearPayloadOperation(clear_payload=m.PointIdsList(points=[c.id])),
            m.UpdateVectorsOperation(
                update_vectors=m.UpdateVectors(points=[m.PointVectors(id=a.id, vector=[0.0, 0.0, 0.0, 2.0])])
            ),
            m.DeleteOperation(delete=m.PointIdsList(points=[c.id])),
        ],
    )
    assert {each.status for each in results} == {m.UpdateStatus.COMPLETED}
    records = {record.id: record for record in client.scroll(collection, with_vectors=True)[0]}
    assert set(records) == {a.id, b.id}
    assert records[a.id].payload == {**(a.payload or {}), "s": 1}
    assert records[b.id].payload == {"o": 1}
    assert records[a.id].vector == pytest.approx([0.0, 0.0, 0.0, 1.0])


def test_named_vectors_change_and_go_by_themselves(client: QdrantClient, new_name: NewName) -> None:
    name = new_name()
    client.create_collection(
        name,
        vectors_config={"dense": m.VectorParams(size=2, distance=m.Distance.DOT)},
        sparse_vectors_config={"sparse": m.SparseVectorParams()},
    )
    sparse = m.SparseVector(indices=[3, 7], values=[1.0, 2.0])
    client.upsert(name, [m.PointStruct(id=1, vector={"dense": [1.0, 2.0], "sparse": sparse})])
    client.update_vectors(name, [m.PointVectors(id=1, vector={"dense": [3.0, 4.0]})])
    (record,) = client.retrieve(name, [1], with_vectors=True)
    assert record.vector == {"dense": [3.0, 4.0], "sparse": sparse}
    (hit,) = client.query_points(name, query=m.SparseVector(indices=[7], values=[1.0]), using="sparse").points
    assert hit.score == pytest.approx(2)
    client.delete_vectors(name, ["sparse"], points=[1])
    (record,) = client.retrieve(name, [1], with_vectors=True)
    assert record.vector == {"dense": [3.0, 4.0]}


# Filters, scrolling, searching


FILTERS: list[tuple[str, m.Filter, str]] = [
    ("match keyword", m.Filter(must=[m.FieldCondition(key="kind", match=m.MatchValue(value="x"))]), "ab"),
    ("match in a list of values", m.Filter(must=[m.FieldCondition(key="tags", match=m.MatchValue(value="t2"))]), "ab"),
    ("match any", m.Filter(must=[m.FieldCondition(key="kind", match=m.MatchAny(any=["y", "z"]))]), "c"),
    ("match except", m.Filter(must=[m.FieldCondition(key="kind", match=m.MatchExcept(**{"except": ["x"]}))]), "c"),
    ("match integer", m.Filter(must=[m.FieldCondition(key="n", match=m.MatchValue(value=1))]), "a"),
    ("match boolean", m.Filter(must=[m.FieldCondition(key="flag", match=m.MatchValue(value=True))]), "b"),
    ("match nested key", m.Filter(must=[m.FieldCondition(key="deep.er.key", match=m.MatchValue(value="v"))]), "a"),
    ("range", m.Filter(must=[m.FieldCondition(key="n", range=m.Range(gt=1, lte=3))]), "bc"),
    (
        "datetime range",
        m.Filter(must=[m.FieldCondition(key="at", range=m.DatetimeRange(gte="2024-05-01T00:00:00Z"))]),  # type: ignore[arg-type]
        "b",
    ),
    ("is empty", m.Filter(must=[m.IsEmptyCondition(is_empty=m.PayloadField(key="tags"))]), "cd"),
    ("is null", m.Filter(must=[m.IsNullCondition(is_null=m.PayloadField(key="nothing"))]), "c"),
    ("has id", m.Filter(must=[m.HasIdCondition(has_id=[point("a").id, point("d").id])]), "ad"),
    ("must not", m.Filter(must_not=[m.FieldCondition(key="kind", match=m.MatchValue(value="x"))]), "cd"),
    (
        "should",
        m.Filter(
            should=[
                m.FieldCondition(key="n", match=m.MatchValue(value=1)),
                m.FieldCondition(key="flag", match=m.MatchValue(value=False)),
            ]
        ),
        "ac",
    ),
    (
        "must of both and a filter within",
        m.Filter(
            must=[
                m.FieldCondition(key="kind", match=m.MatchValue(value="x")),
                m.Filter(must_not=[m.FieldCondition(key="n", range=m.Range(lt=2))]),
            ],
            must_not=[m.HasIdCondition(has_id=[point("a").id])],
        ),
        "b",
    ),
    (
        "nested array, conditions on one element",
        m.Filter(
            must=[
                m.NestedCondition(
                    nested=m.Nested(
                        key="rows",
                        filter=m.Filter(
                            must=[
                                m.FieldCondition(key="x", match=m.MatchValue(value=1)),
                                m.FieldCondition(key="y", match=m.MatchValue(value=1)),
                            ]
                        ),
                    )
                )
            ]
        ),
        "a",
    ),
    ("array element by path", m.Filter(must=[m.FieldCondition(key="rows[].y", match=m.MatchValue(value=1))]), "ab"),
    ("values count", m.Filter(must=[m.FieldCondition(key="tags", values_count=m.ValuesCount(gte=2))]), "a"),
]


@pytest.mark.parametrize(("condition", "expected"), [each[1:] for each in FILTERS], ids=[each[0] for each in FILTERS])
def test_filters_choose_the_same_points_in_every_call(
    client: QdrantClient, collection: str, condition: m.Filter, expected: str
) -> None:
    points = [
        point("a", n=1, kind="x", tags=["t1", "t2"], deep={"er": {"key": "v"}}, rows=[{"x": 1, "y": 1}, {"x": 2}]),
        point("b", n=2, kind="x", tags=["t2"], flag=True, at="2024-05-06T07:08:09Z", rows=[{"x": 1}, {"y": 1}]),
        point("c", n=3, kind="y", tags=[], flag=False, at="2024-04-30T23:59:59+00:00", nothing=None, deep={"er": "v"}),
        point("d", n=1.0),
    ]
    client.upsert(collection, points)
    assert set(stored(client, collection, scroll_filter=condition)) == set(expected)
    assert client.count(collection, count_filter=condition).count == len(expected)
    hits = client.query_points(collection, query=[1.0, 0.0, 0.0, 0.0], query_filter=condition, with_payload=True).points
    assert {(hit.payload or {})["_reindexer"]["item_id"] for hit in hits} == set(expected)
    client.delete(collection, condition)
    assert set(stored(client, collection)) == set("abcd") - set(expected)


def test_scrolling_visits_every_point_once(client: QdrantClient, collection: str) -> None:
    ids = {str(uuid.uuid4()) for _ in range(1234)}
    client.upsert(collection, [m.PointStruct(id=each, vector=[1.0, 0.0, 0.0, 0.0], payload={}) for each in ids])
    seen: list[str] = []
    offset: Any = None
    while True:
        page, offset = client.scroll(collection, limit=100, offset=offset, with_payload=False)
        seen += [str(record.id) for record in page]
        if offset is None:
            break
    assert len(seen) == len(ids)
    assert set(seen) == ids
    assert seen == sorted(seen)


def test_scrolling_in_the_order_of_a_field(client: QdrantClient, collection: str) -> None:
    client.create_payload_index(collection, "n", m.PayloadSchemaType.INTEGER)
    client.upsert(collection, [point(str(n), n=n) for n in (3, 1, 2)])
    records, _ = client.scroll(collection, order_by=m.OrderBy(key="n", direction=m.Direction.DESC), limit=2)
    assert [(record.payload or {})["n"] for record in records] == [3, 2]


def test_values_are_counted(client: QdrantClient, collection: str) -> None:
    client.create_payload_index(collection, "kind", m.PayloadSchemaType.KEYWORD)
    client.upsert(collection, [point(str(n), kind=kind) for n, kind in enumerate("xxy")])
    hits = client.facet(collection, "kind", facet_filter=m.Filter(must=[older_than(TOKEN + 1)])).hits
    assert [(hit.value, hit.count) for hit in hits] == [("x", 2), ("y", 1)]


def test_a_page_holds_what_was_asked_for(client: QdrantClient, collection: str) -> None:
    client.upsert(collection, [point("a", k=1, l=2)])
    bare, chosen, full = (
        client.scroll(collection, with_payload=payload, with_vectors=vectors)[0][0]
        for payload, vectors in ((False, False), (["k", "_reindexer.item_id"], False), (True, True))
    )
    assert (bare.payload, bare.vector) in [(None, None), ({}, None)]
    assert chosen.payload == {"k": 1, "_reindexer": {"item_id": "a"}}
    assert (full.payload or {})["l"] == 2
    assert np.linalg.norm(np.array(full.vector)) == pytest.approx(1, abs=1e-5), "cosine vectors are kept normalised"


def test_a_search_ranks_by_cosine(client: QdrantClient, collection: str) -> None:
    vectors = {1: [2.0, 0.0, 0.0, 0.0], 2: [1.0, 1.0, 0.0, 0.0], 3: [0.0, 3.0, 0.0, 0.0], 4: [-1.0, 0.0, 0.0, 0.0]}
    client.upsert(collection, [m.PointStruct(id=each, vector=vector) for each, vector in vectors.items()])
    hits = client.query_points(collection, query=[5.0, 0.0, 0.0, 0.0], limit=3).points
    assert [hit.id for hit in hits] == [1, 2, 3]
    assert [hit.score for hit in hits] == pytest.approx([1, 0.5**0.5, 0], abs=1e-5)
    near = client.query_points(collection, query=[5.0, 0.0, 0.0, 0.0], score_threshold=0.5, offset=1).points
    assert [hit.id for hit in near] == [2]
    first, second = client.query_batch_points(
        collection,
        [m.QueryRequest(query=[0.0, 1.0, 0.0, 0.0], limit=1), m.QueryRequest(query=1, limit=1, with_payload=True)],
    )
    assert [hit.id for hit in first.points] == [3]
    assert [hit.id for hit in second.points] == [2], "by the id of a point: its nearest but itself"
    assert refused(lambda: client.query_points(collection, query=99)).status_code == 404


def test_groups_hold_the_best_chunk_of_each_item(client: QdrantClient, collection: str) -> None:
    rng = np.random.default_rng(7)
    vectors = rng.standard_normal((300, 4))
    points = [point(f"item{row // 6}", chunk=row % 6) for row in range(300)]
    for each, vector in zip(points, vectors, strict=True):
        each.vector = vector.tolist()
    client.upsert(collection, points)
    query = np.array([1.0, 2.0, 3.0, 4.0])
    scores = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    best = sorted(((score, f"item{row // 6}", row % 6) for row, score in enumerate(scores)), reverse=True)
    order = list(dict.fromkeys(item for _, item, _ in best))
    for size in (1, 3):
        groups = client.query_points_groups(
            collection, "_reindexer.item_id", query=query.tolist(), limit=5, group_size=size, with_payload=True
        ).groups
        assert [group.id for group in groups] == order[:5]
        assert len(groups[0].hits) == size
        for group in groups:
            assert group.hits[0].score == pytest.approx(max(s for s, item, _ in best if item == group.id), abs=1e-5)
    few = m.Filter(must=[m.FieldCondition(key="_reindexer.item_id", match=m.MatchAny(any=order[3:5]))])
    groups = client.query_points_groups(
        collection, "_reindexer.item_id", query=query.tolist(), query_filter=few, limit=1, group_size=1
    ).groups
    assert [group.id for group in groups] == [order[3]]


# Many at once


def test_writers_at_the_same_time_lose_nothing(client: QdrantClient, collection: str, url: str) -> None:
    errors: list[Exception] = []

    def write(writer: int) -> None:
        own = connect(url)
        try:
            for start in range(0, 200, 20):
                own.upsert(
                    collection,
                    [point(f"{writer}-{start + number}") for number in range(20)],
                    update_filter=unless_newer(TOKEN),
                )
        except FAILURES as exc:
            errors.append(exc)
        own.close()

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert client.count(collection).count == 800


def test_what_stays_is_found_after_many_others_came_and_went(client: QdrantClient, collection: str) -> None:
    keep = [point("keep", text="kept")]
    client.upsert(collection, keep)
    for cycle in range(5):
        passing = [point(f"{cycle}-{number}") for number in range(500)]
        client.upsert(collection, passing)
        client.delete(collection, [each.id for each in passing])
    client.upsert(collection, [point("late")])
    assert set(stored(client, collection)) == {"keep", "late"}
    hits = client.query_points(collection, query=keep[0].vector, limit=5).points  # type: ignore[arg-type]
    assert hits[0].id == keep[0].id
    assert hits[0].score == pytest.approx(1, abs=1e-5)


def test_a_body_over_32_mib_is_refused(url: str, collection: str) -> None:
    body = b'{"points": [' + b" " * (32 << 20) + b"]}"
    answer = httpx.put(
        f"{url}/collections/{collection}/points", content=body, headers={"Content-Type": "application/json"}, timeout=60
    )
    assert answer.status_code in (400, 413)


# The embedded server's process


def fill(client: QdrantClient) -> dict[str, Any]:
    client.create_collection("c", vectors_config=m.VectorParams(size=4, distance=m.Distance.COSINE))
    client.create_collection("gone", vectors_config=m.VectorParams(size=4, distance=m.Distance.COSINE))
    client.update_collection_aliases(
        [m.CreateAliasOperation(create_alias=m.CreateAlias(collection_name="c", alias_name="a"))]
    )
    client.create_payload_index("c", "_reindexer.item_id", m.PayloadSchemaType.KEYWORD)
    client.create_payload_index("gone", "x", m.PayloadSchemaType.KEYWORD)
    client.upsert("c", [point(str(number), text="first") for number in range(100)])
    client.upsert("c", [point(str(number), TOKEN + 1, text="second") for number in range(50)])
    client.set_payload("c", {"text": "third"}, points=m.Filter(must=[matches("item_id", "3")]))
    client.delete("c", [point("99").id])
    client.delete_collection("gone")
    return contents(client)


def contents(client: QdrantClient) -> dict[str, Any]:
    hits = client.query_points("a", query=[0.3, 0.1, 0.2, 0.9], limit=1000).points
    vectors = {record.id: record.vector for record in client.scroll("a", limit=1000, with_vectors=True)[0]}
    return {
        "payloads": stored(client, "a"),
        "vectors": {each: np.round(np.array(vector), 5).tolist() for each, vector in sorted(vectors.items())},
        "ranks": sorted((round(hit.score, 5), hit.id) for hit in hits),  # equal ones in any order
        "aliases": client.get_aliases(),
        "collections": client.get_collections(),
        "info": client.get_collection("c"),
    }


@embedded_only
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_all_survives_the_end_of_the_process(tmp_path: Path, how: signal.Signals) -> None:
    with Process("--path", str(tmp_path)) as server:
        client = connect(server.url)
        before = fill(client)
        client.close()
        code, out, err = server.end(how)
        assert (code, out, err) == (-how if how == signal.SIGKILL else 0, "", "")
    with Process("--path", str(tmp_path)) as server:
        client = connect(server.url)
        assert contents(client) == before
        assert len(before["payloads"]) == 99
        assert set(client.get_collection("c").payload_schema) == {"_reindexer.item_id"}
        client.close()


@pytest.mark.alone
@embedded_only
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once_while_clients_are_connected_and_busy(how: signal.Signals) -> None:
    with Process("--memory") as server, httpx.Client(base_url=server.url) as idle:
        assert idle.get("/healthz").status_code == idle.get("/readyz").status_code == 200
        busy, stop = threading.Semaphore(0), threading.Event()

        def hammer() -> None:
            with httpx.Client(base_url=server.url) as own:
                while not stop.is_set():
                    try:
                        own.get("/collections")
                    except httpx.HTTPError:
                        return
                    busy.release()

        threads = [threading.Thread(target=hammer) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(30):
            assert busy.acquire(timeout=10)
        started = time.monotonic()
        code, _, err = server.end(how)
        stop.set()
        for thread in threads:
            thread.join()
        assert (code, err) == (0, "")
        assert time.monotonic() - started < 2


def test_a_caller_that_dies_in_the_middle_of_a_request_harms_nobody(
    client: QdrantClient, collection: str, url: str
) -> None:
    address = httpx.URL(url)
    for cut in (0, 10_000):  # before the body, and within it
        with socket.create_connection((address.host, address.port or 80)) as caller:
            head = f"PUT /collections/{collection}/points HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
            caller.sendall(head.encode() + b" " * cut)
    client.upsert(collection, [point("a")])
    assert set(stored(client, collection)) == {"a"}


@embedded_only
def test_a_taken_port_or_folder_is_one_line_and_exit_1(tmp_path: Path) -> None:
    with Process("--path", str(tmp_path)) as server:
        port = server.url.rsplit(":", 1)[1]
        for arguments in (["--port", port, "--memory"], ["--port", "0", "--path", str(tmp_path)]):
            command = [sys.executable, "-m", "reindexer.embedded.qdrant_server", *arguments]
            second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
            assert second.returncode == 1
            assert second.stdout == ""
            assert len(second.stderr.splitlines()) == 1, second.stderr
            assert ("cannot listen on" in second.stderr) or ("cannot open" in second.stderr)


@embedded_only
def test_the_official_client_finds_its_version_compatible(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    warned: list[str] = []
    monkeypatch.setattr("qdrant_client.qdrant_remote.show_warning", lambda message, **_: warned.append(message))
    before = set(threading.enumerate())
    client = QdrantClient(url=url)
    for thread in set(threading.enumerate()) - before:
        thread.join()
    client.close()
    assert warned == []
    assert httpx.get(url).json()["version"].startswith("1.19.")


@embedded_only
def test_an_unknown_route_has_the_shape_of_an_error(url: str) -> None:
    answer = httpx.get(f"{url}/nowhere")
    assert (answer.status_code, "error" in answer.json()["status"]) == (404, True)
