"""`python -m reindexer.embedded.qdrant_server`: Qdrant's REST API over qdrant-client's local mode, on loopback.

Local mode locks its folder to one process. Behind this server every process, and the user's own official client, shares
one index, in memory or in a folder. It speaks the routes that `QdrantClient(url=...)` uses for collections, aliases,
payload indexes, points and queries, with the status codes, error texts and size limit of Qdrant 1.19, so that a real
server can take its place.

Guarantees: requests run one at a time, in one thread, so each is atomic to the others (`turns` says which is next); a
write that was answered survives a SIGKILL of this process. Not for production: see the limits in `qdrant_local`; no
authentication, snapshots, shards or inference; payload indexes are reported but change nothing; `wait=false` waits all
the same.
"""

import argparse
import logging
import re
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_json
from qdrant_client import models as m
from qdrant_client.local.local_collection import LocalCollection
from qdrant_client.local.qdrant_local import QdrantLocal
from qdrant_client.local.utils import normalize_point_id
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from reindexer.embedded.qdrant_local import (
    PayloadSchemas,
    apply_operations,
    array_query,
    open_index,
    top_groups_filter,
    tune,
)
from reindexer.embedded.turns import Turns

VERSION = {"title": "qdrant - vector search engine", "version": "1.19.0"}
MAX_BODY_BYTES = 32 * 1024 * 1024
"""Qdrant's default `max_request_size_mb`: what a real server would refuse must fail here too."""

log = logging.getLogger("uvicorn.error")


@dataclass
class Call:
    """One request. `asked` is the name in its path, a collection's or an alias; `item` the rest: a field or a point."""

    local: QdrantLocal
    schemas: PayloadSchemas
    asked: str
    item: str
    wait: bool
    body: Any = None

    @property
    def name(self) -> str:
        return self.local.aliases.get(self.asked, self.asked)

    @property
    def collection(self) -> LocalCollection:
        if self.name not in self.local.collections:
            raise ValueError(f"Collection {self.asked} not found")
        return self.local.collections[self.name]

    def option(self, field: str, default: Any) -> Any:
        value = getattr(self.body, field)
        return default if value is None else value

    def selection(self, payload: bool) -> dict[str, Any]:
        return {"with_payload": self.option("with_payload", payload), "with_vectors": self.option("with_vector", False)}

    def done(self) -> dict[str, Any]:
        return {"operation_id": 0, "status": "completed" if self.wait else "acknowledged"}


Handler = Callable[[Call], Any]
Model = type[BaseModel] | None
"""What a body is parsed to; None where it has none, or the handler does it."""


# Collections


def describe(call: Call) -> m.CollectionInfo:
    info = call.collection.info()
    points = info.points_count or 0  # a real server counts those that have the field
    for field, index in call.schemas.fields.get(call.name, {}).items():
        info.payload_schema[field] = m.PayloadIndexInfo(**index, points=points)
    return info


def create(call: Call) -> bool:
    config: m.CreateCollection = call.body
    call.local.create_collection(call.asked, config.vectors, config.sparse_vectors, metadata=config.metadata)
    tune(call.collection)
    return True


def update(call: Call) -> bool:
    """Names are checked and metadata is kept; parameters of storage and search mean nothing here."""
    call.local.update_collection(call.name, call.body.sparse_vectors, call.body.metadata, call.body.vectors)
    return True


def drop(call: Call) -> bool:
    if call.asked in call.local.collections:
        call.collection.close()
        call.schemas.put(call.asked, {})
    return call.local.delete_collection(call.asked)


def index_field(call: Call) -> dict[str, Any]:
    field, schema = call.body.field_name, call.body.field_schema
    if schema is None:
        raise ValueError(f"field_schema of {field} is missing")
    call.local.create_payload_index(call.name, field, schema)
    params = schema.model_dump(mode="json", exclude_none=True) if isinstance(schema, BaseModel) else None
    described = {"data_type": params["type"] if params else str(schema), "params": params}
    call.schemas.put(call.name, {**call.schemas.fields.get(call.name, {}), field: described})
    return call.done()


def unindex_field(call: Call) -> dict[str, Any]:
    call.local.delete_payload_index(call.name, call.item)
    fields = call.schemas.fields.get(call.name, {})
    call.schemas.put(call.name, {field: index for field, index in fields.items() if field != call.item})
    return call.done()


# Writes: each route is one kind of the operations that /points/batch takes


def write(kind: str) -> Handler:
    return lambda call: apply(call, [{kind: call.body}])[0]


def write_batch(call: Call) -> list[dict[str, Any]]:
    return apply(call, call.body.get("operations") if isinstance(call.body, dict) else None)


def apply(call: Call, operations: Any) -> list[dict[str, Any]]:
    apply_operations(call.collection, operations)
    return [call.done() for _ in operations]


# Reads


def get_point(call: Call) -> m.Record:
    point_id = int(call.item) if call.item.isdecimal() else normalize_point_id(call.item, validate=True)
    for record in call.collection.retrieve([point_id], with_vectors=True):
        return record
    raise KeyError(call.item)


def get_points(call: Call) -> list[m.Record]:
    return call.collection.retrieve(call.body.ids, **call.selection(payload=True))


def scroll(call: Call) -> dict[str, Any]:
    paging = {"limit": call.option("limit", 10), "order_by": call.body.order_by, "offset": call.body.offset}
    points, following = call.local.scroll(call.name, call.body.filter, **paging, **call.selection(payload=True))
    return {"points": points, "next_page_offset": following}


def facet(call: Call) -> m.FacetResponse:
    return call.local.facet(call.name, call.body.key, call.body.filter, call.option("limit", 10))


def query(call: Call) -> m.QueryResponse:
    return call.local.query_points(**search(call), limit=call.option("limit", 10), offset=call.body.offset)


def query_batch(call: Call) -> list[m.QueryResponse]:
    return [query(replace(call, body=body)) for body in call.body.searches]


def query_groups(call: Call) -> m.GroupsResult:
    what = search(call)
    grouping = {"limit": call.option("limit", 10), "group_by": call.body.group_by}
    what["query_filter"] = top_groups_filter(call.local, what, **grouping)
    size = call.option("group_size", 3)
    return call.local.query_points_groups(**what, **grouping, group_size=size, with_lookup=call.body.with_lookup)


def search(call: Call) -> dict[str, Any]:
    return {
        "collection_name": call.name,
        "query": array_query(call.collection, call.body),
        "prefetch": call.body.prefetch,
        "using": call.body.using,
        "query_filter": call.body.filter,
        "search_params": call.body.params,
        "score_threshold": call.body.score_threshold,
        "lookup_from": call.body.lookup_from,
        **call.selection(payload=False),
    }


# HTTP

C = "/collections/{name}"
ROUTES: list[tuple[str, str, Model, Handler]] = [
    ("GET", "/collections", None, lambda call: call.local.get_collections()),
    ("GET", "/aliases", None, lambda call: call.local.get_aliases()),
    (
        "POST",
        "/collections/aliases",
        m.ChangeAliasesOperation,
        lambda c: c.local.update_collection_aliases(c.body.actions),
    ),
    ("GET", C, None, describe),
    ("PUT", C, m.CreateCollection, create),
    ("PATCH", C, m.UpdateCollection, update),
    ("DELETE", C, None, drop),
    ("GET", C + "/exists", None, lambda call: {"exists": call.name in call.local.collections}),
    ("GET", C + "/aliases", None, lambda call: call.local.get_collection_aliases(call.asked)),
    ("PUT", C + "/index", m.CreateFieldIndex, index_field),
    ("DELETE", C + "/index/{item:path}", None, unindex_field),
    ("PUT", C + "/points", None, write("upsert")),
    ("POST", C + "/points/delete", None, write("delete")),
    ("POST", C + "/points/payload", None, write("set_payload")),
    ("PUT", C + "/points/payload", None, write("overwrite_payload")),
    ("POST", C + "/points/payload/delete", None, write("delete_payload")),
    ("POST", C + "/points/payload/clear", None, write("clear_payload")),
    ("PUT", C + "/points/vectors", None, write("update_vectors")),
    ("POST", C + "/points/vectors/delete", None, write("delete_vectors")),
    ("POST", C + "/points/batch", None, write_batch),
    ("POST", C + "/points", m.PointRequest, get_points),
    ("GET", C + "/points/{item}", None, get_point),
    ("POST", C + "/points/scroll", m.ScrollRequest, scroll),
    ("POST", C + "/points/count", m.CountRequest, lambda call: call.collection.count(call.body.filter)),
    ("POST", C + "/points/query", m.QueryRequest, query),
    ("POST", C + "/points/query/batch", m.QueryRequestBatch, query_batch),
    ("POST", C + "/points/query/groups", m.QueryGroupsRequest, query_groups),
    ("POST", C + "/facet", m.FacetRequest, facet),
]

# Local mode raises ValueError for everything, in its own words. What is not listed here is 400 "Wrong input".
LOCAL_ERRORS = [
    (r"Collection (.+) not found", 404, "Not found: Collection `{}` doesn't exist!"),
    (r"Collection (.+) already exists", 409, "Wrong input: Collection `{}` already exists!"),
    (r"Alias (.+) already exists", 400, "Wrong input: Alias with the same name already exists: {}"),
    (r"Alias (.+) does not exist", 404, "Not found: Alias {} does not exists!"),
    (r"Point (\S+) is not found in the collection", 404, "Not found: No point with id {} found"),
    (r"(\w+) value (\S+) is invalid\. (.+)\.", 422, "Validation error in JSON body: [{}: value {} invalid, {}]"),
]


def refusal(exc: Exception) -> tuple[int, str]:
    """Qdrant's status code and text for what went wrong. What is not the caller's fault is logged with its trace."""
    match exc:
        case ValidationError():
            deepest = max(exc.errors(), key=lambda error: len(error["loc"]))
            return 400, f"Format error in JSON body: {'.'.join(map(str, deepest['loc']))}: {deepest['msg']}"
        case KeyError():
            return 404, f"Not found: No point with id {exc.args[0]} found"
        case ValueError() | NotImplementedError():
            for pattern, status, text in LOCAL_ERRORS:
                if found := re.fullmatch(pattern, str(exc)):
                    return status, text.format(*found.groups())
            return 400, f"Wrong input: {str(exc).removeprefix('Wrong input: ')}"
    log.error("request failed", exc_info=exc)
    return 500, f"Service internal error: {type(exc).__name__}: {exc}"


def refuse(status: int, text: str) -> Response:
    return Response(to_json({"status": {"error": text}, "time": 0.0}), status, media_type="application/json")


def answer(call: Call, body: bytes, model: Model, handler: Handler) -> Response:
    started = time.perf_counter()
    if len(body) > MAX_BODY_BYTES:
        return refuse(400, f"JSON payload ({len(body)} bytes) is larger than allowed (limit: {MAX_BODY_BYTES} bytes).")
    try:
        call.body = from_json(body) if body else None
    except ValueError as exc:
        return refuse(400, f"Format error in JSON body: {exc}")
    try:
        call.body = model.model_validate(call.body) if model else call.body
        result = to_json(handler(call))
    except Exception as exc:  # noqa: BLE001 - the edge: every failure becomes an answer
        return refuse(*refusal(exc))
    text = b'{"result":%b,"status":"ok","time":%.9f}' % (result, time.perf_counter() - started)
    return Response(text, media_type="application/json")


def build_app(local: QdrantLocal, schemas: PayloadSchemas, turns: Turns) -> Starlette:
    """One request at a time, for local mode is not thread-safe; the event loop stays free for probes and signals."""

    def endpoint(model: Model, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            path, wait = request.path_params, request.query_params.get("wait") == "true"
            call = Call(local, schemas, path.get("name", ""), path.get("item", ""), wait)
            body = await request.body()
            return await turns.take(len(body), partial(answer, call, body, model, handler))

        return respond

    async def version(_: Request) -> Response:
        return Response(to_json(VERSION), media_type="application/json")

    async def healthy(_: Request) -> Response:
        return PlainTextResponse("healthz check passed")

    async def unanswerable(request: Request, exc: Exception) -> Response:  # no such route, or the caller is gone
        return refuse(getattr(exc, "status_code", 400), f"Not found: {request.url.path}")

    routes = [Route("/", version), *(Route(path, healthy) for path in ("/healthz", "/readyz", "/livez"))]
    routes += [Route(path, endpoint(model, handler), methods=[verb]) for verb, path, model, handler in ROUTES]
    return Starlette(routes=routes, exception_handlers=dict.fromkeys((HTTPException, ClientDisconnect), unanswerable))


class Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = (sockets or [])[0].getsockname()[:2]
        sys.stdout.write(f"listening on http://{host}:{port}\n")
        sys.stdout.flush()


def main(argv: list[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT, then 0. 1 and a line on stderr if the port or the folder cannot be had."""
    parser = argparse.ArgumentParser(
        prog="qdrant_server", description="Qdrant's REST API over local mode, on loopback."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6333, help="0 picks a free one")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--path", type=Path, help="folder that keeps the index")
    where.add_argument("--memory", action="store_true", help="keep nothing (the default)")
    options = parser.parse_args(argv)
    try:
        listener = socket.create_server((options.host, options.port), backlog=1024)
        # Inherited by what it accepts. asyncio would do it for sockets of its own; without, each answer may wait 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as exc:
        sys.stderr.write(f"cannot listen on {options.host}:{options.port}: {exc.strerror}\n")
        return 1
    try:
        local, schemas = open_index(str(options.path or ":memory:")), PayloadSchemas(options.path)
    except (OSError, RuntimeError, ValueError, sqlite3.Error) as exc:
        sys.stderr.write(f"cannot open {options.path}: {' '.join(str(exc).split())}\n")
        return 1
    with Turns() as turns:
        app = build_app(local, schemas, turns)
        server = Server(
            uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=1)
        )
        for each in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises it once more when it has shut down
            signal.signal(each, server.handle_exit)
        server.run(sockets=[listener])
    local.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
