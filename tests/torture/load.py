"""The storm: a fault every second or so, then calm."""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable

from tests.torture.environment import Stage
from tests.torture.faults import FAULTS, Course, Fault, Scene
from tests.torture.processes import Cast

MEAN_PAUSE_S = 0.9
TICK_S = 0.05


class Storm:
    """Begins faults and ends them. One of a kind for each part at a time."""

    def __init__(self, stage: Stage, cast: Cast, seed: str, tell: Callable[[str], None]) -> None:
        self._stage = stage
        self._cast = cast
        self._rng = random.Random(f"{seed}/storm")
        self._tell = tell
        self._pending: list[tuple[float, int, str, Course]] = []
        self._owned = {"redis": stage.redis, "qdrant": stage.qdrant, "postgres": stage.postgres}
        self.faults = 0
        self.broken: list[tuple[str, float, float]] = []
        """What was broken, from when on, and for how long at least: by the clock that all processes have."""

    def rage(self, seconds: float) -> None:
        """Faults for so long; all have ended when it returns."""
        until = time.monotonic() + seconds
        next_at = time.monotonic() + 1.0
        while (now := time.monotonic()) < until:
            self._end(now)
            self._cast.supervise()
            if now >= next_at:
                self._begin(now)
                next_at = now + min(3.0, self._rng.expovariate(1 / MEAN_PAUSE_S))
            time.sleep(TICK_S)
        self._end(float("inf"))

    def _begin(self, now: float) -> None:
        chosen = self._choose()
        if chosen is None:
            return
        fault, target = chosen
        self.faults += 1
        course = fault.course(Scene(self._stage, self._cast, self._rng, target))
        lasts_s = next(course)
        self._tell(f"{target}: {fault.name} ({lasts_s:.1f} s)")
        self.broken.append((target, time.time(), lasts_s))
        heapq.heappush(self._pending, (now + lasts_s, self.faults, target, course))

    def _choose(self) -> tuple[Fault, str] | None:
        busy = {target for _, _, target, _ in self._pending}
        open_ = {
            i: [t for t in fault.targets if t not in busy and (not fault.kills_server or self._owned[t] is not None)]
            for i, fault in enumerate(FAULTS)
        }
        possible = [i for i, targets in open_.items() if targets]
        if not possible:
            return None
        chosen = self._rng.choices(possible, [FAULTS[i].weight for i in possible])[0]
        return FAULTS[chosen], self._rng.choice(open_[chosen])

    def _end(self, now: float) -> None:
        while self._pending and self._pending[0][0] <= now:
            at, number, target, course = heapq.heappop(self._pending)
            if (lasts_s := next(course, None)) is not None:
                heapq.heappush(self._pending, (at + lasts_s, number, target, course))
