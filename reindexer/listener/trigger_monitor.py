"""The trigger monitor: periodically checks that every source's changes are recorded, and rescans what was missed.

It repairs triggers if it has the privileges. If not, `status` and /readyz report the problem; they check on their own.
If it finds anything changed, it starts a resync scan of the source. Where triggers would make writers fail, it removes
them. It uses its own thread and connection, so that the leader goes on draining while DDL waits for locks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

import psycopg
import structlog

from reindexer.core.errors import ReindexerError, SourceError
from reindexer.core.source import Source
from reindexer.core.timer import Timer
from reindexer.generations.lifecycle import drop_expired, start_fills
from reindexer.generations.upkeep import look_after_others
from reindexer.postgres.connect import Connection, one_line
from reindexer.postgres.queries import load
from reindexer.postgres.trigger_removal import remove, remove_former
from reindexer.sources.attach import follow_renames, mend
from reindexer.sources.store import all_sources, find_attached
from reindexer.sources.trigger_check import CheckResult, inspect

log = structlog.get_logger(__name__)

MAX_WAIT_S = 60.0
"""Maximum pause between attempts to repair triggers. Each attempt may delay writers while it waits for a lock."""


@dataclass(slots=True)
class Watch:
    """Checks all sources every `every_s` while its context is entered. Of several listeners only the leader runs
    one."""

    connect: Callable[[], Connection]
    every_s: float
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _told: dict[str, set[str]] = field(default_factory=dict)
    _tries: dict[str, Timer] = field(default_factory=dict)

    def __enter__(self) -> Watch:
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=1)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self.connect() as connection:
                    self.look(connection)  # guard watch-listener-trigger-repair
                    while not self._stop.wait(self.every_s):
                        self.look(connection)  # guard watch-listener-trigger-repair
            except (ReindexerError, psycopg.Error) as exc:
                log.warning("trigger_check_interrupted", error=one_line(exc))
                self._stop.wait(self.every_s)

    def look(self, connection: Connection) -> None:
        """Check every source, and repair what can be repaired."""
        for source in all_sources(connection):
            try:
                look_after_others(connection, source.name)
                # Anew: if a generation broke just now, its columns are compared no more.
                if now := find_attached(connection, source.name):
                    self._look_after(connection, now)  # guard watch-source-anew
            except SourceError as exc:
                self._tell(source, "unknown", str(exc))
            except psycopg.Error as exc:
                if connection.closed:
                    raise
                self._tell(source, "unknown", one_line(exc))  # the other sources are still checked
            connection.execute(load("sources.sql")["clear_idle_problem"], {"name": source.name})
        self._look_after_generations(connection)

    def _look_after_generations(self, connection: Connection) -> None:
        """Go on where whoever made a generation stopped, and drop standbys whose time is over."""
        for name, number in start_fills(connection):
            log.warning("fill_started", source=name, generation=number)
        for name, number in drop_expired(connection):
            log.info("standby_dropped", source=name, generation=number)

    def _look_after(self, connection: Connection, source: Source) -> None:
        finding = inspect(connection, source)
        if finding.problem and finding.problem not in self._told.get(source.name, ()):
            again = follow_renames(connection, source)
            if again is not source:
                log.warning("condition_names_followed", source=source.name, condition=again.resolved_condition)
                source, finding = again, inspect(connection, again)
        wrong = finding.problem or finding.wrong
        if wrong is None:
            self._told.pop(source.name, None)
            self._tries.pop(source.name, None)
            if remove_former(connection, source):
                log.info("former_triggers_removed", source=source.name)
            return
        if finding.problem or not finding.mendable:
            self._tell(source, finding.triggers, wrong)
        if not finding.unbearable and not (finding.mendable and finding.wrong):
            return
        now = time.monotonic()
        tries = self._tries.get(source.name, Timer(self.every_s))
        if not tries.due(now):
            return
        try:
            self._put_right(connection, source, finding)
        except SourceError as exc:
            wait_s = min(MAX_WAIT_S, 2 * tries.every_s)
            self._tries[source.name] = Timer(wait_s, now + wait_s)
            self._tell(source, finding.triggers, str(exc))

    def _put_right(self, connection: Connection, source: Source, finding: CheckResult) -> None:
        if finding.unbearable:
            remove(connection, source, give_up_after_s=0)  # guard watch-foreign-table-detachment
            log.warning("triggers_removed", source=source.name, reason=finding.problem)
            return
        look = mend(connection, source, finding, give_up_after_s=0)
        log.warning("triggers_repaired", source=source.name, was=finding.triggers, wrong=finding.wrong, look=look)

    def _tell(self, source: Source, state: str, wrong: str) -> None:
        """Log a problem once, until the source is in order again."""
        told = self._told.setdefault(source.name, set())
        if wrong not in told:
            log.error("triggers_invalid", source=source.name, triggers=state, error=wrong)
        told.add(wrong)
