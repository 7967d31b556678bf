"""The embedded Qdrant's server: many callers at once, and how it starts and ends."""

import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from qdrant_client import QdrantClient
from qdrant_client import models as m

from tests.contract.embedded_qdrant.points import FAILURES, TOKEN, matches, point, stored, unless_newer
from tests.support.qdrant_process import Process, connect, embedded_only


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
@pytest.mark.parametrize(
    "how", [signal.SIGKILL, *(pytest.param(each, marks=pytest.mark.long) for each in (signal.SIGTERM, signal.SIGINT))]
)
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
@pytest.mark.long
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
