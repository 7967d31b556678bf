"""Spans by OpenTelemetry. Imported only in a process that has traces."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache

import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from reindexer import __version__
from reindexer.core.errors import ReindexerError
from reindexer.core.timer import Timer
from reindexer.core.trace import Attribute, Place, Work

log = structlog.get_logger("reindexer.tracing.process")

CLOSE_S = 1.0
"""How long a process that ends waits for its last spans to be sent."""
TELL_S = 60.0
"""The interval at which a process says that spans are lost."""


class OtelTraces:
    """See `reindexer.tracing.process.Traces`; by the provider of whoever set one up."""

    def __init__(self, provider: trace.TracerProvider) -> None:
        self._tracer = provider.get_tracer("reindexer", __version__)

    def tell(self, parent: Place, work: Work, links: Sequence[Place] = ()) -> None:
        """See `Traces.tell`."""
        self._tell(_context_of(parent), work, [Link(_context_of(each)) for each in links])

    def _tell(self, parent: SpanContext, work: Work, links: Sequence[Link] = ()) -> None:
        span = self._tracer.start_span(
            work.name, trace.set_span_in_context(NonRecordingSpan(parent)), SpanKind.INTERNAL, work.attributes, links,
            work.began_ns,
        )  # fmt: skip
        if span.is_recording():
            for part in work.parts:
                self._tell(span.get_span_context(), part)
        if work.error is not None:
            span.set_status(Status(StatusCode.ERROR, work.error))
        span.end(work.ended_ns)

    @contextmanager
    def span(self, name: str, attributes: Mapping[str, Attribute]) -> Iterator[None]:
        """See `Traces.span`."""
        if not trace.get_current_span().is_recording():
            yield
            return
        with self._tracer.start_as_current_span(
            name, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except ReindexerError as exc:
                span.set_status(Status(StatusCode.ERROR, str(exc)))
                raise
            except BaseException as exc:
                span.set_status(Status(StatusCode.ERROR, type(exc).__name__))  # its text may quote anything
                raise


class OwnTraces(OtelTraces):
    """The traces of a process of ours, sent to where the standard variables say, by a thread of their own."""

    def __init__(self) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # guard trace-quiet-collector
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(_Told(OTLPSpanExporter())))
        super().__init__(self._provider)
        atexit.register(
            self.close
        )  # a command, or an application with a `Client`: the other processes close it themselves

    def publish(self) -> None:
        """Make it the process's provider."""
        trace.set_tracer_provider(self._provider)

    def close(self) -> None:
        """Send what is recorded, for at most `CLOSE_S`."""
        atexit.unregister(self.close)
        ending = threading.Thread(target=self._provider.shutdown, name="last traces", daemon=True)
        ending.start()
        ending.join(CLOSE_S)  # guard trace-hanging-collector


@lru_cache(maxsize=1)
def traces_of(provider: trace.TracerProvider) -> OtelTraces:
    """The traces of an application's provider."""
    return OtelTraces(provider)


class _Told(SpanExporter):
    """Says now and then how many spans are lost. The library's own lines quote the address, with its password."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._timer = Timer(TELL_S)
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See OpenTelemetry's `SpanExporter`."""
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self._lost += len(spans)
            if self._timer.due(time.monotonic()):
                log.warning("traces_dropped", spans=self._lost, error="the collector does not take them")
                self._lost = 0
        return result

    def shutdown(self) -> None:
        """See OpenTelemetry's `SpanExporter`."""
        self._exporter.shutdown()


def _resource() -> Resource:
    ours: dict[str, Attribute] = {"service.version": __version__, "process.pid": os.getpid()}
    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Resource.create(ours if named else {**ours, "service.name": "reindexer"})


def _context_of(place: Place) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(int(place.trace_id, 16), int(place.span_id, 16), is_remote=True, trace_flags=flags)
