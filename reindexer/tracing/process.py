"""This process's traces, if it has some."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

import structlog

from reindexer.core.per_process import PerProcess
from reindexer.core.trace import Attribute, Place, Work

if TYPE_CHECKING:
    from reindexer.tracing.otlp import OwnTraces

log = structlog.get_logger(__name__)

INSTALL = "pip install 'reindexer[otel]'"


class Traces(Protocol):
    """Where spans go. Nothing here waits for a collector, or raises because of one."""

    def tell(self, parent: Place, work: Work, links: Sequence[Place] = ()) -> None:
        """Tell a piece of work that is over, with its parts, as spans under `parent`."""

    def span(self, name: str, attributes: Mapping[str, Attribute]) -> AbstractContextManager[None]:
        """A span around a block, under the one that is current; none where none is."""


def traces() -> Traces | None:
    """This process's traces. None: it has none.

    Those of the application whose process this is, as soon as it has set them up; else our own, where the environment
    asks for them.
    """
    return _of_application() or _own.get()  # guard trace-foreign-provider


def is_asked_for(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the standard variables ask for traces. Logs once why they can't be had, where they can't."""
    given = {name: value.strip() for name, value in environment.items() if name.startswith("OTEL_")}
    is_off = given.get("OTEL_SDK_DISABLED", "").lower() == "true"  # guard trace-switched-off
    exporter = given.get("OTEL_TRACES_EXPORTER") or "otlp"
    endpoint = given.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or given.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if is_off or exporter == "none" or not endpoint:
        return False
    named = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"
    protocol = next((given[each] for each in named if given.get(each)), "http/protobuf")
    if exporter != "otlp":
        return _can_not(f"OTEL_TRACES_EXPORTER is {exporter!r}; otlp and none are known")
    if protocol != "http/protobuf":
        return _can_not(f"the protocol is {protocol!r}; http/protobuf is known, which collectors take at port 4318")
    return True


def publish() -> None:
    """Let libraries of this process use its own traces, unless an application has set up others: FastAPI records its
    requests by them. For a process that is ours."""
    if (own := _own.get()) is not None and _of_application() is None:
        own.publish()


def prepare() -> None:
    """Import what traces need, where they are asked for. A process that forks calls this before: it takes 0.1 s."""
    if is_asked_for():
        _otlp()


def close() -> None:
    """Send what is recorded, for at most `otlp.CLOSE_S`. What an application set up, it ends itself."""
    if (own := _own.drop()) is not None:
        own.close()


@contextmanager
def spanned(name: str, **attributes: Attribute) -> Iterator[None]:
    """See `Traces.span`; nothing where there are no traces."""
    if (found := traces()) is None:
        yield
        return
    with found.span(name, attributes):
        yield


def _make() -> OwnTraces | None:
    if not is_asked_for() or not _otlp():
        return None
    from reindexer.tracing.otlp import OwnTraces

    return OwnTraces()


_own: PerProcess[OwnTraces | None] = PerProcess(_make)


def _otlp() -> bool:
    try:
        import reindexer.tracing.otlp  # noqa: F401
    except ImportError:
        return _can_not(f"the packages for it are not installed: {INSTALL}")
    return True


def _of_application() -> Traces | None:
    """Of a provider that was set up by somebody else in this process."""
    api = sys.modules.get("opentelemetry.trace")
    if api is None or "opentelemetry.sdk.trace" not in sys.modules:
        return None
    provider = api.get_tracer_provider()
    if isinstance(provider, api.ProxyTracerProvider | api.NoOpTracerProvider):
        return None
    from reindexer.tracing.otlp import traces_of

    return traces_of(provider)


_told: set[str] = set()


def _can_not(reason: str) -> bool:
    if reason not in _told:
        _told.add(reason)
        log.warning("traces_unexported", error=reason)
    return False
