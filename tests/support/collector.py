"""A collector of traces: a real HTTP server on loopback that takes OTLP, as any collector does, and can hang or refuse."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from reindexer.testing.waiting import eventually


@dataclass(frozen=True, slots=True)
class Span:
    """One span as it arrived."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    service: str
    began_ns: int
    ended_ns: int
    attributes: Mapping[str, Any]
    links: tuple[tuple[str, str], ...]
    """Traces and spans."""
    failed: bool
    message: str


class Collector:
    """Takes spans on one port until `close`."""

    def __init__(self) -> None:
        self.hangs_s = 0.0
        """How long each answer takes."""
        self.status = 200
        self.asked = 0
        self.bodies: list[bytes] = []
        """As they arrived, uncompressed."""
        self.headers: list[str] = []
        self._spans: list[Span] = []
        self._lock = threading.Lock()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.asked += 1
                time.sleep(collector.hangs_s)
                if collector.status == 200 and self.path == "/v1/traces":
                    collector._take(
                        gzip.decompress(body) if self.headers["content-encoding"] else body, str(self.headers)
                    )
                self.send_response(collector.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # the sender gave up

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        """What OTEL_EXPORTER_OTLP_ENDPOINT names."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def env(self) -> Mapping[str, str]:
        """The environment of a process that sends its traces here, soon."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}

    def spans(self, trace_id: str | None = None) -> list[Span]:
        """What has arrived, of one trace or of all, by the time it began."""
        with self._lock:
            found = [each for each in self._spans if trace_id in (None, each.trace_id)]
        return sorted(found, key=lambda each: each.began_ns)

    def awaited(self, trace_id: str, *names: str, within: float = 20.0) -> dict[str, Span]:
        """Spans of one trace by name, once there are some of all these names. Of several of one name, the first."""

        def arrived() -> dict[str, Span]:
            found: dict[str, Span] = {}
            for span in self.spans(trace_id):
                found.setdefault(span.name, span)
            return found if set(names) <= set(found) else {}

        return eventually(arrived, within=within, what=f"spans {names}")

    def close(self) -> None:
        """Nothing listens any more."""
        self._server.shutdown()
        self._server.server_close()

    def _take(self, body: bytes, headers: str) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self._lock:
            self.bodies.append(body)
            self.headers.append(headers)
            self._spans += [
                Span(
                    span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(),
                    next((a.value.string_value for a in of.resource.attributes if a.key == "service.name"), ""),
                    span.start_time_unix_nano, span.end_time_unix_nano,
                    {each.key: _value(each.value) for each in span.attributes},
                    tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
                    span.status.code == Status.STATUS_CODE_ERROR, span.status.message,
                )
                for of in request.resource_spans for scope in of.scope_spans for span in scope.spans
            ]  # fmt: skip


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind) if kind else None


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector, closed afterwards."""
    collector = Collector()
    yield collector
    collector.close()
