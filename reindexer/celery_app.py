"""The Celery app, for `celery -A reindexer.celery_app worker -Q live,bulk` and for whoever sends tasks."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from typing import Any

import psycopg
from celery.signals import celeryd_init, setup_logging, worker_ready, worker_shutdown, worker_shutting_down
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from reindexer import logs
from reindexer.adapters.celery_beats import Beats, beat_queue
from reindexer.adapters.celery_broker import CeleryBroker, make_celery
from reindexer.core.errors import ReindexerError, UsageError
from reindexer.flow import heartbeat
from reindexer.postgres.connect import connect
from reindexer.postgres.schema import OtherRevision, require_revision, require_schema
from reindexer.settings import Settings


def _settings_or_defaults() -> Settings:
    """A wrong setting is told in one line at the start of each process, not as a traceback of whoever imports this."""
    try:
        return Settings.load()
    except UsageError:
        return Settings.model_construct()


_settings = _settings_or_defaults()

REVISION_S = 5.0
"""How often a worker looks whether the schema is still its own version's."""

app = make_celery(
    _settings.celery_broker_url.get_secret_value() if _settings.celery_broker_url else None,
    _settings.result_backend_url,
    result_expires_s=_settings.result_expires_s,
)


def broker() -> CeleryBroker:
    """The queues and the results, for workers."""
    return CeleryBroker(app)


def sending_broker(settings: Settings) -> CeleryBroker:
    """The queues alone, for whoever sends: the listener and the API."""
    return CeleryBroker(make_celery(settings.require_broker_url(), None, result_expires_s=settings.result_expires_s))


@setup_logging.connect
def _logs(**_: Any) -> None:
    logs.configure(_settings.log_level, _settings.log_format)


@celeryd_init.connect
def _refuse_a_hopeless_start(**_: Any) -> None:
    """One clear line and exit code 2, before the pool starts, where settings or schema can't work."""
    try:
        settings = Settings.load()
        url = settings.require_database_url()
        settings.require_broker_url()
        settings.require_qdrant_url()
        settings.require_embedder()
        with connect(url, application_name="reindexer worker start") as connection:
            require_schema(connection)
    except ReindexerError as exc:
        sys.exit(_complain(exc))


@worker_ready.connect
def _beat(sender: Any, **_: Any) -> None:
    """Let the worker send itself a beat now and then, which proves that it takes messages and runs them."""
    queue = beat_queue(sender.hostname)
    sender.add_task_queue(queue)
    beats = Beats(app, sender.hostname, heartbeat.BEAT_S)
    beats.start()
    ended = threading.Event()
    threading.Thread(target=_end_when_outdated, args=[ended], name="revision", daemon=True).start()

    def stop(**_: Any) -> None:
        beats.stop()
        ended.set()

    worker_shutting_down.connect(stop, weak=False)


def _end_when_outdated(ended: threading.Event) -> None:
    """End the worker, as SIGTERM does but with exit code 2, once another version of the program migrated the schema.

    It does no harm until then: no claim and no settle of it counts.
    """
    from celery.worker import state  # slow to import, and only workers come here

    url = Settings.load().require_database_url()
    while not ended.wait(REVISION_S):
        try:
            with connect(url, application_name="reindexer worker revision") as connection:
                require_revision(connection)
        except OtherRevision as exc:
            state.should_stop = _complain(exc)
            return
        except (ReindexerError, psycopg.Error):
            pass  # Postgres is away, or being set up anew


@worker_shutdown.connect
def _rest(sender: Any, **_: Any) -> None:
    """A worker that ended as it was told is not missed, and leaves no queue of its own behind."""
    with suppress(KombuError, RedisError, OSError), app.connection_for_write() as connection:
        queue = beat_queue(sender.hostname)(connection.default_channel)
        queue.declare()  # else kombu does not know, on this connection, which binding in Redis belongs to it
        queue.delete()
    with suppress(ReindexerError, psycopg.Error):
        url = Settings.load().require_database_url()
        with connect(url, application_name="reindexer worker end") as connection:
            heartbeat.rest(connection, sender.hostname)


def _complain(exc: ReindexerError) -> int:
    sys.stderr.write(f"reindexer worker: {exc}\n")
    return 2 if isinstance(exc, UsageError) else 1
