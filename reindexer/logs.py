"""Structured logs: one line per event, console or JSON. No text of the users' rows ever goes into a log.

The text of an unexpected error may quote anything. The log therefore holds only the error's type and stack frames.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

import structlog

TALK = frozenset({"reindexer", "api", "__main__", "celery", "uvicorn"})
"""Loggers whose events below WARNING are kept. Some other libraries log what they send and receive, keys included."""

MAX_FRAMES = 8

FORMER_EVENTS: Mapping[str, str] = {
    "batch_failed": "work_fails",
    "breaker_opened": "breaker_open",
    "broker_recovered": "broker_back",
    "broker_unavailable": "broker_away",
    "draining_started": "draining",
    "foreign_message_dropped": "foreign_message",
    "heartbeat_send_failed": "beat_not_sent",
    "leadership_acquired": "leading",
    "leadership_awaited": "standing_by",
    "lease_expired": "lease_over",
    "listener_stopped": "stopped",
    "metrics_flush_failed": "counters_wait",
    "metrics_query_failed": "no_answer",
    "notify_disabled": "bell_off",
    "postgres_failed": "postgres_fails",
    "postgres_unavailable": "postgres_away",
    "rate_limit_halved": "rate_halved",
    "rate_limiter_unavailable": "budget_away",
    "request_deferred": "wish_waits",
    "request_dispatch_delayed": "wishes_wait_to_be_sent",
    "request_dispatch_resumed": "wishes_sent_again",
    "request_redirected": "task_in_another_queue",
    "requests_unattended": "tasks_that_nobody_takes",
    "results_store_failed": "results_not_stored",
    "run_failed": "run_fails",
    "scan_failed": "walk_fails",
    "schema_mismatched": "schema_does_not_fit",
    "setting_ignored": "unknown_setting",
    "settle_retried": "settling_waits",
    "source_failed": "source_fails",
    "stale_leader_terminated": "silent_leader_ended",
    "statement_failed": "statement_fails",
    "text_split": "text_too_long",
    "trigger_check_interrupted": "watch_interrupted",
    "triggers_invalid": "triggers_wrong",
    "triggers_removed": "triggers_taken_off",
    "triggers_repaired": "triggers_mended",
}
"""The former name of an event that was renamed. Its lines carry it as `formerly` for one release, so that whoever
searches for the former name still finds them."""


def configure(level: str, log_format: str) -> None:
    """Route structlog and the standard library's loggers to standard error in one format."""
    shared: list[structlog.typing.Processor] = [
        _with_former_name,
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_may_talk)  # guard log-own-loggers-only
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _without_words,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # it warns, on several lines, at each try to reconnect


def tell_unknown(lines: Iterable[str]) -> None:
    """Warn, at the start of a process, of variables that look like settings and are none: once of each."""
    for line in lines:
        if line not in _told:
            _told.add(line)
            structlog.get_logger(__name__).warning("setting_ignored", error=line)


_told: set[str] = set()
"""What this process has told: `reindexer listen` and what it runs both begin by it."""


def where(exc: BaseException) -> dict[str, Any]:
    """An unexpected error in a form fit for a log: its type and its stack frames."""
    return {"error": type(exc).__name__, "frames": _frames(exc)}


def _frames(exc: BaseException) -> list[str]:
    return [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(exc.__traceback__)[-MAX_FRAMES:]]


def _with_former_name(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if former := FORMER_EVENTS.get(str(event.get("event"))):
        event["formerly"] = former
    return event


def _without_words(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replaces the tracebacks in other libraries' log calls by types and frames of the error and its causes."""
    given = event.pop("exc_info", None)
    exc = given[1] if isinstance(given, tuple) else sys.exc_info()[1] if given is True else given
    if isinstance(exc, BaseException):
        event["exception"] = "\n".join(f"{type(each).__name__}: {' > '.join(_frames(each))}" for each in _chain(exc))
    return event


def _chain(exc: BaseException) -> list[BaseException]:
    chain = [exc]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    return chain


def _may_talk(record: logging.LogRecord) -> bool:
    """A filter instead of levels, because those libraries set the levels themselves (OPENAI_LOG=debug)."""
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] in TALK
