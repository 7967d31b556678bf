"""The Celery app, for `celery -A reindexer.celery_app worker -Q reindexer.live,reindexer.bulk` and for senders."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from typing import Any

import psycopg
import structlog
from celery.signals import celeryd_init, setup_logging, worker_ready, worker_shutdown, worker_shutting_down
from celery.utils.text import str_to_list

from reindexer import logs
from reindexer.adapters.broker.celery_broker import REQUEST_TASK, CeleryBroker, make_celery
from reindexer.adapters.broker.errors import BROKER_ERRORS
from reindexer.adapters.broker.heartbeats import Heartbeats, heartbeat_queue
from reindexer.adapters.broker.old_queues import take_over, unattended
from reindexer.core.errors import DependencyUnavailable, ReindexerError, UsageError
from reindexer.core.lanes import LANES, REQUEST_LANE
from reindexer.core.queues import CELERY_QUEUE, DEFAULT_PREFIX
from reindexer.index.ownership import require_prefix
from reindexer.monitoring import heartbeat
from reindexer.postgres.connect import connect
from reindexer.postgres.schema import OtherRevision, require_revision, require_schema
from reindexer.settings import Settings
from reindexer.sources.store import all_sources

log = structlog.get_logger(__name__)


def _settings_or_defaults() -> Settings:
    """Reads the settings. A process reports a wrong one in one line at its start; an import raises no error."""
    try:
        return Settings.load()
    except UsageError:
        return Settings.model_construct()


_settings = _settings_or_defaults()

OLD_QUEUES_S = 5.0
"""The interval at which a worker looks for our messages in queues that are not ours."""

UNATTENDED_S = 15.0
"""The interval at which a worker counts, on RabbitMQ, the messages in Celery's default queue that nobody takes."""

REVISION_S = 5.0
"""The interval at which a worker checks that the schema is still its own version's."""

OUTDATED_S = 20.0
"""The time that an outdated worker gets to end in order."""

app = make_celery(
    _settings.broker, _settings.result_backend, result_expires_s=_settings.result_expires_s, names=_settings.names
)


def broker() -> CeleryBroker:
    """The queues and the result store, for workers."""
    return CeleryBroker(app, _settings.names)


def sending_broker(settings: Settings) -> CeleryBroker:
    """The queues without results, for processes that only send: the listener and the API."""
    settings.require_broker_url()
    sender = make_celery(settings.broker, None, result_expires_s=settings.result_expires_s, names=settings.names)
    return CeleryBroker(sender, settings.names)


@setup_logging.connect
def _logs(**_: Any) -> None:
    logs.configure(_settings.log_level, _settings.log_format)


@celeryd_init.connect
def _refuse_a_hopeless_start(options: Mapping[str, Any], **_: Any) -> None:
    """Exit with one clear line and code 2 before the pool starts, where the settings or the schema can't work."""
    from reindexer import wiring  # only a worker needs it

    try:
        settings = Settings.load()
        url = settings.require_database_url()
        settings.require_broker_url()
        _require_queues(options.get("queues"))
        wiring.require_plugins(settings)
        with connect(url, application_name="reindexer worker start") as connection:
            require_schema(connection)
            wiring.require_plugins(settings, all_sources(connection))  # before the pool forks: slow to import
            with closing(broker()) as ours, suppress(DependencyUnavailable):  # closed: the pool forks
                require_prefix(connection, ours, settings.instance)
    except ReindexerError as exc:
        sys.exit(_complain(exc))


def _require_queues(asked: str | Sequence[str] | None) -> None:
    names = _settings.names
    for each in str_to_list(asked) or ():
        if each not in (*LANES, *names.queues()):
            raise UsageError(f"-Q: there is no queue {each!r}; there are {', '.join(names.queues())}")


@worker_ready.connect
def _beat(sender: Any, **_: Any) -> None:
    """Let the worker send itself a heartbeat task at intervals. Its run proves that the worker takes messages."""
    logs.tell_unknown(_settings.unknown_variables())
    queue = heartbeat_queue(_settings.names, sender.hostname)
    sender.add_task_queue(queue)
    beats = Heartbeats(app, queue, heartbeat.BEAT_S)
    beats.start()
    ended = threading.Event()
    threading.Thread(target=_end_when_outdated, args=[sender.hostname, ended], name="revision", daemon=True).start()
    threading.Thread(target=_take_over, args=[ended], name="old queues", daemon=True).start()

    def stop(**_: Any) -> None:
        beats.stop()
        ended.set()

    worker_shutting_down.connect(stop, weak=False)


def _end_when_outdated(hostname: str, ended: threading.Event) -> None:
    """End the worker, as SIGTERM does but with exit code 2, after another version of the program migrated the schema.

    Until then the worker does no harm: Postgres accepts neither its claims nor its settles. So a worker that does not
    end in time may be killed at any line. No supervisor would do it, because none has told the worker to end.
    """
    from celery.worker import state  # slow to import, and only workers come here

    url = Settings.load().require_database_url()
    while not ended.wait(REVISION_S):
        try:
            with connect(url, application_name="reindexer worker revision") as connection:
                require_revision(connection)
        except OtherRevision as exc:
            code = _complain(exc)
            worker_shutting_down.send(sender=hostname, sig="outdated", how="Warm", exitcode=code)
            state.should_stop = code
            time.sleep(OUTDATED_S)
            sys.stderr.write(f"reindexer worker: it did not end within {OUTDATED_S:.0f} s, and is killed\n")
            os._exit(code)  # guard outdated-worker-killed
        except (ReindexerError, psycopg.Error):
            pass  # Postgres is away, or being set up anew


def _take_over(ended: threading.Event) -> None:
    """Take our messages out of queues that are not ours: an upgrade leaves some there, and applications send some.

    RabbitMQ is scanned only once, as a scan disturbs the other consumers' messages. Afterwards waiting messages are
    counted and logged.
    """
    if _settings.prefix != DEFAULT_PREFIX:
        return  # several databases share the broker: the one with the default prefix takes them
    advice, looks, told = f"send it with queue={_settings.names.queue(REQUEST_LANE)}", True, 0
    while True:
        with suppress(*BROKER_ERRORS), app.connection_for_write() as connection:
            for each in take_over(connection, _settings.names) if looks else ():
                if each.task == REQUEST_TASK:
                    log.warning("request_redirected", task_id=each.task_id, queue=each.queue, advice=advice)
            looks = connection.transport.driver_type == "redis"
            if not looks and (waiting := unattended(connection)) > told:
                log.warning("requests_unattended", queue=CELERY_QUEUE, messages=waiting, advice=f"if ours, {advice}")
                told = waiting
        if ended.wait(OLD_QUEUES_S if looks else UNATTENDED_S):
            return


@worker_shutdown.connect
def _rest(sender: Any, **_: Any) -> None:
    """A worker that ends in order deletes its heartbeat and its own queue."""
    with suppress(*BROKER_ERRORS), app.connection_for_write() as connection:
        queue = heartbeat_queue(_settings.names, sender.hostname)(connection.default_channel)
        queue.declare()  # else kombu does not know, on this connection, which Redis binding belongs to the queue
        queue.delete()
    with suppress(ReindexerError, psycopg.Error):
        url = Settings.load().require_database_url()
        with connect(url, application_name="reindexer worker end") as connection:
            heartbeat.rest(connection, sender.hostname)


def _complain(exc: ReindexerError) -> int:
    sys.stderr.write(f"reindexer worker: {exc}\n")
    return 2 if isinstance(exc, UsageError) else 1
