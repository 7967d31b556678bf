"""Probes: check whether each dependency answers. A dead one neither delays nor hides the others.

A probe that hangs is not started again before it ends. So there is at most one thread per dependency, however often the
checks are requested.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import structlog

from reindexer.core.errors import ReindexerError, UsageError

log = structlog.get_logger(__name__)

LIMIT_S = 2.0
OK = "ok"

Probe = Callable[[], Mapping[str, str]]
"""Returns checks and their states, `ok` or what is wrong; raises ReindexerError if the dependency does not answer."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    checks: Mapping[str, str]
    reason: str | None = None
    """For the log only: /readyz is public, and an error's text may name hosts and users."""


class Probes:
    """Runs probes in its own threads."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(thread_name_prefix="probe")
        self._running: dict[str, Future[_Outcome]] = {}
        self._last: dict[str, str] = {}

    async def run(self, probes: Mapping[str, Probe]) -> Mapping[str, str]:
        """All checks, in the order of the probes, within `LIMIT_S`. Runs in the event loop, so it needs no lock."""
        running = {name: self._start(name, probe) for name, probe in probes.items()}
        await asyncio.wait([asyncio.wrap_future(future) for future in running.values()], timeout=LIMIT_S)
        late = f"does not answer within {LIMIT_S:.0f} s"
        checks: dict[str, str] = {}
        for name, future in running.items():
            outcome = future.result() if future.done() else _Outcome({name: late})
            self._tell_changes(outcome)
            checks |= outcome.checks
        return checks

    def close(self) -> None:
        """Start no more probes; running ones end by their own timeouts."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _start(self, name: str, probe: Probe) -> Future[_Outcome]:
        future = self._running.get(name)
        if future is None or future.done():
            future = self._running[name] = self._executor.submit(_outcome, name, probe)
        return future

    def _tell_changes(self, outcome: _Outcome) -> None:
        for name, state in outcome.checks.items():
            if self._last.get(name, OK) != state:
                (log.info if state == OK else log.warning)(
                    "check_changed", check=name, state=state, error=outcome.reason
                )
            self._last[name] = state


def _outcome(name: str, probe: Probe) -> _Outcome:
    try:
        return _Outcome(probe())
    except UsageError as exc:
        return _Outcome({name: str(exc)})
    except ReindexerError as exc:
        return _Outcome({name: "does not answer"}, str(exc))
    except Exception as exc:  # noqa: BLE001  a check that breaks is a check that fails
        return _Outcome({name: "can't be checked"}, type(exc).__name__)
