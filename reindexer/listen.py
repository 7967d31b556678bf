"""The listener daemon: `python -m reindexer.listen`.

One listener leads: it holds an advisory lock on its direct connection. Others stand by and take over. Only the leader
drains and holds the bell's lock (`reindexer.listener.leader`). A standby ends the session of a leader whose process
stands still or whose connection is dead. Behind a pooler no session lock holds: there every listener drains, which is
harmless.

The work runs in a thread, so that the main thread receives signals whatever the work blocks on.
"""

from __future__ import annotations

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until `main` handles it: no traceback from an import

import os
import random
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg
import structlog

from reindexer import logs
from reindexer.adapters.webhook import HttpWebhooks
from reindexer.celery_app import sending_broker
from reindexer.core.errors import DependencyUnavailable, ReindexerError, UsageError
from reindexer.core.posix import require_posix
from reindexer.core.timer import Timer
from reindexer.index.ownership import require_prefix
from reindexer.listener import election
from reindexer.listener.leader import Leader
from reindexer.listener.recorder import Recorder
from reindexer.listener.sender import Sender
from reindexer.listener.trigger_monitor import Watch
from reindexer.monitoring import heartbeat
from reindexer.monitoring.buffer import MetricsBuffer
from reindexer.monitoring.metrics import RECONNECTS
from reindexer.monitoring.metrics_store import write_metrics
from reindexer.postgres.connect import Connection, connect, one_line
from reindexer.postgres.locks import WAKE_CHANNEL
from reindexer.postgres.schema import OtherRevision, require_revision, require_schema
from reindexer.queue.dispatch import Dispatch
from reindexer.settings import Settings
from reindexer.tracing import process as tracing

log = structlog.get_logger("reindexer.listen")

STANDBY_S = 0.5
ECHO_S = 2.0
SILENT_FACTOR = 1.5
"""A standby ends the leader's session after this many times `postgres_timeout_s` without activity."""
MAX_BACKOFF_S = 5.0
SETTLED_S = 10.0
"""A connection that lasted this long was a good one: the next pause is a short one again."""
STOP_S = 3.0
"""How long a running statement, or a call to the broker, may still take after a signal to stop."""


@dataclass(slots=True)
class Listener:
    """Connects, stands by, leads, and starts over with growing pauses after its connection is lost."""

    settings: Settings
    dispatch: Dispatch
    stop: threading.Event
    name: str = field(default_factory=lambda: f"listener-{os.getpid()}@{socket.gethostname()}")
    _direct: bool = True
    """Whether session locks and notifications work. Behind a pooler they do not, and every listener drains."""
    _leader: Leader = field(init=False)
    _metrics: MetricsBuffer = field(default_factory=MetricsBuffer)
    _beat_timer: Timer = field(default_factory=lambda: Timer(heartbeat.BEAT_S))
    _revision_timer: Timer = field(default_factory=lambda: Timer(1.0))
    _silence_timer: Timer = field(default_factory=lambda: Timer(1.0))

    def __post_init__(self) -> None:
        self._leader = Leader(
            self.dispatch,
            self.stop,
            self.settings.poll_interval_s,
            self.settings.idle_after_s,
            self._beat,
            self._metrics,
        )

    def connect(self, application_name: str = "reindexer listener") -> Connection:
        """Open a connection. Raises DependencyUnavailable, or UsageError if this database can't be used."""
        url = self.settings.require_listen_database_url()
        answer_s = self.settings.postgres_timeout_s
        connection = connect(url, application_name=application_name, timeout_s=3, answer_s=answer_s)
        try:
            require_schema(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def run(self, connection: Connection) -> None:
        """Serve until `stop`. `connection` is the first one, so that a start that can't work fails at once.

        Raises UsageError when the schema is gone, or is another version's.
        """
        failures = 0
        while True:
            since = time.monotonic()
            try:
                with connection:
                    self._serve(connection)
                    heartbeat.rest(connection, self.name)
                    write_metrics(connection, self._metrics)
                return
            except (psycopg.Error, DependencyUnavailable) as exc:
                log.warning("connection_lost", error=one_line(exc))
            failures = 0 if time.monotonic() - since > SETTLED_S else failures + 1
            again = self._reconnect(failures)
            if again is None:
                return
            connection = again
            self._metrics.add(RECONNECTS)
            log.info("reconnected")

    def _reconnect(self, failures: int) -> Connection | None:
        """The new connection; None after a signal to stop."""
        told = False
        while not self.stop.wait(min(MAX_BACKOFF_S, 0.25 * 2 ** min(failures, 8)) * (0.5 + random.random() / 2)):  # noqa: S311
            try:
                return self.connect()
            except OtherRevision:
                raise
            except (DependencyUnavailable, UsageError, psycopg.Error) as exc:
                # UsageError: a standby that is about to be promoted, a schema that is being migrated.
                if not told:
                    log.warning("postgres_unavailable", error=one_line(exc))
                told, failures = True, failures + 1
        return None

    def _serve(self, connection: Connection) -> None:
        self._direct = election.hears_itself(connection, self.connect, ECHO_S)
        if not self._direct:
            self._beat_timer.next_s = 0.0
        elif not self._stand_by(connection):
            return
        notify = self._uses_notify(connection)
        log.info("leadership_acquired" if self._direct else "draining_started", notify=notify)
        with (
            Watch(lambda: self.connect("reindexer watch"), self.settings.trigger_check_s),
            Recorder(lambda: self.connect("reindexer history")),
            self._sender(),
        ):
            self._leader.lead(connection, notify=notify)

    def _sender(self) -> Sender:
        return Sender(
            lambda: self.connect("reindexer events"), HttpWebhooks(), self.settings.sending_rules, self._metrics,
            random.random, self.settings.instance,
        )  # fmt: skip

    def _uses_notify(self, connection: Connection) -> bool:
        """Whether to sleep until notified. Not with two-phase commits (NOTIFY makes PREPARE fail) nor with a pooler."""
        if self.settings.notify == "off":
            return False
        if not self._direct:
            log.warning(
                "notify_disabled",
                reason="a pooler is in between: set REINDEXER_LISTEN_DATABASE_URL to a direct connection",
            )
            return False
        prepared = connection.execute("SELECT current_setting('max_prepared_transactions')::int").fetchone()
        if self.settings.notify == "auto" and prepared and prepared[0] > 0:
            log.warning("notify_disabled", reason="max_prepared_transactions > 0; REINDEXER_NOTIFY=on overrides")
            return False
        connection.execute(f"LISTEN {WAKE_CHANNEL}")
        return True

    def _stand_by(self, connection: Connection) -> bool:
        """Wait for the leader's lock. Returns False after a signal to stop."""
        connection.execute(f"UNLISTEN {WAKE_CHANNEL}")  # notifications that nobody reads would pile up
        told = False
        while not self.stop.is_set():
            if election.try_lead(connection):
                return True
            if not told:
                log.info("leadership_awaited")
                told = True
            now = time.monotonic()
            self._beat(connection, now)
            silent_s = SILENT_FACTOR * self.settings.postgres_timeout_s
            if self._silence_timer.due(now) and election.terminate_stale_leader(connection, silent_s):
                log.warning("stale_leader_terminated", silent_s=silent_s)
            self.stop.wait(STANDBY_S)
        return False

    def _beat(self, connection: Connection, now: float) -> None:
        if self._revision_timer.due(now):
            require_revision(connection)
        if self._beat_timer.due(now):
            heartbeat.beat(connection, "listener", self.name, leads=not self._direct)
            write_metrics(connection, self._metrics)


def main() -> int:
    """Run until SIGTERM or SIGINT, which end it within 5 s whatever it does. Exit code 0; 2 with one clear line if the
    settings or the schema can't work; 1 if Postgres does not answer at the start."""
    stop = threading.Event()
    # A byte that a signal writes is never missed. A handler that sets the event could wait for a lock that this very
    # thread holds, and a signal just before a wait would not interrupt it.
    told, telling = socket.socketpair()
    telling.setblocking(False)
    signal.set_wakeup_fd(telling.fileno(), warn_on_full_buffer=False)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: None)
    codes: list[int] = []

    def run() -> None:
        try:
            codes.append(_run(stop))
        finally:
            telling.send(b"\0")

    thread = threading.Thread(target=run, name="listener", daemon=True)
    thread.start()
    told.recv(1)  # guard signal-hung-listener
    stop.set()
    thread.join(STOP_S)
    code = codes[0] if codes else 0 if thread.is_alive() else 1
    if code == 0:
        log.info("listener_stopped")
    return code


def _run(stop: threading.Event) -> int:
    try:
        require_posix()
        settings = Settings.load()
        logs.configure(settings.log_level, settings.log_format)
        logs.tell_unknown(settings.unknown_variables())
        broker = sending_broker(settings)
        tracing.traces()  # made now, and not beside the first edit
        listener = Listener(settings, Dispatch(broker, settings.batch_size, settings.max_messages), stop)
        connection = listener.connect()
        with suppress(DependencyUnavailable):  # of the broker: the check is repeated whenever something is sent
            require_prefix(connection, broker, settings.instance)
        listener.run(connection)
    except ReindexerError as exc:
        sys.stderr.write(f"reindexer listen: {exc}\n")
        return 2 if isinstance(exc, UsageError) else 1
    except Exception as exc:  # noqa: BLE001  the edge of the program
        log.error("unexpected_error", **logs.where(exc))
        return 1
    finally:
        tracing.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
